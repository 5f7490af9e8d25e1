/* A batch of events as one pipeline: calls of SQL functions, one Sync, one commit. Only the store includes this. */
#ifndef TICKETD_STORE_PIPELINE_H
#define TICKETD_STORE_PIPELINE_H

#include "store/store_connection.h"

#define REFUSAL 144 /* SQLSTATE and two names of at most 63 bytes */

/* What became of an event in a pipeline that was committed. */
struct verdict {
    enum outcome outcome;  /* OUTCOME_NONE: a constraint refused it, and it is neither applied nor set aside as yet: */
    char refusal[REFUSAL]; /* "SQLSTATE|column|constraint"; "": it is of another outcome */
};

/* How one pipeline went: committed, where there is neither of the two. */
struct run {
    bool broken;     /* no answer in time, or the connection broke */
    bool tolerant;   /* its calls left out what a constraint refuses: see store->tolerant_until */
    PGresult *error; /* the first error, to be cleared by the caller */
    size_t from, to; /* the indexes between which is the event that it is about: all, where it came at the commit */
};

/* Sorts the events so that few calls apply them: the first of each ticket, then the second of each, and so on. Each
 * ticket's stay in the order given, and within a round they are sorted by ticket: hosts that take locks in the same
 * order do not deadlock. */
void pipeline_sort(struct event **events, size_t count);

bool pipeline_same_ticket(const struct event *a, const struct event *b);

/* The end of those among the sorted events from `from` to `to` that come before any second one of a ticket. A tolerant
 * run has no more: were its answer lost, and the second applied, the first that was left out could not be tried again.
 */
size_t pipeline_turn(struct event **events, size_t from, size_t to);

/* Applies sorted events, sets the refused among them aside, and reads the answers. `verdicts` gets one for each. They
 * count only where the run was committed. */
struct run pipeline_run(struct store *store, struct event **events, size_t count, struct verdict *verdicts) MUST_USE;

#endif
