/* What people are told of a replay: how far it is, what was refused, and in the end the numbers. */
#ifndef TICKETD_TALLY_H
#define TICKETD_TALLY_H

#include "commands/progress.h"
#include "event/event.h"

#include <stdint.h>

/* Belongs to one thread at a time. */
struct tally {
    struct progress progress;
    uint64_t most;                  /* complaints that are shown, the others are only counted */
    uint64_t complaints;            /* about events that were not applied, shown or not */
    uint64_t counts[OUTCOME_COUNT]; /* by what became of the event */
    uint64_t events;                /* that have their verdict */
    double seconds;                 /* after tally_end: what it took */
};

/* `total` and `label` are those of progress_start. */
void tally_start(struct tally *tally, uint64_t total, const char *label, uint64_t most);

/* Counts an event that has its verdict; where it was refused, says so in a line that begins with `where`. */
void tally_event(struct tally *tally, const struct event *event, const char *where);

/* "where: why", on standard error. Both may hold what anybody sent. */
void tally_complain(struct tally *tally, const char *where, const char *why);

/* The end of the progress and of the complaints. */
void tally_end(struct tally *tally);

/* A line of the numbers on standard output. */
void tally_number(const char *name, uint64_t number);

/* The numbers of each result, of what was refused, which is called `refused`, of seconds and of events a second. */
void tally_numbers(const struct tally *tally, const char *refused);

#endif
