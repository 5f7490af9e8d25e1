/* Beside the path: what `ticketd verify` asks. sql/functions/compare_journal.sql is where the journal is folded. */
#include "store/store_verify.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/sql.h"
#include "store/store_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_MS 600000 /* of one statement: that which counts the journal is the longest */
#define PORTION  "5000" /* rows of a table */

enum column { TICKET, WHAT, JOURNAL, HELD, EQUAL, DIFFER, NO_HISTORY, EVENTS };

static bool cannot_verify(struct store *store, const PGresult *error)
{
    const char *state = error ? PQresultErrorField(error, PG_DIAG_SQLSTATE) : NULL;
    const char *why = connection_error(store, error);
    char line[FIRST_LINE];

    log_line(LOG_ERROR, "cannot verify", LOG_TEXT("why", connection_first_line(line, why)),
             LOG_TEXT("sqlstate", state ? state : ""),
             LOG_TEXT("hint", !state ? "is the server there?"
                              : strcmp(state, "42501") == 0
                                  ? "GRANT vcc_reader to the role, or set TICKETD_REPORT_DATABASE; "
                                    "--rebuild needs vcc_writer"
                                  : "did this version's ticketd migrate run?"));
    return false;
}

static bool connect_to(struct store *store)
{
    return store->connection || connection_begin(store, clock_monotonic_ms() + store->conf->db_timeout_ms);
}

/* NULL: logged. */
static PGresult *verify_rows(struct store *store, const char *sql, int count, const char *const *values)
{
    const struct limited_read reading = {sql, count, values, LIMIT_MS};
    PGresult *error = NULL, *rows = NULL;

    if (connect_to(store))
        rows = store_read(store, &reading, clock_monotonic_ms() + LIMIT_MS + store->conf->db_timeout_ms, &error);
    if (!rows)
        cannot_verify(store, error);
    PQclear(error);
    store_read_end(store);
    return rows;
}

static const char *print_number(char text[24], int64_t number)
{
    snprintf(text, 24, "%" PRId64, number);
    return text;
}

static uint64_t get_number(const PGresult *rows, int row, int column)
{
    return strtoull(PQgetvalue(rows, row, column), NULL, 10);
}

bool store_verify_projects(struct store *store, const int64_t *project, struct verify_project **projects, size_t *count)
{
    char number[24];
    const char *const values[] = {project ? print_number(number, *project) : NULL};
    PGresult *rows = verify_rows(store, sql_verify_projects, 1, values);

    *count = (size_t)PQntuples(rows); /* of NULL: 0 */
    *projects = calloc(*count + 1, sizeof(**projects));
    for (int row = 0; *projects && row < PQntuples(rows); row++)
        (*projects)[row] = (struct verify_project){.project = strtoll(PQgetvalue(rows, row, 0), NULL, 10),
                                                   .events = get_number(rows, row, 1)};
    bool good = rows && *projects;
    PQclear(rows);
    return good;
}

bool store_verify_portion(struct store *store, struct verify_portion *portion,
                          void (*tell)(void *context, const struct verify_difference *difference), void *context)
{
    char project[24], after[24];
    const char *const values[] = {print_number(project, portion->project),
                                  portion->begun ? print_number(after, portion->after) : NULL, PORTION,
                                  store->conf->time_zone};
    PGresult *rows = verify_rows(store, sql_compare_journal, 4, values);
    int last = PQntuples(rows) - 1; /* the numbers */

    for (int row = 0; row < last; row++) {
        const struct verify_difference difference = {.ticket = strtoll(PQgetvalue(rows, row, TICKET), NULL, 10),
                                                     .what = PQgetvalue(rows, row, WHAT),
                                                     .journal = PQgetvalue(rows, row, JOURNAL),
                                                     .held = PQgetvalue(rows, row, HELD)};
        tell(context, &difference);
    }
    if (last >= 0) {
        portion->begun = true;
        portion->ended = PQgetisnull(rows, last, TICKET);
        portion->after = strtoll(PQgetvalue(rows, last, TICKET), NULL, 10);
        portion->equal += get_number(rows, last, EQUAL);
        portion->differ += get_number(rows, last, DIFFER);
        portion->no_history += get_number(rows, last, NO_HISTORY);
        portion->events += get_number(rows, last, EVENTS);
    }
    PQclear(rows);
    return last >= 0;
}

bool store_rebuild_ticket(struct store *store, int64_t project, int64_t ticket, char answer[256])
{
    char numbers[2][24];
    const char *const values[] = {print_number(numbers[0], project), print_number(numbers[1], ticket),
                                  store->conf->time_zone};
    PGresult *result = NULL;

    if (connect_to(store)) {
        int sent = PQsendQueryParams(store->connection, sql_rebuild_ticket, 3, NULL, values, NULL, NULL, 0);
        result = connection_ask(store, sent, clock_monotonic_ms() + LIMIT_MS);
    }
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool done = PQresultStatus(result) == PGRES_TUPLES_OK;
    bool good = done || (state && PQstatus(store->connection) == CONNECTION_OK && strncmp(state, "42", 2) != 0);
    if (good) /* what the server refuses is of this ticket: a lock, a constraint of the user's */
        snprintf(answer, 256, "%s", done ? PQgetvalue(result, 0, 0) : connection_error(store, result));
    else
        cannot_verify(store, result);
    PQclear(result);
    return good;
}
