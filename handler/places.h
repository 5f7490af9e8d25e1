/* What is served beside events: GET …/livez, …/readyz and …/metrics. */
#ifndef TICKETD_PLACES_H
#define TICKETD_PLACES_H

#include "serve.h"

/* Answers a request that is no event. OUTCOME_NONE: it is one, and `answer` is empty. OUTCOME_BAD_METHOD: answered so.
 * OUTCOME_PLACE: answered with 200 or 503, and not to be counted. */
enum outcome places_answer(struct server *server, const struct request *request, struct text *answer) MUST_USE;

#endif
