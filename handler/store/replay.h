/* Events that come from somewhere else than a request (the spool, a file, vcc.rejected_events) → the same decoding and
 * the same store, in batches. While PostgreSQL works on one batch the next one is read and decoded. */
#ifndef TICKETD_REPLAY_H
#define TICKETD_REPLAY_H

#include "base/conf.h"
#include "event/event.h"
#include "store/store.h"

#include <stdbool.h>

/* Where replayed events come from. */
struct replay {
    const struct conf *conf;
    struct store *store;

    /* Sets the next event's body, id and received_at (event_init takes the body); may also set refusal and reason: then
     * it is not decoded; or was_rejected. False: there is none now. Called by one thread at a time, not always the same
     * one. */
    bool (*next)(void *source, struct event *event);

    /* May be NULL. Called before the events that next gave are applied: what they need can be made then. Never while
     * next is. */
    void (*before)(void *source);

    /* Told of every event in the order in which next gave it, once it has its verdict: the results 200, or
     * event->refusal once it is set aside. Never called while next is. */
    void (*settled)(void *source, const struct event *event);

    void *source;
};

/* Replays until next says that there is none. False: out of memory, or the database did not take a batch within
 * TICKETD_DB_TIMEOUT_MS; what settled was told of is committed, the rest is not or is in doubt. */
bool replay_run(const struct replay *replay) MUST_USE;

#endif
