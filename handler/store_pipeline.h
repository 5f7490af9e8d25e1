/* A batch of events as one pipeline: calls of SQL functions, one Sync, one commit. Only the store includes this. */
#ifndef TICKETD_STORE_PIPELINE_H
#define TICKETD_STORE_PIPELINE_H

#include "store_connection.h"

/* How one pipeline went: committed, where there is neither of the two. */
struct run {
    bool broken;     /* no answer in time, or the connection broke */
    PGresult *error; /* the first error, to be cleared by the caller */
    size_t from, to; /* the indexes between which is the event that it is about: all, where it came at the commit */
};

/* Sorts the events so that few calls apply them: the first of each ticket, then the second of each, and so on. Each
 * ticket's stay in the order given, and within a round they are sorted by ticket: hosts that take locks in the same
 * order do not deadlock. */
void pipeline_sort(struct event **events, size_t count);

/* Applies sorted events, sets the refused among them aside, and reads the answers. `results` gets an outcome for each.
 * They count only where the run was committed. */
struct run pipeline_run(struct store *store, struct event **events, size_t count, enum outcome *results) MUST_USE;

#endif
