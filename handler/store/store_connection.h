/* The connection under store.c: connecting, and waiting with a deadline. Only the store's files include this. */
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
    size_t part;           /* events of a pipeline: few since one of several was refused, which seldom come alone */
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

/* Connects. False: not before `deadline`, or refused: connection_problem says why, in one line or several, valid until
 * connection_close. */
bool connection_begin(struct store *store, int64_t deadline) MUST_USE;
const char *connection_problem(const struct store *store);

/* libpq's message, but for one that quotes a value, which may be a part of a password. Of NULL: no memory. */
const char *connection_said(const PGconn *connection);

/* What the server said of a statement; where `error` is NULL, or says nothing, what is wrong with the connection. */
const char *connection_error(const struct store *store, const PGresult *error);

#define FIRST_LINE 256 /* bytes, with its NUL */

/* Copies the first line of such a message, cut to what fits, and returns `line`: for the log. */
const char *connection_first_line(char line[FIRST_LINE], const char *why);

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

/* Runs one statement and drops its rows but for the first value, copied to `value` where that is not NULL.
 * NULL: it went well, unless *broken; else the error, to be cleared by the caller. */
PGresult *connection_run(struct store *store, int sent, int64_t deadline, char *value, size_t size,
                         bool *broken) MUST_USE;

/* The same where an error ends the connection. False: it is closed. */
bool connection_succeeds(struct store *store, int sent, int64_t deadline, char *value, size_t size) MUST_USE;

/* The next result, sending what is still unsent; NULL: none is left for this statement.
 * When `deadline` passes or the connection breaks *broken is set. The caller clears the result. */
PGresult *connection_result(struct store *store, int64_t deadline, bool *broken) MUST_USE;

/* Sleeps until the next try or until `deadline`, whichever is first. */
void connection_back_off(struct store *store, int64_t deadline);

#endif
