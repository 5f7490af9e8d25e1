/* Bodies that failed when they were tried alone, recognised by their digests: they may come again as other events.
 * Belongs to one store. */
#ifndef TICKETD_TRIES_H
#define TICKETD_TRIES_H

#include "event/event.h"

#define TRIES_KEPT 64 /* the oldest gives way */

struct tried {
    uint64_t key;  /* of the body's digest */
    size_t length; /* of the body; 0: nothing is known */
    unsigned tries;
    bool slow;        /* it did not end in the time that a batch has */
    bool crashed;     /* the last try ended the server process */
    uint64_t refused; /* commits at its last refusal alone, and one; 0: it was not */
};

/* Start with {0}. */
struct tries {
    struct tried all[TRIES_KEPT];
    unsigned next;
};

/* What is known of the event's body, made where `make` says so. NULL: nothing is known, or OpenSSL failed. */
struct tried *tries_find(struct tries *tries, const struct event *event, bool make) MUST_USE;

/* The event was applied or set aside: when its body comes again it is tried as any other. */
void tries_forget(struct tries *tries, const struct event *event);

/* Counts a try of an event that was alone, `weight` times: in the event, which the spool remembers, and here. Returns
 * how many there were. */
unsigned tries_count(struct tries *tries, struct event *event, unsigned weight);

#endif
