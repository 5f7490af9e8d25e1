/* What waits in the spool, counted by the heads of its records. */
#ifndef TICKETD_SPOOL_SURVEY_H
#define TICKETD_SPOOL_SURVEY_H

#include "spool/spool_files.h"

/* Start with {0}. Used by one thread. */
struct spool_survey {
    uint64_t events;
    int64_t oldest; /* its received_at: microseconds since 1970-01-01T00:00:00Z; 0: there is none */
    int64_t bytes;  /* of the segments */

    struct surveyed *segments; /* what was counted already */
    size_t count;
};

/* Looks through the directory, at each record once however often it is called: a segment only grows until it goes. What
 * cannot be read is not counted. */
void spool_survey_look(struct spool_survey *survey, int directory, const struct spool_contents *contents);

/* The same for the directory at `path`, which need not be there, into the metrics. */
void spool_survey_measure(struct spool_survey *survey, const char *path);

void spool_survey_free(struct spool_survey *survey);

#endif
