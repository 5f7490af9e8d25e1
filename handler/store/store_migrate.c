/* `ticketd migrate`: brings schema vcc to what this program works with, in one transaction.
 *
 * The numbered files of sql/schema/ once each, then the functions and views whose text differs from what was applied
 * last, then the group roles' grants. All of it waits for locks only briefly, for whoever uses a table waits behind one
 * who waits for it; it is then undone, and tried again from the beginning. Values of attributes that got a column are
 * moved there after the commit, a portion a transaction. */
#include "base/conf.h"
#include "base/log.h"
#include "base/text.h"
#include "store/sql.h"
#include "store/store_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALWAYS 0 /* the number of what runs at every migrate */
#define TRIES  300
#define PAUSE  1 /* seconds */

#define EXTRA_MOVED "extra moved" /* as a definition's name: the attributes whose values were moved */
#define EXTRA_MOVES "functions/move_extra"

struct migrate {
    PGconn *connection;
    const char *time_zone;
    const char *failed; /* what it means where a statement fails */
    bool distributed;
    bool busy; /* somebody else holds a lock that is needed */
};

static void show_notice(void *ignored, const PGresult *result)
{
    (void)ignored;
    log_line(LOG_WARNING, PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
}

static bool is_lock(const char *state)
{
    return state && (strcmp(state, "55P03") == 0 || strcmp(state, "40P01") == 0);
}

static void complain(struct migrate *m, const PGresult *result, const char *what)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    char line[FIRST_LINE];

    m->busy = is_lock(PQresultErrorField(result, PG_DIAG_SQLSTATE));
    if (!m->busy)
        log_line(LOG_ERROR, m->failed, LOG_TEXT("at", what),
                 LOG_TEXT("why", message ? message : connection_first_line(line, connection_said(m->connection))),
                 LOG_TEXT("do", hint ? hint : ""));
}

/* NULL: failed, which was logged, or somebody else holds a lock. `values` may be NULL: none, and sql may be several
 * statements. */
static PGresult *ask(struct migrate *m, const char *what, const char *sql, int count, const char *const *values)
{
    PGresult *result =
        values ? PQexecParams(m->connection, sql, count, NULL, values, NULL, NULL, 0) : PQexec(m->connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        return result;
    complain(m, result, what);
    PQclear(result);
    return NULL;
}

static bool execute(struct migrate *m, const char *what, const char *sql)
{
    PGresult *result = ask(m, what, sql, 0, NULL);
    PQclear(result);
    return result != NULL;
}

static bool execute_with(struct migrate *m, const char *what, const char *sql, const char *first, const char *second)
{
    const char *const values[] = {first, second};
    PGresult *result = ask(m, what, sql, 2, values);
    PQclear(result);
    return result != NULL;
}

/* Nothing is sent outside of a transaction that begins so: it depends on no setting of the role's or the database's. */
static bool begin(struct migrate *m)
{
    return execute(m, "start", "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") &&
           execute(m, "start", sql_migrate_begin);
}

/* The same, with nobody else migrating. */
static bool begin_alone(struct migrate *m)
{
    return begin(m) && execute(m, "lock", sql_migrate_lock);
}

/* Schema vcc, and all that is in it, is the caller's: what another role laid out there would run with our rights. */
static bool is_ours(struct migrate *m)
{
    PGresult *result = ask(m, "owner", sql_foreign_object, 0, NULL);
    bool ours = result && PQntuples(result) == 0;

    if (result && !ours)
        log_line(LOG_ERROR, "migration refused: schema vcc, or what is in it, belongs to another role",
                 LOG_TEXT("what", PQgetvalue(result, 0, 0)), LOG_TEXT("owner", PQgetvalue(result, 0, 1)),
                 LOG_NUMBER("objects", atoi(PQgetvalue(result, 0, 2))), LOG_TEXT("role", PQuser(m->connection)),
                 LOG_TEXT("do", "migrate as the owner, or see \"Handing over\" in docs/install-database.md"));
    PQclear(result);
    return ours;
}

static bool apply_migration(struct migrate *m, const struct migration *migration)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", migration->version);

    for (const char *const *statement = migration->statements; *statement; statement++)
        if (!execute(m, migration->name, *statement))
            return false;
    if (migration->version == ALWAYS)
        return true;
    if (!execute_with(m, migration->name, sql_record_migration, number, migration->name))
        return false;
    log_line(LOG_INFO, "migration applied", LOG_TEXT("name", migration->name));
    return true;
}

/* Those that are new to the database, which may not be newer than this program. */
static bool apply_migrations(struct migrate *m)
{
    if (!apply_migration(m, &sql_migrations[ALWAYS]))
        return false;
    PGresult *result = ask(m, "version", sql_migrated_version, 0, NULL);
    if (!result)
        return false;
    int version = atoi(PQgetvalue(result, 0, 0));
    PQclear(result);
    if (version > sql_schema_version) {
        log_line(LOG_ERROR, "migration refused: the schema is newer than this program", LOG_NUMBER("schema", version),
                 LOG_NUMBER("program", sql_schema_version), LOG_TEXT("do", "migrate with the newest ticketd"));
        return false;
    }
    for (int i = ALWAYS + 1; i < sql_migration_count; i++)
        if (sql_migrations[i].version > version && !apply_migration(m, &sql_migrations[i]))
            return false;
    return true;
}

/* 1: this text was applied last, 0: it was not, -1: failed. */
static int is_defined(struct migrate *m, const char *name, const char *sql)
{
    const char *const values[] = {name, sql};
    PGresult *result = ask(m, name, sql_is_defined, 2, values);
    int defined = result ? PQntuples(result) : -1;
    PQclear(result);
    return defined;
}

/* An empty text: drops what it had made. */
static bool define(struct migrate *m, const char *name, const char *sql)
{
    return execute_with(m, name, sql_set_definition, name, sql) && execute(m, name, sql_define);
}

/* In their order: what has to be dropped for another's sake is made behind it. */
static bool define_changed(struct migrate *m)
{
    int made = 0;

    for (int i = 0; i < sql_definition_count; i++) {
        const char *name = sql_definitions[i].name, *sql = sql_definitions[i].sql;
        int defined = is_defined(m, name, sql);
        if (defined < 0 || (!defined && !define(m, name, sql)))
            return false;
        made += !defined;
    }
    if (made > 0)
        log_line(LOG_INFO, "functions and views replaced", LOG_NUMBER("files", made));
    return true;
}

/* Drops what definitions made that this program has no more. */
static bool forget_others(struct migrate *m)
{
    struct text names = {0};
    text_append(&names, "{\"" EXTRA_MOVED "\"");
    for (int i = 0; i < sql_definition_count; i++)
        text_append_format(&names, ",%s", sql_definitions[i].name);
    text_append(&names, "}");

    const char *const values[] = {names.bytes};
    PGresult *result = names.failed ? NULL : ask(m, "definitions", sql_forgotten_definitions, 1, values);
    bool good = result != NULL;
    for (int i = 0; good && i < PQntuples(result); i++)
        good = define(m, PQgetvalue(result, i, 0), "");
    PQclear(result);
    text_free(&names);
    return good;
}

static bool apply_definitions(struct migrate *m)
{
    return execute(m, "grants", sql_remember_grants) && define_changed(m) && forget_others(m) &&
           (!m->distributed || execute(m, "citus", sql_distribute)) && execute(m, "roles", sql_grant_roles) &&
           execute(m, "journal", sql_prepare_journal);
}

static bool is_no_worker(struct migrate *m)
{
    PGresult *result = ask(m, "start", sql_part_in_cluster, 0, NULL);
    bool worker = result && strcmp(PQgetvalue(result, 0, 0), "worker") == 0;

    m->distributed = result && strcmp(PQgetvalue(result, 0, 0), "coordinator") == 0;
    if (worker)
        log_line(LOG_ERROR, "migration refused: " NOT_ON_A_WORKER);
    PQclear(result);
    return result && !worker;
}

static bool migrate(struct migrate *m)
{
    return begin_alone(m) && is_no_worker(m) && is_ours(m) && apply_migrations(m) && apply_definitions(m) &&
           execute(m, "commit", "COMMIT");
}

/* After the try number `tries`, from 1, that somebody's lock has ended: undoes it, says who that is, and pauses. False:
 * it was the last, or there was another failure; logged. */
static bool may_try_again(struct migrate *m, int tries)
{
    bool told = tries == 1 || tries == TRIES;

    if (!m->busy || !execute(m, "start", "ROLLBACK"))
        return false;
    PGresult *result = told && begin(m) ? ask(m, "locks", sql_lock_holder, 0, NULL) : NULL;
    const char *holder = PQntuples(result) == 1 ? PQgetvalue(result, 0, 0) : "";

    if (tries == 1)
        log_line(LOG_WARNING, "others use what is to be changed: nothing was changed, trying again every second",
                 LOG_TEXT("lock_of", holder));
    if (tries == TRIES)
        log_line(LOG_ERROR, m->failed, LOG_TEXT("why", "others did not let go of their locks"),
                 LOG_TEXT("lock_of", holder),
                 LOG_TEXT("do", "look for old transactions in pg_stat_activity, end them and migrate again"));
    PQclear(result);
    m->busy = false;
    if (tries >= TRIES || (told && !execute(m, "start", "ROLLBACK")))
        return false;
    sleep(PAUSE);
    return true;
}

/* Once more from the beginning, as long as somebody holds a lock. */
static bool migrate_when_free(struct migrate *m)
{
    int tries = 0;
    bool good;

    while (!(good = migrate(m)) && may_try_again(m, ++tries)) {
        /* from the beginning */
    }
    return good;
}

/* Triggers of users fire for what is moved: to turn them off would take a lock, or a superuser. */
static void name_triggers(struct migrate *m)
{
    PGresult *result = ask(m, "triggers", sql_user_triggers, 0, NULL);
    if (result && !PQgetisnull(result, 0, 0))
        log_line(LOG_WARNING, "triggers of vcc.tickets fire for tickets whose values move from extra to their columns",
                 LOG_TEXT("triggers", PQgetvalue(result, 0, 0)));
    PQclear(result);
}

/* One transaction. False: failed, or `busy`. The numbers are added, and *more says whether there may be others. */
static bool move_portion(struct migrate *m, char *project, char *ticket, size_t size, long *moved, long *kept,
                         bool *more)
{
    const char *const values[] = {project, ticket, m->time_zone};
    PGresult *result = begin_alone(m) ? ask(m, "extra", sql_move_extra, 3, values) : NULL;
    bool good = result && execute(m, "extra", "COMMIT");

    if (good) {
        *moved += atol(PQgetvalue(result, 0, 2));
        *kept += atol(PQgetvalue(result, 0, 3));
        *more = !PQgetisnull(result, 0, 0);
        snprintf(project, size, "%s", PQgetvalue(result, 0, 0));
        snprintf(ticket, size, "%s", PQgetvalue(result, 0, 1));
    }
    PQclear(result);
    return good;
}

/* What does not fit stays in extra and is counted. */
static bool move_portions(struct migrate *m)
{
    char project[24] = "-9223372036854775808", ticket[24] = "-9223372036854775808";
    long moved = 0, kept = 0;
    bool more = true;
    int tries = 0;

    while (more) {
        if (move_portion(m, project, ticket, sizeof(project), &moved, &kept, &more))
            tries = 0;
        else if (!may_try_again(m, ++tries))
            return false;
    }
    if (moved > 0 || kept > 0)
        log_line(LOG_INFO, "values moved from extra to their columns", LOG_NUMBER("moved", moved),
                 LOG_NUMBER("left_for_they_do_not_fit", kept));
    return true;
}

/* Where the list of attributes has changed, of which the function that moves is made. */
static bool move_extra(struct migrate *m)
{
    const char *list = "";

    for (int i = 0; i < sql_definition_count; i++)
        if (strcmp(sql_definitions[i].name, EXTRA_MOVES) == 0)
            list = sql_definitions[i].sql;
    m->failed = "the schema is up to date, but not all values moved from extra to their columns: migrate again";
    int done, tries = 0;
    while ((done = begin_alone(m) ? is_defined(m, EXTRA_MOVED, list) : -1) < 0 && may_try_again(m, ++tries)) {
        /* another migrate has its turn */
    }
    if (done == 0)
        name_triggers(m);
    if (done < 0 || !execute(m, "extra", "COMMIT"))
        return false;
    return done ||
           (move_portions(m) && begin_alone(m) && execute_with(m, "extra", sql_record_definition, EXTRA_MOVED, list) &&
            execute(m, "extra", "COMMIT"));
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
    struct migrate m = {.connection = PQconnectdbParams(keywords, values, 1),
                        .time_zone = conf->time_zone,
                        .failed = "migration failed, nothing was changed"};
    bool good = false;

    if (PQstatus(m.connection) != CONNECTION_OK) {
        complain(&m, NULL, "connect");
        goto out;
    }
    PQsetNoticeReceiver(m.connection, show_notice, NULL);
    if (!is_utf8(m.connection) || !migrate_when_free(&m) || !move_extra(&m))
        goto out;
    log_line(LOG_INFO, "schema vcc is up to date", LOG_NUMBER("version", sql_schema_version));
    good = true;
out:
    PQfinish(m.connection);
    return good;
}
