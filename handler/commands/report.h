/* What people are told of a replay: how far it is, what was refused, and in the end the numbers. */
#ifndef TICKETD_REPORT_H
#define TICKETD_REPORT_H

#include "commands/progress.h"
#include "event/event.h"

#include <stdint.h>

/* Belongs to one thread at a time. */
struct report {
    struct progress progress;
    uint64_t most;                  /* complaints that are shown, the others are only counted */
    uint64_t complaints;            /* about events that were not applied, shown or not */
    uint64_t counts[OUTCOME_COUNT]; /* by what became of the event */
    uint64_t events;                /* that have their verdict */
    double seconds;                 /* after report_end: what it took */
};

/* `total` and `label` are those of progress_start. */
void report_start(struct report *report, uint64_t total, const char *label, uint64_t most);

/* Counts an event that has its verdict; where it was refused, says so in a line that begins with `where`. */
void report_event(struct report *report, const struct event *event, const char *where);

/* "where: why", on standard error. Both may hold what anybody sent. */
void report_complain(struct report *report, const char *where, const char *why);

/* The end of the progress and of the complaints. */
void report_end(struct report *report);

/* A line of the numbers on standard output. */
void report_number(const char *name, uint64_t number);

/* The numbers of each result, of what was refused, which is called `refused`, of seconds and of events a second. */
void report_numbers(const struct report *report, const char *refused);

#endif
