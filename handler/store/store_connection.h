/* The connection under store.c: connecting, waiting with a deadline, migrating. Only the store's files include this. */
#ifndef TICKETD_STORE_CONNECTION_H
#define TICKETD_STORE_CONNECTION_H

#include "store/sqlstate.h"
#include "store/store.h"
#include "store/tries.h"

#include <libpq-fe.h>

#define POSTGRES_EPOCH_US INT64_C(946684800000000) /* 2000-01-01, where timestamptz counts from */

struct store {
    const struct conf *conf;
    const _Atomic int64_t *stop_at;
    PGconn *connection;  /* NULL: away */
    int counted;         /* 1: among the open ones in the metrics */
    int64_t next_try;    /* monotonic milliseconds: not to connect before this */
    int64_t journal_due; /* monotonic milliseconds: when the journal's partitions are looked at again */
    int backoff_ms;
    unsigned failures;     /* in a row */
    int64_t away_since;    /* monotonic milliseconds: the first of them */
    size_t batch;          /* what the database keeps up with: see store_batch */
    bool complained;       /* that it is away was logged already */
    char complaint[6];     /* with this SQLSTATE */
    int64_t next_long_try; /* monotonic milliseconds: when an event may have all the time again */
    int64_t stuck_since;   /* monotonic milliseconds: since when nothing is committed for locks; 0: it is */
    struct tries tries;    /* bodies that failed alone */
    size_t alone;          /* pipelines that have one event only: one of several had ended a server process */
    uint64_t commits;      /* that applied something */
    char identity[160];    /* of the database; see store_identity */
    bool distributed;      /* the database is spread over many nodes: a call is of one project */
    struct nodes *nodes;   /* those that are away */
    struct nodes own_nodes;
    unsigned nodes_back; /* see store_is_whole_again */
};

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
int connection_patience(const struct conf *conf, bool long_try);

/* The server gives up before we do, and says so; what waits for a lock does so earlier still: that tells the two apart.
 * `local`: for one transaction. Fills `timeouts`, whose values point into it. */
void connection_timeouts(const struct conf *conf, bool long_try, bool local, struct timeouts *timeouts);

/* Whether the database takes an event of this project: a made-up one, which is undone. Else `state` is the SQLSTATE.
 * May lose the connection. */
bool connection_probe(struct store *store, int64_t project, char state[6]) MUST_USE;

#define NOT_ON_A_WORKER "this is a worker of Citus: name the coordinator in TICKETD_DATABASE"

/* Whether a session lasts for one transaction only: TICKETD_POOLER. */
bool connection_is_pooled(const struct conf *conf);

/* Connects. False: not before `deadline`, or refused: connection_problem says why, in one line or several, valid until
 * connection_close. */
bool connection_begin(struct store *store, int64_t deadline) MUST_USE;
const char *connection_problem(const struct store *store);

/* libpq's message, but for one that quotes a value, which may be a part of a password. Of NULL: no memory. */
const char *connection_said(const PGconn *connection);

/* What the server said of a statement; where `error` is NULL, or says nothing, what is wrong with the connection. */
const char *connection_error(const struct store *store, const PGresult *error);

/* Connects, looks at the schema's version and whether it is distributed, sets the time-outs of the session, has the
 * journal's partitions made and prepares the statements. False: not before `deadline`, or refused. */
bool connection_open(struct store *store, int64_t deadline) MUST_USE;

/* Has the journal's partitions made for the months ahead, and notes when that is due again: a connection may live for
 * years. False: the connection broke, and is closed. */
bool connection_prepare_journal(struct store *store, int64_t deadline) MUST_USE;

/* Whether TICKETD_DATABASE names several hosts; after connection_failed the next try begins with another. */
bool connection_has_other_hosts(const struct store *store);

/* Drops the connection, whatever state it is in; the next may be tried at once. */
void connection_close(struct store *store);

/* Notes that the database is away and why, once for each SQLSTATE in a row, and puts the next try off, longer each
 * time. */
void connection_failed(struct store *store, const char *why, const char *sqlstate);

/* The same for a statement: `error` is what the server said, NULL where it said nothing. Its caller still clears it. */
void connection_failed_by(struct store *store, const PGresult *error);

/* Notes that the database does its work: connecting alone does not show that, the rights may be missing. */
void connection_healthy(struct store *store);

/* The result of one statement, of which `sent` says whether it was sent; the caller clears it. NULL: it did not end
 * before `deadline`, or the connection broke without an error. */
PGresult *connection_ask(struct store *store, int sent, int64_t deadline) MUST_USE;

/* The next result, sending what is still unsent; NULL: none is left for this statement.
 * When `deadline` passes or the connection breaks *broken is set. The caller clears the result. */
PGresult *connection_result(struct store *store, int64_t deadline, bool *broken) MUST_USE;

/* Sleeps until the next try or until `deadline`, whichever is first. */
void connection_back_off(struct store *store, int64_t deadline);

#endif
