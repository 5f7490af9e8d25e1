/* The functions of schema vcc that the handler calls for events, each sent into a pipeline. Only the store includes
 * this.
 *
 * Each returns false where memory ran out or the connection is broken. */
#ifndef TICKETD_STORE_CALLS_H
#define TICKETD_STORE_CALLS_H

#include "store/store_session.h"

#define DETAIL 192 /* bytes of why an event is refused, with its NUL */

/* An event that the store has to give a verdict. */
struct job {
    struct event *event;
    struct job *before; /* the one before it in the batch that is of its ticket; NULL: it is the first */
    unsigned round;     /* how many of its ticket are before it */
    bool chosen;        /* it is in the pipeline that is tried now */
    bool held;          /* its ticket cannot be written now */
    bool away;          /* … for its node, or its project, is away */
    bool was_held;      /* … it, or one before it, could not be written when it was last tried */
    bool slow;          /* it did not end in the time that a batch has: it is tried last, with all the time there is */
    bool suspect;       /* it failed alone, for the reason in detail: others do not wait for the proof */
    bool confirmed;     /* that was proven once, and it is tried once more: see store_faults.c */
    enum field field;   /* that the error names; FIELD_COUNT: none */
    char state[6];      /* its SQLSTATE */

    /* What the pipeline says of it, which counts where that is committed. */
    enum outcome verdict; /* a result, or the refusal of what was set aside; OUTCOME_NONE: none of them */
    char detail[DETAIL];  /* why the rule, or PostgreSQL, refuses it; "": it does not */
};

/* vcc.apply_events, with jobs of different tickets; where the database is distributed, all of one project. */
bool calls_send_apply(const struct store *store, struct job **jobs, size_t count) MUST_USE;

/* vcc.reject_event: sets a refused body aside. */
bool calls_send_reject(const struct store *store, struct event *event) MUST_USE;

/* vcc.forget_rejected, behind the call that applies what was set aside. */
bool calls_send_forget(const struct store *store, const struct event *event) MUST_USE;

/* The time-outs of a pipeline, or of a long try, for this transaction. */
bool calls_send_timeouts(const struct store *store, bool long_try) MUST_USE;

#endif
