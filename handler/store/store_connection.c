/* libpq with a limit to every wait: non-blocking throughout, our own poll, our own deadlines. A server that is
 * frozen keeps its sockets open, so that keepalives alone would wait for it for ever. */
#include "store/store_connection.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/store_hosts.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 2000
#define SLICE_MS       100 /* how soon a wait notices that it must stop */

struct store *store_open(const struct conf *conf, const _Atomic int64_t *stop_at, struct nodes *nodes)
{
    struct store *store = calloc(1, sizeof(*store));
    if (store) {
        store->conf = conf;
        store->stop_at = stop_at;
        store->batch = store->part = (size_t)conf->batch;
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

const char *connection_first_line(char line[FIRST_LINE], const char *why)
{
    snprintf(line, FIRST_LINE, "%.*s", (int)strcspn(why, "\n"), why);
    return line;
}

void connection_failed(struct store *store, const char *why, const char *sqlstate)
{
    if (!store->complained || strcmp(store->complaint, sqlstate ? sqlstate : "") != 0) {
        bool fault = sqlstate_classify(sqlstate) == SQLSTATE_FAULT;
        char line[FIRST_LINE];
        log_line(LOG_ERROR, fault ? "the database takes no event: see ticketd check" : "the database is away",
                 LOG_TEXT("why", connection_first_line(line, why)), LOG_TEXT("sqlstate", sqlstate ? sqlstate : ""));
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

PGresult *connection_run(struct store *store, int sent, int64_t deadline, char *value, size_t size, bool *broken)
{
    PGresult *result = ask_for(store, sent, deadline, broken);

    if (PQresultStatus(result) == PGRES_FATAL_ERROR)
        return result;
    if (PQresultStatus(result) == PGRES_TUPLES_OK && value && PQntuples(result) == 1)
        snprintf(value, size, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return NULL;
}

bool connection_succeeds(struct store *store, int sent, int64_t deadline, char *value, size_t size)
{
    bool broken;
    PGresult *error = connection_run(store, sent, deadline, value, size, &broken);
    bool good = !broken && !error;

    if (!good)
        connection_failed_by(store, error);
    PQclear(error);
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
