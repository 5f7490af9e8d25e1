/* The session under store.c: see store_session.c. Only the store's files include this. */
#ifndef TICKETD_STORE_SESSION_H
#define TICKETD_STORE_SESSION_H

#include "store/store_connection.h"

/* A statement that is sent for events: prepared once in a session, or, where a pooler changes the session, with its
 * text each time. */
struct statement {
    const char *name, *sql;
};
extern const struct statement statement_apply, statement_reject, statement_forget;

/* Parameters of sql_set_timeouts. */
struct timeouts {
    char statement[16], lock[16]; /* milliseconds */
    const char *values[3];        /* these, and whether they are for one transaction */
};

/* How long a pipeline may take, in milliseconds, until we give up: a quarter of TICKETD_DB_TIMEOUT_MS and some, so that
 * others get their turn; a long try all of it. */
int session_patience(const struct conf *conf, bool long_try);

/* The server gives up before we do, and says so; what waits for a lock does so earlier still: that tells the two apart.
 * `local`: for one transaction. Fills `timeouts`, whose values point into it. */
void session_timeouts(const struct conf *conf, bool long_try, bool local, struct timeouts *timeouts);

/* Whether the database takes an event of this project: a made-up one, which is undone. Else `state` is the SQLSTATE.
 * May lose the connection. */
bool session_probe(struct store *store, int64_t project, char state[6]) MUST_USE;

#define NOT_ON_A_WORKER "this is a worker of Citus: name the coordinator in TICKETD_DATABASE"

/* Whether a session lasts for one transaction only: TICKETD_POOLER. */
bool session_is_pooled(const struct conf *conf);

/* Connects, looks at the schema's version and whether it is distributed, sets the time-outs of the session, has the
 * journal's partitions made and prepares the statements. False: not before `deadline`, or refused. */
bool session_open(struct store *store, int64_t deadline) MUST_USE;

/* Has the journal's partitions made for the months ahead, compares the clocks, and notes when that is due again: a
 * connection may live for years. False: the connection broke, and is closed. */
bool session_prepare_journal(struct store *store, int64_t deadline) MUST_USE;

#endif
