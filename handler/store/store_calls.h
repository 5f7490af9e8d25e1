/* The functions of schema vcc that the handler calls for events, each sent into a pipeline. Only the store includes
 * this.
 *
 * Each returns false where memory ran out or the connection is broken. */
#ifndef TICKETD_STORE_CALLS_H
#define TICKETD_STORE_CALLS_H

#include "store/store_connection.h"

#define DETAIL 96 /* bytes of why the rule refuses an event, with its NUL */

/* An event that the store has to give a verdict. */
struct job {
    struct event *event;
    struct job *before; /* the one before it in the batch that is of its ticket; NULL: it is the first */
    unsigned round;     /* how many of its ticket are before it */
    bool chosen;        /* it is in the pipeline that is tried now */
    bool held;          /* its ticket cannot be written now */

    /* What the pipeline says of it, which counts where that is committed. */
    enum outcome verdict; /* a result, or the refusal of what was set aside; OUTCOME_NONE: none of them */
    char detail[DETAIL];  /* why the rule refuses it; "": it does not */
};

/* vcc.apply_events, with jobs of different tickets; where the database is distributed, all of one project. */
bool calls_send_apply(const struct store *store, struct job **jobs, size_t count) MUST_USE;

/* vcc.reject_event: sets a refused body aside. */
bool calls_send_reject(const struct store *store, struct event *event) MUST_USE;

/* vcc.forget_rejected, behind the call that applies what was set aside. */
bool calls_send_forget(const struct store *store, const struct event *event) MUST_USE;

/* The time-outs, for this transaction. */
bool calls_send_timeouts(const struct store *store) MUST_USE;

#endif
