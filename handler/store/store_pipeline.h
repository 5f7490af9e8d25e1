/* A batch of events as one pipeline: calls of SQL functions, one Sync, one commit. Only the store includes this.
 *
 * Where the database is distributed each call is committed on its node as soon as it is done. */
#ifndef TICKETD_STORE_PIPELINE_H
#define TICKETD_STORE_PIPELINE_H

#include "store/store_calls.h"

/* How one pipeline went: committed, where there is neither of the two. */
struct attempt {
    bool broken;     /* no answer in time, or the connection broke */
    bool crashed;    /* the connection was closed without a word */
    PGresult *error; /* the first error, to be cleared by the caller */
};

/* Makes jobs of events and sorts them so that few calls apply them: the first of each ticket, then the second of each,
 * and so on; last those that were held before. Each ticket's stay in the order given, and within a round they are
 * sorted by ticket. `jobs` and `sorted` have room for `count`. */
void pipeline_sort(struct event **events, size_t count, struct job *jobs, struct job **sorted);

bool pipeline_same_project(const struct job *a, const struct job *b);

/* Applies the jobs, sets the refused among them aside, and reads what became of each: a verdict, or it is held, or has
 * a detail. A long try may take all of TICKETD_DB_TIMEOUT_MS, others a quarter. */
struct attempt pipeline_run(struct store *store, struct job **jobs, size_t count, bool long_try) MUST_USE;

#endif
