/* `ticketd check`'s look at the database: what the catalogs say (sql/queries/check_database.sql), the schema's version,
 * and whether events are taken. */
#include "base/clock.h"
#include "base/text.h"
#include "store/sql.h"
#include "store/store_pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
    struct store *store;
    int64_t deadline;
    void (*say)(void *context, const char *name, const char *grade, const char *words);
    void *context;
};

static PGresult *check_ask(const struct check *check, int sent)
{
    return connection_ask(check->store, sent, check->deadline);
}

static void say_words(const struct check *check, const char *name, const char *grade, struct text *words)
{
    check->say(check->context, name, grade, words->failed ? "out of memory" : words->bytes);
    text_free(words);
}

/* What to do, by how the SQLSTATE of an error begins; the last is for no answer. */
struct advice {
    const char *sqlstate, *grade, *words;
};

static const struct advice *find_advice(const struct advice *advice, const PGresult *error)
{
    const char *state = error ? PQresultErrorField(error, PG_DIAG_SQLSTATE) : NULL;

    while (*advice->sqlstate && strncmp(advice->sqlstate, state ? state : "", strlen(advice->sqlstate)) != 0)
        advice++;
    return advice;
}

#define MAY_NOT   ": GRANT vcc_writer to the role, or see who owns what is named"
#define NO_ANSWER ": does the server run, and is TICKETD_DATABASE right?"
#define MIGRATE   ": run ticketd migrate as the role that owns the schema"

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
                        : strstr(why, "Permission denied") ? ": this user may not open the server's socket"
                                                           : NO_ANSWER);
    say_words(check, "database", "wrong", &words);
}

/* Returns whether it fits. */
static bool look_at_version(const struct check *check)
{
    static const struct advice advice[] = {
        {"42501", NULL, MAY_NOT}, {"3F", NULL, MIGRATE}, {"42", NULL, MIGRATE}, {"", NULL, NO_ANSWER}};
    PGresult *result = check_ask(check, PQsendQuery(check->store->connection, sql_schema_version_query));
    bool known = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    int version = known ? atoi(PQgetvalue(result, 0, 0)) : 0;
    bool fits = known && version >= sql_schema_version;
    struct text words = {0};

    if (!known)
        text_append(&words, connection_error(check->store, result));
    else
        text_append_format(&words, "version %d, and this program works with %d", version, sql_schema_version);
    if (!fits)
        text_append(&words, known ? MIGRATE : find_advice(advice, result)->words);
    else if (version > sql_schema_version)
        text_append(&words, ": it is newer, which should do no harm");
    say_words(check, "schema", !fits ? "wrong" : version > sql_schema_version ? "note" : "ok", &words);
    PQclear(result);
    return fits;
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

/* -- events -------------------------------------------------------------------------------------------------------- */

#define TRIES 3 /* for it may be held by a neighbour */

/* One of a ticket's life; the last is for vcc.rejected_events. */
static const char *const lives[] = {"add", "update", "delete", "add"};

#define LIVES (sizeof(lives) / sizeof(lives[0]))

static bool make_event(struct event *event, const char *project, size_t n)
{
    struct text body = {0};

    text_append_format(&body,
                       "{\"action\": \"%s\", \"ticket\": {\"projectId\": %s, \"ticketId\": \"-9223372036854775808\", "
                       "\"title\": \"ticketd check\", \"status\": \"%s\", \"firstOpenTime\": 0, \"check\": %zu}}",
                       lives[n], project, n == 0 ? "open" : "closed", n);
    event_init(event, body.bytes, body.length);
    event->received_at = clock_realtime_us();
    clock_uuid(event->id, event->received_at);
    bool good = !body.failed && event_decode(event);
    if (good && n == LIVES - 1)
        event_refuse(event, OUTCOME_UNPROCESSABLE, "", "made up by ticketd check");
    return good;
}

/* As writers do it, but for the transaction, which is undone. *held: no error, and not all were taken. */
static struct attempt try_events(const struct check *check, const char *project, bool *held)
{
    struct attempt attempt = {.broken = true};
    struct event events[LIVES] = {0}, *all[LIVES];
    struct job jobs[LIVES], *sorted[LIVES];
    bool made = true;

    for (size_t i = 0; i < LIVES; i++) {
        all[i] = &events[i];
        made = make_event(all[i], project, i) && made;
    }
    pipeline_sort(all, LIVES, jobs, sorted);
    PQclear(check_ask(check, PQsendQuery(check->store->connection, "BEGIN")));
    if (made)
        attempt = pipeline_run(check->store, sorted, LIVES, false);
    *held = false;
    for (size_t i = 0; i < LIVES; i++) {
        *held = *held || jobs[i].held;
        event_free(all[i]);
    }
    if (!attempt.broken && !attempt.error) {
        attempt.error = check_ask(check, PQsendQuery(check->store->connection, "SET CONSTRAINTS ALL IMMEDIATE"));
        attempt.broken = !attempt.error;
    }
    PQclear(check_ask(check, PQsendQuery(check->store->connection, "ROLLBACK")));
    return attempt;
}

/* False: that was said. */
static bool project_is_good(const struct check *check, const char *project, const char *node)
{
    static const struct advice advice[] = {{"42501", "wrong", MAY_NOT},
                                           {"42883", "wrong", MIGRATE},
                                           {"23", "note", ": others may be taken"},
                                           {"", "wrong", ""}};
    struct attempt attempt = {0};
    struct text words = {0};
    bool held = true;

    for (int i = 0; i < TRIES && held; i++) {
        PQclear(attempt.error);
        attempt = try_events(check, project, &held);
    }
    bool failed = attempt.broken || PQresultStatus(attempt.error) == PGRES_FATAL_ERROR;
    const struct advice *found = find_advice(advice, failed ? attempt.error : NULL);
    const char *why = connection_error(check->store, attempt.error);
    if (failed)
        text_append_format(&words, "it takes no event%s%s: %.*s%s", *node ? " on " : "", node, (int)strcspn(why, "\n"),
                           why, attempt.error ? found->words : NO_ANSWER);
    else if (held)
        text_append(&words, "one cannot be written now: others hold a lock that it needs, or a trigger drops its row");
    if (failed || held)
        say_words(check, "events", found->grade, &words);
    PQclear(attempt.error);
    return !failed && !held;
}

/* On each node where there are several, which has a time-out of its own; one that does not answer in time takes the
 * connection with it. Statements go with their text, as where a pooler stands between: then all that is set or prepared
 * ends with the transaction. */
static void look_at_events(const struct check *check)
{
    struct store *store = check->store;
    const struct conf *conf = store->conf;
    struct conf own = *conf;
    struct check of_node = *check;
    PGresult *nodes = NULL;

    own.pooler = 1;
    store->conf = &own;
    if (store->distributed)
        nodes = check_ask(check, PQsendQuery(store->connection, sql_project_of_each_node));
    bool good = PQntuples(nodes) > 0 || project_is_good(check, "0", "");
    for (int row = 0; row < PQntuples(nodes); row++) {
        of_node.deadline = clock_monotonic_ms() + conf->db_timeout_ms;
        if (PQtransactionStatus(store->connection) != PQTRANS_IDLE) {
            connection_close(store);
            (void)!connection_begin(store, of_node.deadline);
        }
        good = project_is_good(&of_node, PQgetvalue(nodes, row, 0), PQgetvalue(nodes, row, 1)) && good;
    }
    if (good)
        check->say(check->context, "events", "ok",
                   "one was applied, changed, deleted and set aside, and all of it taken back");
    store->conf = conf;
    PQclear(nodes);
}

/* False: no event goes there, which is said. */
static bool look_at_part_in_cluster(const struct check *check)
{
    PGresult *result = check_ask(check, PQsendQuery(check->store->connection, sql_part_in_cluster));
    const char *part = PQntuples(result) == 1 ? PQgetvalue(result, 0, 0) : "";
    bool good = strcmp(part, "worker") != 0;

    check->store->distributed = strcmp(part, "coordinator") == 0;
    if (!good)
        check->say(check->context, "schema", "wrong", NOT_ON_A_WORKER);
    PQclear(result);
    return good;
}

void store_check(struct store *store, int64_t deadline,
                 void (*say)(void *context, const char *name, const char *grade, const char *words), void *context)
{
    const struct check check = {store, deadline, say, context};
    bool reached = connection_begin(store, deadline), fits = false;

    if (reached) {
        look_at_catalogs(&check);
        fits = look_at_part_in_cluster(&check) && look_at_version(&check);
    } else {
        say_unreachable(&check);
        say(context, "schema", "not looked at", "");
    }
    if (fits)
        look_at_events(&check);
    else
        say(context, "events", "not looked at", "");
    connection_close(store);
}

const char *store_forget_check(struct store *store, const uint8_t id[16], int64_t deadline, bool *was_there)
{
    const struct check check = {.store = store, .deadline = deadline};
    char text[37];
    const char *const values[] = {text};

    clock_uuid_text(id, text);
    *was_there = false;
    if (!connection_begin(store, deadline))
        return connection_problem(store);
    PGresult *result =
        check_ask(&check, PQsendQueryParams(store->connection, sql_forget_check, 1, NULL, values, NULL, NULL, 0));
    bool good = PQresultStatus(result) == PGRES_TUPLES_OK;
    *was_there = good && *PQgetvalue(result, 0, 0) == 't';
    const char *why = good ? NULL : connection_error(store, NULL);
    PQclear(result);
    return why;
}
