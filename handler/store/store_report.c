/* Beside the path: what is read for the dashboard. Nothing here counts as the database being away: the writers' events
 * do not depend on it. */
#include "store/store_report.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/sql.h"
#include "store/store_read.h"

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
    {"22", "There is no such list, day or page."},
    {"", "The database does not answer."},
};

static const char *tell(const struct store *store, const PGresult *error)
{
    const char *state = error ? PQresultErrorField(error, PG_DIAG_SQLSTATE) : NULL;
    bool quotes = state && strncmp(state, "22", 2) == 0; /* what was asked for: that is no matter of the log */
    char line[FIRST_LINE];
    size_t i = 0;

    connection_first_line(line, quotes ? "a bad question" : connection_error(store, error));
    log_line(LOG_WARNING, "no report", LOG_TEXT("why", line), LOG_TEXT("sqlstate", state ? state : ""));
    while (strncmp(problems[i].sqlstate, state ? state : "", strlen(problems[i].sqlstate)) != 0)
        i++;
    return problems[i].problem;
}

/* -- the question -------------------------------------------------------------------------------------------------- */

#define PASSED_MAX 12

/* The first whose parameter is given is asked; the last by none. */
static const struct {
    enum report_parameter by;
    const char *sql;
    int count;
    enum report_parameter passed[PASSED_MAX];
} questions[] = {
    {REPORT_EVENT, sql_report_delivery, 3, {REPORT_EVENT, REPORT_PROJECT, REPORT_TICKET}},
    {REPORT_DELIVERIES,
     sql_report_deliveries,
     7,
     {REPORT_RESULT, REPORT_REASON, REPORT_PROJECT, REPORT_SINCE, REPORT_UNTIL, REPORT_AFTER, REPORT_ROWS}},
    {REPORT_TICKET, sql_report_ticket, 2, {REPORT_TICKET, REPORT_PROJECT}},
    {REPORT_LIST,
     sql_report_list,
     12,
     {REPORT_LIST, REPORT_PERIOD, REPORT_PROJECT, REPORT_AGENT, REPORT_TYPE, REPORT_CUSTOMER, REPORT_STATUS,
      REPORT_SUB_STATUS, REPORT_DAY, REPORT_WITHIN, REPORT_AFTER, REPORT_ROWS}},
    {REPORT_BEFORE, sql_report_before, 4, {REPORT_PERIOD, REPORT_PROJECT, REPORT_AGENT, REPORT_TYPE}},
    {REPORT_PARAMETERS, sql_report, 4, {REPORT_PERIOD, REPORT_PROJECT, REPORT_AGENT, REPORT_TYPE}},
};

/* The answer, a row. NULL: `error`. What is not given is NULL. */
static PGresult *ask_report(struct store *store, const struct report_question *question, int64_t deadline,
                            PGresult **error)
{
    const char *values[PASSED_MAX];
    size_t which = 0;

    while (questions[which].by != REPORT_PARAMETERS && !question->given[questions[which].by])
        which++;
    for (int i = 0; i < questions[which].count; i++) {
        enum report_parameter passed = questions[which].passed[i];
        values[i] = question->given[passed] ? question->values[passed] : NULL;
    }
    const struct limited_read reading = {questions[which].sql, questions[which].count, values, REPORT_MS};
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
    bool kept = store->connection;
    PGresult *error = NULL;
    char *report = NULL;

    if (!kept && !connection_begin(store, now + CONNECT_MS)) {
        *problem = tell(store, NULL);
        connection_close(store);
        return NULL;
    }
    PGresult *answer = ask_report(store, question, deadline, &error);
    if (answer)
        report = strdup(PQgetvalue(answer, 0, 0));
    bool again = kept && PQstatus(store->connection) != CONNECTION_OK; /* it was lost since it was used last */
    if (!report && !again)
        *problem = tell(store, error);
    store_read_end(store);
    PQclear(answer);
    PQclear(error);
    return report || !again ? report : store_report(store, question, problem);
}

const char *store_report_problem(const struct conf *conf)
{
    const _Atomic int64_t stop_at = INT64_MAX;
    const struct conf own = store_report_conf(conf);
    static const struct report_question question = {.values[REPORT_PERIOD] = "1d", .given[REPORT_PERIOD] = true};
    const char *problem = "out of memory";
    struct store *store = store_open(&own, &stop_at, NULL);
    char *report = store ? store_report(store, &question, &problem) : NULL;

    if (report)
        problem = NULL;
    free(report);
    store_close(store);
    return problem;
}
