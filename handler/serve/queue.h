/* Events that wait for their commit, and verdicts that wait to be answered. Any thread may call.
 *
 * Bounded by the connections, each with one event at most, and by the bytes of their bodies. */
#ifndef TICKETD_QUEUE_H
#define TICKETD_QUEUE_H

#include "event/event.h"

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/* An event on its way through the queue. Owned by the connection; the queue and the batches borrow it. */
struct waiter {
    struct event event;
    int64_t turn;       /* its place among all that arrived */
    int64_t arrived;    /* monotonic microseconds; 0: not yet */
    int64_t deadline;   /* monotonic milliseconds; see clock.h */
    void *owner;        /* the submitter's own */
    struct text answer; /* of what is no event; empty for one */
    TAILQ_ENTRY(waiter) link;
};

struct queue;

/* `lanes`: one for each writer; a ticket always goes to the same one. `slots`: one for each thread that submits.
 * `timeout_ms`: how long an event waits for the database. `max_bytes`: of waiting bodies.
 * NULL: no memory, or no descriptor. */
struct queue *queue_new(int lanes, int slots, int timeout_ms, size_t max_bytes) MUST_USE;
void queue_free(struct queue *queue);

#define QUEUE_LARGE 262144 /* bytes of a body whose decoding may take longer than a commit */

/* The request has arrived: gives its event the time and the identifier, and holds back all that arrive later until this
 * one is submitted or withdrawn. So decoding, which can take longer for one event than for the next, never changes the
 * order of a ticket's events. A large body holds back nobody: what overtakes it is told from it by the identifier, as
 * with all events that waited.
 *
 * Identifiers grow, also while the clock is set back a little (RFC 9562 section 6.2): by up to a minute they may be
 * ahead of it. A larger jump of the clock is logged, and they follow it. */
void queue_arrive(struct queue *queue, int slot, struct waiter *waiter);

/* The body of an arrived event was unpacked: it may be a large one now. */
void queue_unpacked(struct queue *queue, int slot, struct waiter *waiter);

/* From now on all tickets of a project go to one lane. */
void queue_divide_by_project(struct queue *queue);

/* Passes an arrived event on to its lane. OUTCOME_UNAVAILABLE: there is no room; it is withdrawn. */
enum outcome queue_submit(struct queue *queue, int slot, struct waiter *waiter) MUST_USE;

/* An arrived event will not be submitted. */
void queue_withdraw(struct queue *queue, int slot);

/* Takes what waits in a lane, at most `most` events, waiting up to `wait_ms` for the first. Returns how many. */
size_t queue_take(struct queue *queue, int lane, struct waiter **batch, size_t most, int wait_ms) MUST_USE;

/* Ends the wait of every queue_take, now and from now on. */
void queue_wake(struct queue *queue);

/* The events have their verdicts: hands them back to whoever answers. */
void queue_finish(struct queue *queue, struct waiter **batch, size_t count);

/* The same for a waiter that holds no event but an answer. */
void queue_answer(struct queue *queue, struct waiter *waiter);

/* A descriptor (eventfd(2)) that becomes readable when verdicts wait. */
int queue_verdicts_fd(const struct queue *queue);

/* Clears the descriptor, to be followed by queue_next_verdict until that is NULL. */
void queue_clear_verdicts_fd(struct queue *queue);

/* The next event with a verdict; NULL: none for now. */
struct waiter *queue_next_verdict(struct queue *queue) MUST_USE;

#endif
