/* Beside the path: what is read for the dashboard. Nothing here counts as the database being away: the writers' events
 * do not depend on it. */
#include "store/store_report.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/sql.h"
#include "store/store_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_MS  3000 /* of the statement in the server */
#define CONNECT_MS 2000

/* -- what went wrong, in words for who looks at the page ----------------------------------------------------------- */

static const struct {
    const char *sqlstate; /* or how it begins */
    const char *problem;
} problems[] = {
    {"57014", "The report took too long: choose one project or a shorter period."},
    {"55P03", "The report waited too long for a lock: somebody changes the tables."},
    {"42501", "The role may not read reports: GRANT vcc_reader to it, see TICKETD_REPORT_DATABASE."},
    {"42883", "The schema is too old for reports: run ticketd migrate."},
    {"3F", "There is no schema vcc: run ticketd migrate."},
    {"28", "The database does not let the reports' role in: see TICKETD_REPORT_DATABASE."},
    {"3D", "There is no such database: see TICKETD_REPORT_DATABASE."},
    {"", "The database does not answer."},
};

static const char *tell(const struct store *store, const PGresult *error)
{
    const char *state = error ? PQresultErrorField(error, PG_DIAG_SQLSTATE) : NULL;
    const char *why = connection_error(store, error);
    char line[256];
    size_t i = 0;

    snprintf(line, sizeof(line), "%.*s", (int)strcspn(why, "\n"), why);
    log_line(LOG_WARNING, "no report", LOG_TEXT("why", line), LOG_TEXT("sqlstate", state ? state : ""));
    while (strncmp(problems[i].sqlstate, state ? state : "", strlen(problems[i].sqlstate)) != 0)
        i++;
    return problems[i].problem;
}

/* -- the question -------------------------------------------------------------------------------------------------- */

/* The answer, a row. NULL: `error`. */
static PGresult *ask_report(struct store *store, const struct report_question *question, int64_t deadline,
                            PGresult **error)
{
    char days[16], project[24];
    const char *const values[] = {*question->ticket ? question->ticket : days, question->one_project ? project : NULL};

    snprintf(days, sizeof(days), "%d", question->days);
    snprintf(project, sizeof(project), "%" PRId64, question->project);
    const struct limited_read reading = {*question->ticket ? sql_report_ticket : sql_report, 2, values, REPORT_MS};
    return store_read(store, &reading, deadline, error);
}

struct conf store_report_conf(const struct conf *conf)
{
    struct conf own = *conf;

    if (*conf->report_database)
        own.database = conf->report_database;
    return own;
}

char *store_report(struct store *store, const struct report_question *question, const char **problem)
{
    int64_t now = clock_monotonic_ms(), deadline = now + CONNECT_MS + REPORT_MS;
    PGresult *error = NULL;
    char *report = NULL;

    if (!store->connection && !connection_begin(store, now + CONNECT_MS)) {
        *problem = tell(store, NULL);
        connection_close(store);
        return NULL;
    }
    PGresult *answer = ask_report(store, question, deadline, &error);
    if (answer)
        report = strdup(PQgetvalue(answer, 0, 0));
    if (!report)
        *problem = tell(store, error);
    store_read_end(store);
    PQclear(answer);
    PQclear(error);
    return report;
}

const char *store_report_problem(const struct conf *conf)
{
    const _Atomic int64_t stop_at = INT64_MAX;
    const struct conf own = store_report_conf(conf);
    struct report_question question = {.days = 1};
    const char *problem = "out of memory";
    struct store *store = store_open(&own, &stop_at, NULL);
    char *report = store ? store_report(store, &question, &problem) : NULL;

    if (report)
        problem = NULL;
    free(report);
    store_close(store);
    return problem;
}
