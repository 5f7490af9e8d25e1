/* `ticketd check`'s look at the database: what the catalogs say (sql/queries/check_database.sql), then the
 * schema's version. */
#include "base/clock.h"
#include "base/text.h"
#include "store/sql.h"
#include "store/store_connection.h"

#include <stdlib.h>
#include <string.h>

struct check {
    struct store *store;
    int64_t deadline;
    void (*say)(void *context, const char *name, const char *grade, const char *words);
    void *context;
};

/* The one result of a statement, to be cleared by the caller. */
static PGresult *check_ask(const struct check *check, int sent)
{
    PGresult *kept = NULL, *result;
    bool broken = !sent;

    while ((result = connection_result(check->store, check->deadline, &broken))) {
        PQclear(kept);
        kept = result;
    }
    return kept;
}

/* libpq's message has a line for each host that was tried, and hints behind a tab. */
static void say_unreachable(const struct check *check)
{
    const char *why = connection_problem(check->store);
    struct text words = {0};

    for (const char *line = why; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (*line == '\t')
            continue;
        text_append(&words, words.length ? "; " : "");
        text_append_bytes(&words, line, strcspn(line, "\n"));
    }
    /* The severity is in the server's language, mostly this; then it was a server that refused us. */
    text_append(&words, strstr(why, "FATAL:")
                            ? ": see TICKETD_DATABASE, the role and its password, and pg_hba.conf of the server"
                            : ": does the server run, and is TICKETD_DATABASE right?");
    check->say(check->context, "database", "wrong", words.failed ? "out of memory" : words.bytes);
    check->say(check->context, "schema", "not looked at", "");
    text_free(&words);
}

static void look_at_version(const struct check *check)
{
    PGresult *result = check_ask(check, PQsendQuery(check->store->connection, sql_schema_version_query));
    bool known = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    int version = known ? atoi(PQgetvalue(result, 0, 0)) : 0;
    struct text words = {0};

    if (!known)
        text_append(&words, connection_error(check->store, result));
    else
        text_append_format(&words, "version %d, and this program works with %d", version, sql_schema_version);
    if (!known || version < sql_schema_version)
        text_append(&words, ": run ticketd migrate as the role that owns it");
    else if (version > sql_schema_version)
        text_append(&words, ": it is newer, which should do no harm");
    check->say(check->context, "schema",
               !known || version < sql_schema_version ? "wrong"
               : version > sql_schema_version         ? "note"
                                                      : "ok",
               words.failed ? "out of memory" : words.bytes);
    text_free(&words);
    PQclear(result);
}

static void look_at_catalogs(const struct check *check)
{
    PGconn *connection = check->store->connection;
    char now[CLOCK_TEXT];
    const char *const values[] = {now};

    clock_text(clock_realtime_us(), now);
    PGresult *result =
        check_ask(check, PQsendQueryParams(connection, sql_check_database, 1, NULL, values, NULL, NULL, 0));
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        check->say(check->context, "database", "wrong", connection_error(check->store, result));
    for (int row = 0; row < PQntuples(result); row++)
        check->say(check->context, PQgetvalue(result, row, 0), PQgetvalue(result, row, 1), PQgetvalue(result, row, 2));
    PQclear(result);
}

void store_check(struct store *store, int64_t deadline,
                 void (*say)(void *context, const char *name, const char *grade, const char *words), void *context)
{
    const struct check check = {store, deadline, say, context};

    if (!connection_begin(store, deadline)) {
        say_unreachable(&check);
    } else {
        look_at_catalogs(&check);
        look_at_version(&check);
    }
    connection_close(store);
}
