/* `ticketd migrate`: the numbered files of sql/, each once, all in one transaction. */
#include "base/log.h"
#include "store/sql.h"
#include "store/store.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Any number will do as long as it never changes: two migrates at once wait for each other on it. */
#define LOCK        "pg_catalog.pg_advisory_xact_lock(8243910057)"
#define FIRST       0
#define ALWAYS_LAST 999

static void show_notice(void *ignored, const PGresult *result)
{
    (void)ignored;
    log_line(LOG_WARNING, PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
}

static void complain(PGconn *connection, const PGresult *result, const char *what)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    log_line(LOG_ERROR, "migration failed, nothing was changed", LOG_TEXT("at", what),
             LOG_TEXT("why", message ? message : PQerrorMessage(connection)));
}

static bool execute(PGconn *connection, const char *sql, const char *what)
{
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;

    if (!good)
        complain(connection, result, what);
    PQclear(result);
    return good;
}

/* 1: applied before, 0: not yet, -1: failed (logged). */
static int is_applied(PGconn *connection, int version)
{
    char number[16];
    const char *const values[] = {number};
    snprintf(number, sizeof(number), "%d", version);
    PGresult *result = PQexecParams(connection, "SELECT FROM vcc.migrations WHERE version = $1::integer", 1, NULL,
                                    values, NULL, NULL, 0);
    int applied = PQresultStatus(result) == PGRES_TUPLES_OK ? PQntuples(result) : -1;
    PQclear(result);
    if (applied < 0)
        log_line(LOG_ERROR, "migration failed, nothing was changed", LOG_TEXT("why", PQerrorMessage(connection)));
    return applied;
}

/* False: failed (logged). */
static bool record(PGconn *connection, const struct migration *migration)
{
    char number[16];
    const char *const values[] = {number, migration->name};
    snprintf(number, sizeof(number), "%d", migration->version);
    PGresult *result = PQexecParams(connection, "INSERT INTO vcc.migrations (version, name) VALUES ($1::integer, $2)",
                                    2, NULL, values, NULL, NULL, 0);
    bool good = PQresultStatus(result) == PGRES_COMMAND_OK;
    if (good)
        log_line(LOG_INFO, "migration applied", LOG_TEXT("name", migration->name));
    else
        complain(connection, result, migration->name);
    PQclear(result);
    return good;
}

static bool apply(PGconn *connection, const struct migration *migration)
{
    if (migration->version == FIRST || migration->version == ALWAYS_LAST)
        return execute(connection, migration->sql, migration->name);

    int applied = is_applied(connection, migration->version);
    if (applied != 0)
        return applied > 0;
    return execute(connection, migration->sql, migration->name) && record(connection, migration);
}

static bool is_utf8(PGconn *connection)
{
    const char *encoding = PQparameterStatus(connection, "server_encoding");
    if (encoding && strcmp(encoding, "UTF8") == 0)
        return true;
    log_line(LOG_ERROR, "the database must be encoded in UTF8: tickets hold any character",
             LOG_TEXT("encoding", encoding ? encoding : "unknown"),
             LOG_TEXT("do", "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"));
    return false;
}

bool store_migrate(const struct conf *conf)
{
    const char *const keywords[] = {"fallback_application_name", "connect_timeout", "dbname", "client_encoding", NULL};
    const char *const values[] = {"ticketd migrate", "10", conf->database, "UTF8", NULL};
    PGconn *connection = PQconnectdbParams(keywords, values, 1);
    bool good = false;

    if (PQstatus(connection) != CONNECTION_OK) {
        log_line(LOG_ERROR, "cannot connect to the database", LOG_TEXT("why", PQerrorMessage(connection)));
        goto out;
    }
    PQsetNoticeReceiver(connection, show_notice, NULL);
    if (!is_utf8(connection) || !execute(connection, "SET client_min_messages = warning", "start") ||
        !execute(connection, "BEGIN", "start") || !execute(connection, "SELECT " LOCK, "lock") ||
        !execute(connection, "SET LOCAL search_path = pg_catalog", "start"))
        goto out;
    for (int i = 0; i < sql_migration_count; i++)
        if (!apply(connection, &sql_migrations[i]))
            goto out;
    good = execute(connection, "COMMIT", "commit");
    if (good)
        log_line(LOG_INFO, "schema vcc is up to date", LOG_NUMBER("version", sql_schema_version));
out:
    PQfinish(connection);
    return good;
}
