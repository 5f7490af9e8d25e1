/* Between connecting and the first event: what a session is asked, told and prepared for. */
#include "store/store_session.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/sql.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BATCH 16      /* events: plans are made and pages read first, which may take long */
#define CLOCK_US    1000000 /* by which two clocks may differ */
#ifndef JOURNAL_MS          /* a test does not wait for a day */
#define JOURNAL_MS 86400000 /* how often the journal's partitions are looked at */
#endif

const struct statement statement_apply = {"apply", sql_apply_events};
const struct statement statement_reject = {"reject", sql_reject_event};
const struct statement statement_forget = {"forget", sql_forget_rejected};

static bool prepare(struct store *store, const struct statement *statement, int64_t deadline)
{
    return connection_succeeds(store, PQsendPrepare(store->connection, statement->name, statement->sql, 0, NULL),
                               deadline, NULL, 0);
}

static bool schema_fits(struct store *store, int64_t deadline)
{
    char version[16] = "0";
    int sent = PQsendQuery(store->connection, sql_schema_version_query);

    if (!connection_succeeds(store, sent, deadline, version, sizeof(version)))
        return false;
    bool good = atoi(version) >= sql_schema_version;
    if (!good)
        connection_failed(store, "the schema is too old: run ticketd migrate", "3F000");
    return good;
}

static bool find_part_in_cluster(struct store *store, int64_t deadline)
{
    char part[16] = "";

    if (!connection_succeeds(store, PQsendQuery(store->connection, sql_part_in_cluster), deadline, part, sizeof(part)))
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
    return connection_succeeds(store, sent, deadline, store->identity, sizeof(store->identity));
}

/* synchronous_commit is set on by our functions; this nobody can set in a session. */
static bool warn_without_fsync(struct store *store, int64_t deadline)
{
    char fsync[4] = "on";

    if (!connection_succeeds(store, PQsendQuery(store->connection, "SHOW fsync"), deadline, fsync, sizeof(fsync)))
        return false;
    if (strcmp(fsync, "off") == 0 && !store->complained)
        log_line(LOG_WARNING, "fsync is off in PostgreSQL: events that are stored are lost if its machine fails");
    return true;
}

/* An event that waited is put in its place by the time when it was received: by the clock of its host. */
static bool look_at_clock(struct store *store, int64_t deadline)
{
    char text[24] = "";
    int64_t before = clock_realtime_us();

    if (!connection_succeeds(store, PQsendQuery(store->connection, sql_database_time), deadline, text, sizeof(text)))
        return false;
    int64_t after = clock_realtime_us(), database = atoll(text);
    int64_t ahead = database > after ? database - after : database < before ? database - before : 0;
    if ((ahead > CLOCK_US || ahead < -CLOCK_US) && !store->complained)
        log_line(LOG_WARNING, "the clock of the database differs from this host's: let NTP set both",
                 LOG_NUMBER("milliseconds_ahead", ahead / 1000));
    return true;
}

bool session_is_pooled(const struct conf *conf)
{
    return conf->pooler != 0;
}

int session_patience(const struct conf *conf, bool long_try)
{
    return long_try ? conf->db_timeout_ms : conf->db_timeout_ms / 4 + conf->db_timeout_ms / 8;
}

void session_timeouts(const struct conf *conf, bool long_try, bool local, struct timeouts *timeouts)
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

    if (session_is_pooled(store->conf))
        return true;
    session_timeouts(store->conf, long_try, false, &timeouts);
    int sent = PQsendQueryParams(store->connection, sql_set_timeouts, 3, NULL, timeouts.values, NULL, NULL, 0);
    return connection_succeeds(store, sent, deadline, NULL, 0);
}

static bool prepare_session(struct store *store, int64_t deadline)
{
    if (session_is_pooled(store->conf))
        return true;
    return prepare(store, &statement_apply, deadline) && prepare(store, &statement_reject, deadline) &&
           prepare(store, &statement_forget, deadline);
}

bool session_prepare_journal(struct store *store, int64_t deadline)
{
    bool broken;

    if (!set_timeouts(store, true, deadline)) /* on many nodes a partition takes a second */
        return false;
    PGresult *error =
        connection_run(store, PQsendQuery(store->connection, sql_prepare_journal), deadline, NULL, 0, &broken);
    store->journal_due = clock_monotonic_ms() + JOURNAL_MS;
    if (error) /* not worth the connection: the default partition takes what comes */
        log_line(LOG_WARNING, "the journal gets no new partitions now",
                 LOG_TEXT("why", PQresultErrorField(error, PG_DIAG_MESSAGE_PRIMARY)));
    PQclear(error);
    if (broken)
        connection_failed_by(store, NULL);
    return !broken && set_timeouts(store, false, deadline) && look_at_clock(store, deadline);
}

bool session_open(struct store *store, int64_t deadline)
{
    if (!connection_begin(store, deadline)) {
        connection_failed(store, connection_problem(store), NULL);
        return false;
    }
    if (!find_part_in_cluster(store, deadline) || !schema_fits(store, deadline) || !read_identity(store, deadline) ||
        !warn_without_fsync(store, deadline) || !prepare_session(store, deadline) ||
        !session_prepare_journal(store, deadline))
        return false;

    store->batch = (size_t)(store->conf->batch < FIRST_BATCH ? store->conf->batch : FIRST_BATCH);
    store->counted = 1;
    metrics_add(METRIC_DATABASE_CONNECTIONS, 1);
    metrics_add(METRIC_DATABASE_CONNECTS, 1);
    log_line(store->complained ? LOG_DEBUG : LOG_INFO, "database connected",
             LOG_TEXT("host", PQhost(store->connection)), LOG_TEXT("database", PQdb(store->connection)),
             LOG_TEXT("user", PQuser(store->connection)));
    return true;
}

int64_t store_last_received(struct store *store)
{
    char received[24] = "";
    int64_t deadline = clock_monotonic_ms() + session_patience(store->conf, false);
    bool broken;
    PGresult *error = connection_run(store, PQsendQuery(store->connection, sql_last_received), deadline, received,
                                     sizeof(received), &broken);

    PQclear(error);
    if (broken)
        connection_failed_by(store, NULL);
    return atoll(received);
}

/* Runs one of the probe's statements. False: *state. */
static bool probe_step(struct store *store, int sent, char state[6])
{
    bool broken;
    int64_t deadline = clock_monotonic_ms() + session_patience(store->conf, false);
    PGresult *error = connection_run(store, sent, deadline, NULL, 0, &broken);
    const char *said = error ? PQresultErrorField(error, PG_DIAG_SQLSTATE) : NULL;
    bool good = !broken && !error;

    snprintf(state, 6, "%s", said ? said : "");
    PQclear(error);
    if (broken)
        connection_close(store);
    return good;
}

bool session_probe(struct store *store, int64_t project, char state[6])
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

/* Where events were refused for want of a right and the like, connecting alone shows nothing. */
static bool takes_events_again(struct store *store)
{
    char state[6];

    if (!store->complained || store->distributed || !sqlstate_may_heal(store->complaint) ||
        session_probe(store, 0, state))
        return true;
    connection_failed(store, "it takes no event at all", state);
    return false;
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
    bool away = !session_open(store, began + store->conf->db_timeout_ms) || !takes_events_again(store);
    int64_t end = clock_monotonic_ms();
    if (away && store->next_try < end + (end - began))
        store->next_try = end + (end - began);
    return away;
}

const char *store_identity(struct store *store, int64_t deadline)
{
    bool there = store->connection || (!store_is_away(store) && session_open(store, deadline));
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
        (void)!session_prepare_journal(store, now + store->conf->db_timeout_ms);
    else if (store->connection) /* an empty query: does it answer at all? */
        (void)!connection_succeeds(store, PQsendQuery(store->connection, ""), now + store->conf->db_timeout_ms, NULL,
                                   0);
    if (!store->connection && now >= store->next_try)
        (void)!session_open(store, now + store->conf->db_timeout_ms);
    if (store->connection && takes_events_again(store))
        connection_healthy(store);
    return store->connection != NULL;
}
