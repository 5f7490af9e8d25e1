/* libpq with a limit to every wait: non-blocking throughout, our own poll, our own deadlines. A server that is
 * frozen keeps its sockets open, so that keepalives alone would wait for it for ever. */
#include "store/store_connection.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/sql.h"
#include "store/store_hosts.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 2000
#define SLICE_MS       100  /* how soon a wait notices that it must stop */
#define FIRST_BATCH    16   /* events: plans are made and pages read first, which may take long */
#ifndef JOURNAL_MS          /* a test does not wait for a day */
#define JOURNAL_MS 86400000 /* how often the journal's partitions are looked at */
#endif

struct store *store_open(const struct conf *conf, const _Atomic int64_t *stop_at, struct nodes *nodes)
{
    struct store *store = calloc(1, sizeof(*store));
    if (store) {
        store->conf = conf;
        store->stop_at = stop_at;
        store->batch = (size_t)conf->batch;
        store->nodes = nodes ? nodes : &store->own_nodes;
    }
    return store;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    connection_close(store);
    free(store);
}

bool store_must_stop(const struct store *store)
{
    return clock_monotonic_ms() >= atomic_load(store->stop_at);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Waits for the socket. False: the deadline has passed. */
static bool wait_for(struct store *store, short events, int64_t deadline)
{
    for (;;) {
        int64_t left = earlier(deadline, atomic_load(store->stop_at)) - clock_monotonic_ms();
        if (left <= 0)
            return false;
        struct pollfd socket = {.fd = PQsocket(store->connection), .events = events};
        if (poll(&socket, 1, (int)earlier(left, SLICE_MS)) > 0)
            return true;
    }
}

PGresult *connection_result(struct store *store, int64_t deadline, bool *broken)
{
    PGconn *connection = store->connection;
    int unsent = PQflush(connection);

    while (!*broken && PQisBusy(connection)) {
        short events = unsent > 0 ? POLLIN | POLLOUT : POLLIN;
        if (unsent < 0 || !wait_for(store, events, deadline) || !PQconsumeInput(connection))
            *broken = true;
        else if (unsent > 0)
            unsent = PQflush(connection);
    }
    /* PQflush may have found it lost. There are results for ever then, or NULLs, but never what was waited for. */
    if (PQstatus(connection) == CONNECTION_BAD)
        *broken = true;
    return *broken ? NULL : PQgetResult(connection);
}

void connection_close(struct store *store)
{
    PQfinish(store->connection);
    store->connection = NULL;
    metrics_add(METRIC_DATABASE_CONNECTIONS, -store->counted);
    store->counted = 0;
}

void connection_failed(struct store *store, const char *why, const char *sqlstate)
{
    if (!store->complained || strcmp(store->complaint, sqlstate ? sqlstate : "") != 0) {
        enum sqlstate_class class = sqlstate_classify(sqlstate);
        const char *message = class == SQLSTATE_FAULT
                                  ? "the database takes no event: they are held, nothing is stored; see ticketd check"
                                  : "the database is away: events are held";
        char line[256];
        snprintf(line, sizeof(line), "%.*s", (int)strcspn(why, "\n"), why);
        log_line(LOG_ERROR, message, LOG_TEXT("why", line), LOG_TEXT("sqlstate", sqlstate ? sqlstate : ""));
    }
    snprintf(store->complaint, sizeof(store->complaint), "%s", sqlstate ? sqlstate : "");
    connection_close(store); /* not before: why may be inside it */
    metrics_set(METRIC_DATABASE_UP, 0);
    metrics_add(METRIC_DATABASE_FAILURES, 1);
    store->complained = true;
    if (store->failures++ == 0)
        store->away_since = clock_monotonic_ms();
    store->backoff_ms = store->backoff_ms ? store->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (store->backoff_ms > BACKOFF_MAX_MS)
        store->backoff_ms = BACKOFF_MAX_MS;
    /* Half of it by chance, so that many hosts do not come back in step. */
    int half = store->backoff_ms / 2;
    store->next_try = clock_monotonic_ms() + half + clock_realtime_us() % (half + 1);
}

void connection_failed_by(struct store *store, const PGresult *error)
{
    connection_failed(store, connection_error(store, error),
                      error ? PQresultErrorField(error, PG_DIAG_SQLSTATE) : NULL);
}

void connection_healthy(struct store *store)
{
    if (store->complained)
        log_line(LOG_INFO, "the database is back");
    metrics_set(METRIC_DATABASE_UP, 1);
    store->complained = false;
    store->failures = 0;
    store->backoff_ms = 0;
    store->next_try = 0;
}

void connection_back_off(struct store *store, int64_t deadline)
{
    int64_t until = earlier(store->next_try, deadline);
    for (;;) {
        int64_t left = earlier(until, atomic_load(store->stop_at)) - clock_monotonic_ms();
        if (left <= 0)
            return;
        left = earlier(left, SLICE_MS);
        nanosleep(&(struct timespec){.tv_nsec = left * 1000000}, NULL);
    }
}

static bool finish_connecting(struct store *store, int64_t deadline)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED)
            return false;
        if (!wait_for(store, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
            return false;
        status = PQconnectPoll(store->connection);
    }
    return PQsetnonblocking(store->connection, 1) == 0;
}

/* The last result, which is the only one of one statement. */
static PGresult *ask_for(struct store *store, int sent, int64_t deadline, bool *broken)
{
    PGresult *kept = NULL, *result;

    *broken = !sent;
    while ((result = connection_result(store, deadline, broken))) {
        PQclear(kept);
        kept = result;
    }
    return kept;
}

PGresult *connection_ask(struct store *store, int sent, int64_t deadline)
{
    bool broken;
    PGresult *result = ask_for(store, sent, deadline, &broken);

    if (broken && PQresultStatus(result) != PGRES_FATAL_ERROR) { /* its commit is in doubt */
        PQclear(result);
        result = NULL;
    }
    return result;
}

/* Runs one statement and drops its rows but for the first value, copied to `value` where that is not NULL.
 * NULL: it went well; else the error, to be cleared by the caller. */
static PGresult *run(struct store *store, int sent, int64_t deadline, char *value, size_t size, bool *broken)
{
    PGresult *result = ask_for(store, sent, deadline, broken);

    if (PQresultStatus(result) == PGRES_FATAL_ERROR)
        return result;
    if (PQresultStatus(result) == PGRES_TUPLES_OK && value && PQntuples(result) == 1)
        snprintf(value, size, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return NULL;
}

/* The same where an error ends the connection. False: it is closed. */
static bool succeeds(struct store *store, int sent, int64_t deadline, char *value, size_t size)
{
    bool broken;
    PGresult *error = run(store, sent, deadline, value, size, &broken);
    bool good = !broken && !error;

    if (!good)
        connection_failed_by(store, error);
    PQclear(error);
    return good;
}

const struct statement statement_apply = {"apply", sql_apply_events};
const struct statement statement_reject = {"reject", sql_reject_event};
const struct statement statement_forget = {"forget", sql_forget_rejected};

static bool prepare(struct store *store, const struct statement *statement, int64_t deadline)
{
    return succeeds(store, PQsendPrepare(store->connection, statement->name, statement->sql, 0, NULL), deadline, NULL,
                    0);
}

static bool schema_fits(struct store *store, int64_t deadline)
{
    char version[16] = "0";
    int sent = PQsendQuery(store->connection, sql_schema_version_query);

    if (!succeeds(store, sent, deadline, version, sizeof(version)))
        return false;
    bool good = atoi(version) >= sql_schema_version;
    if (!good)
        connection_failed(store, "the schema is too old: run ticketd migrate", "3F000");
    return good;
}

static bool find_part_in_cluster(struct store *store, int64_t deadline)
{
    char part[16] = "";

    if (!succeeds(store, PQsendQuery(store->connection, sql_part_in_cluster), deadline, part, sizeof(part)))
        return false;
    store->distributed = strcmp(part, "coordinator") == 0;
    bool good = strcmp(part, "worker") != 0;
    if (!good)
        connection_failed(store, NOT_ON_A_WORKER, "3F000");
    return good;
}

static bool read_identity(struct store *store, int64_t deadline)
{
    int sent = PQsendQuery(store->connection, sql_database_identity_query);
    return succeeds(store, sent, deadline, store->identity, sizeof(store->identity));
}

/* synchronous_commit is set on by our functions; this nobody can set in a session. */
static bool warn_without_fsync(struct store *store, int64_t deadline)
{
    char fsync[4] = "on";

    if (!succeeds(store, PQsendQuery(store->connection, "SHOW fsync"), deadline, fsync, sizeof(fsync)))
        return false;
    if (strcmp(fsync, "off") == 0 && !store->complained)
        log_line(LOG_WARNING, "fsync is off in PostgreSQL: events that are stored are lost if its machine fails");
    return true;
}

bool connection_is_pooled(const struct conf *conf)
{
    return conf->pooler != 0;
}

int connection_patience(const struct conf *conf, bool long_try)
{
    return long_try ? conf->db_timeout_ms : conf->db_timeout_ms / 4 + conf->db_timeout_ms / 8;
}

void connection_timeouts(const struct conf *conf, bool long_try, bool local, struct timeouts *timeouts)
{
    int statement = long_try ? conf->db_timeout_ms / 10 * 9 : conf->db_timeout_ms / 4;

    snprintf(timeouts->statement, sizeof(timeouts->statement), "%d", statement);
    snprintf(timeouts->lock, sizeof(timeouts->lock), "%d", conf->db_timeout_ms / 25 + 1);
    timeouts->values[0] = timeouts->statement;
    timeouts->values[1] = timeouts->lock;
    timeouts->values[2] = local ? "true" : "false";
}

/* Of the session. One that lasts for a transaction keeps nothing: pipeline_run has it said in each. */
static bool set_timeouts(struct store *store, bool long_try, int64_t deadline)
{
    struct timeouts timeouts = {0};

    if (connection_is_pooled(store->conf))
        return true;
    connection_timeouts(store->conf, long_try, false, &timeouts);
    int sent = PQsendQueryParams(store->connection, sql_set_timeouts, 3, NULL, timeouts.values, NULL, NULL, 0);
    return succeeds(store, sent, deadline, NULL, 0);
}

static bool prepare_session(struct store *store, int64_t deadline)
{
    if (connection_is_pooled(store->conf))
        return true;
    return prepare(store, &statement_apply, deadline) && prepare(store, &statement_reject, deadline) &&
           prepare(store, &statement_forget, deadline);
}

bool connection_prepare_journal(struct store *store, int64_t deadline)
{
    bool broken;

    if (!set_timeouts(store, true, deadline)) /* on many nodes a partition takes a second */
        return false;
    PGresult *error = run(store, PQsendQuery(store->connection, sql_prepare_journal), deadline, NULL, 0, &broken);
    store->journal_due = clock_monotonic_ms() + JOURNAL_MS;
    if (error) /* not worth the connection: the default partition takes what comes */
        log_line(LOG_WARNING, "the journal gets no new partitions now",
                 LOG_TEXT("why", PQresultErrorField(error, PG_DIAG_MESSAGE_PRIMARY)));
    PQclear(error);
    if (broken)
        connection_failed_by(store, NULL);
    return !broken && set_timeouts(store, false, deadline);
}

int64_t store_last_received(struct store *store)
{
    char received[24] = "";
    int64_t deadline = clock_monotonic_ms() + connection_patience(store->conf, false);
    bool broken;
    PGresult *error =
        run(store, PQsendQuery(store->connection, sql_last_received), deadline, received, sizeof(received), &broken);

    PQclear(error);
    if (broken)
        connection_failed_by(store, NULL);
    return atoll(received);
}

/* Runs one of the probe's statements. False: *state. */
static bool probe_step(struct store *store, int sent, char state[6])
{
    bool broken;
    int64_t deadline = clock_monotonic_ms() + connection_patience(store->conf, false);
    PGresult *error = run(store, sent, deadline, NULL, 0, &broken);
    const char *said = error ? PQresultErrorField(error, PG_DIAG_SQLSTATE) : NULL;
    bool good = !broken && !error;

    snprintf(state, 6, "%s", said ? said : "");
    PQclear(error);
    if (broken)
        connection_close(store);
    return good;
}

bool connection_probe(struct store *store, int64_t project, char state[6])
{
    char number[24], ignored[6];
    const char *const values[] = {number};

    snprintf(number, sizeof(number), "%" PRId64, project);
    bool good =
        probe_step(store, PQsendQuery(store->connection, "BEGIN"), state) &&
        probe_step(store, PQsendQueryParams(store->connection, sql_probe, 1, NULL, values, NULL, NULL, 0), state) &&
        probe_step(store, PQsendQuery(store->connection, "SET CONSTRAINTS ALL IMMEDIATE"), state);
    if (store->connection && !probe_step(store, PQsendQuery(store->connection, "ROLLBACK"), ignored) &&
        store->connection)
        connection_close(store);
    return good;
}

bool connection_has_other_hosts(const struct store *store)
{
    struct hosts hosts = hosts_from(store->conf->database, 0);
    bool several = hosts.count > 0;

    hosts_free(&hosts);
    return several;
}

/* What libpq is told beside TICKETD_DATABASE; the user's own words win, for they come later, and are taken up again
 * only to begin with another host. */
static PGconn *start_connecting(const struct store *store)
{
    const char *keywords[16] = {"fallback_application_name", "keepalives_idle", "keepalives_interval",
                                "keepalives_count",          "dbname",          "client_encoding"};
    const char *values[16] = {"ticketd", "30", "10", "3", store->conf->database, "UTF8"};
    struct hosts hosts = hosts_from(store->conf->database, store->failures);
    int count = 6;

    for (int i = 0; i < hosts.count; i++, count++) {
        keywords[count] = hosts.keywords[i];
        values[count] = hosts.values[i];
    }
    PGconn *connection = PQconnectStartParams(keywords, values, 1);
    hosts_free(&hosts);
    return connection;
}

/* libpq would write a server's notices to standard error as they are. */
static void drop_notice(void *ignored, const PGresult *notice)
{
    (void)ignored;
    (void)notice;
}

bool connection_begin(struct store *store, int64_t deadline)
{
    store->connection = start_connecting(store);
    PQsetNoticeReceiver(store->connection, drop_notice, NULL);
    return store->connection && PQstatus(store->connection) != CONNECTION_BAD && finish_connecting(store, deadline);
}

const char *connection_said(const PGconn *connection)
{
    const char *said = PQerrorMessage(connection);
    bool quotes = strncmp(said, "invalid ", 8) == 0; /* invalid integer value "…", invalid sslmode value: "…" */
    return quotes ? "an option of the connection string, such as sslmode, or of libpq's environment is bad" : said;
}

const char *connection_problem(const struct store *store)
{
    ConnStatusType status = PQstatus(store->connection); /* of NULL: bad */
    const char *why = store->connection ? connection_said(store->connection) : "out of memory";
    bool connecting = status != CONNECTION_BAD && status != CONNECTION_OK; /* libpq has begun a message then */
    return *why && !connecting ? why : "no answer in time";
}

const char *connection_error(const struct store *store, const PGresult *error)
{
    const char *message = error ? PQresultErrorField(error, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    return message ? message : connection_problem(store);
}

bool connection_open(struct store *store, int64_t deadline)
{
    if (!connection_begin(store, deadline)) {
        connection_failed(store, connection_problem(store), NULL);
        return false;
    }
    if (!find_part_in_cluster(store, deadline) || !schema_fits(store, deadline) || !read_identity(store, deadline) ||
        !warn_without_fsync(store, deadline) || !prepare_session(store, deadline) ||
        !connection_prepare_journal(store, deadline))
        return false;

    store->batch = (size_t)earlier(FIRST_BATCH, store->conf->batch);
    store->counted = 1;
    metrics_add(METRIC_DATABASE_CONNECTIONS, 1);
    metrics_add(METRIC_DATABASE_CONNECTS, 1);
    log_line(store->complained ? LOG_DEBUG : LOG_INFO, "database connected",
             LOG_TEXT("host", PQhost(store->connection)), LOG_TEXT("database", PQdb(store->connection)),
             LOG_TEXT("user", PQuser(store->connection)));
    return true;
}

bool store_is_away(const struct store *store)
{
    return !store->connection && clock_monotonic_ms() < store->next_try;
}

bool store_was_away(const struct store *store)
{
    return store->failures > 0;
}

bool store_stays_away(struct store *store)
{
    int64_t began = clock_monotonic_ms();

    if (store->connection || !store_was_away(store) || began - store->away_since < store->conf->db_timeout_ms / 5)
        return false;
    if (store_is_away(store))
        return true;
    bool away = !connection_open(store, began + store->conf->db_timeout_ms);
    int64_t end = clock_monotonic_ms();
    if (away && store->next_try < end + (end - began))
        store->next_try = end + (end - began);
    return away;
}

const char *store_identity(struct store *store, int64_t deadline)
{
    bool there = store->connection || (!store_is_away(store) && connection_open(store, deadline));
    return there ? store->identity : NULL;
}

bool store_idle(struct store *store)
{
    int64_t now = clock_monotonic_ms();

    if (store_must_stop(store))
        return store->connection != NULL;
    if (store->connection) {
        struct pollfd socket = {.fd = PQsocket(store->connection), .events = POLLIN};
        if (poll(&socket, 1, 0) > 0 &&
            (!PQconsumeInput(store->connection) || PQstatus(store->connection) == CONNECTION_BAD))
            connection_close(store);
    }
    if (store->connection && now >= store->journal_due)
        (void)!connection_prepare_journal(store, now + store->conf->db_timeout_ms);
    else if (store->connection) /* an empty query: does it answer at all? */
        (void)!succeeds(store, PQsendQuery(store->connection, ""), now + store->conf->db_timeout_ms, NULL, 0);
    if (!store->connection && now >= store->next_try && connection_open(store, now + store->conf->db_timeout_ms))
        connection_healthy(store);
    return store->connection != NULL;
}
