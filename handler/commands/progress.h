/* How far a long command is: a bar on standard error where that is a terminal, else a log line every few seconds. */
#ifndef TICKETD_PROGRESS_H
#define TICKETD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Belongs to one thread at a time. */
struct progress {
    const char *label;
    uint64_t total, done, events;
    int64_t started;                   /* monotonic milliseconds */
    int64_t shown;                     /* when it was shown last, and how far it was then */
    uint64_t shown_done, shown_events; /* … */
    double done_rate, events_rate;     /* a second, of late */
    bool terminal;
    bool visible; /* a bar is on the screen */
};

/* `total`: how many units (mostly bytes) there are to be done, 0: that is not known. `label` is borrowed. */
void progress_start(struct progress *progress, uint64_t total, const char *label);

/* `done` units and `events` are done, since the start. May be called for every event. */
void progress_update(struct progress *progress, uint64_t done, uint64_t events);

/* Takes the bar off the screen, to be called before anything else is written there; the next update shows it again. */
void progress_clear(struct progress *progress);

/* Takes the bar away for good. Returns the seconds since the start. */
double progress_end(struct progress *progress);

#endif
