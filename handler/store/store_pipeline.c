/* The last station of the path: a batch becomes calls in one pipeline, and their answers its verdicts. */
#include "store/store_pipeline.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct call {
    struct job **jobs; /* that it is about: one is set aside, or several are applied; NULL: it sets the time-outs */
    size_t count;
    bool other; /* with jobs: one that was set aside is forgotten; without: the time-outs are those of a long try */
};

bool pipeline_same_project(const struct job *a, const struct job *b)
{
    return event_project(a->event) == event_project(b->event);
}

/* Whether one call may apply both. */
static bool go_together(const struct job *a, const struct job *b)
{
    return a->round == b->round && a->event->refusal == OUTCOME_NONE && b->event->refusal == OUTCOME_NONE;
}

/* Returns how many calls, at most one and two for each job. */
static size_t plan(const struct store *store, struct job **jobs, size_t count, bool long_try, struct call *calls)
{
    size_t n = 0;

    if (session_is_pooled(store->conf) || long_try)
        calls[n++] = (struct call){NULL, 0, long_try};
    for (size_t i = 0, next; i < count; i = next) {
        next = i + 1;
        while (next < count && go_together(jobs[i], jobs[next]))
            next++;
        calls[n++] = (struct call){jobs + i, next - i, false};
    }
    for (size_t i = 0; i < count; i++)
        if (jobs[i]->event->was_rejected && jobs[i]->event->refusal == OUTCOME_NONE)
            calls[n++] = (struct call){jobs + i, 1, true};
    return n;
}

/* False: out of memory, or the connection is broken. */
static bool send_call(const struct store *store, const struct call *call)
{
    if (!call->jobs)
        return calls_send_timeouts(store, call->other);
    if (call->other)
        return calls_send_forget(store, call->jobs[0]->event);
    if (call->jobs[0]->event->refusal != OUTCOME_NONE)
        return calls_send_reject(store, call->jobs[0]->event);
    return calls_send_apply(store, call->jobs, call->count);
}

/* -- answers ------------------------------------------------------------------------------------------------------- */

/* The rows of vcc.apply_events: n, result, detail. */
static void read_rows(const PGresult *result, const struct call *call)
{
    for (int row = 0; row < PQntuples(result); row++) {
        size_t n = strtoul(PQgetvalue(result, row, 0), NULL, 10);
        const char *word = PQgetvalue(result, row, 1);
        if (n < 1 || n > call->count)
            continue;
        struct job *job = call->jobs[n - 1];
        job->held = strcmp(word, "held") == 0;
        job->verdict = outcome_by_result(word);
        snprintf(job->detail, sizeof(job->detail), "%s", PQgetvalue(result, row, 2));
    }
}

static void read_call(const PGresult *result, const struct call *call)
{
    if (!call->jobs || call->other)
        return;
    if (call->jobs[0]->event->refusal != OUTCOME_NONE)
        call->jobs[0]->verdict = call->jobs[0]->event->refusal;
    else
        read_rows(result, call);
}

struct attempt pipeline_run(struct store *store, struct job **jobs, size_t count, bool long_try)
{
    int64_t deadline = clock_monotonic_ms() + session_patience(store->conf, long_try);
    struct call *calls = calloc(1 + 2 * count, sizeof(*calls));
    size_t wanted = calls ? plan(store, jobs, count, long_try, calls) : 0, done = 0;
    struct attempt attempt = {.broken = !calls || !PQenterPipelineMode(store->connection)};

    for (size_t i = 0; i < count; i++) {
        jobs[i]->verdict = OUTCOME_NONE;
        *jobs[i]->detail = '\0';
    }
    for (size_t i = 0; i < wanted && !attempt.broken; i++)
        attempt.broken = !send_call(store, &calls[i]);
    if (!attempt.broken)
        attempt.broken = !PQpipelineSync(store->connection);

    while (!attempt.broken) {
        PGresult *result = connection_result(store, deadline, &attempt.broken);
        ExecStatusType status = PQresultStatus(result);
        if (!result) { /* the end of what one call returned */
            done++;
        } else if (status == PGRES_FATAL_ERROR && !attempt.error) {
            attempt.error = result;
            continue;
        } else if (status == PGRES_TUPLES_OK && done < wanted) {
            read_call(result, &calls[done]);
        }
        PQclear(result);
        if (status == PGRES_PIPELINE_SYNC)
            break;
    }
    attempt.crashed = attempt.broken && PQstatus(store->connection) == CONNECTION_BAD && !attempt.error;
    if (!attempt.broken)
        attempt.broken = !PQexitPipelineMode(store->connection);
    free(calls);
    return attempt;
}

/* -- order --------------------------------------------------------------------------------------------------------- */

static int compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_tickets(const struct event *a, const struct event *b)
{
    int order = compare(a->values[FIELD_project_id].number, b->values[FIELD_project_id].number);
    return order ? order : compare(a->values[FIELD_ticket_id].number, b->values[FIELD_ticket_id].number);
}

/* What is to be set aside is of no ticket: it comes first, and waits for nothing. */
static bool is_of_a_ticket(const struct job *job)
{
    return job->event->refusal == OUTCOME_NONE;
}

/* In `round` is the place in the batch, which keeps the order given. */
static int by_ticket(const void *a, const void *b)
{
    const struct job *x = a, *y = b;
    int order = compare(is_of_a_ticket(x), is_of_a_ticket(y));

    if (order == 0 && is_of_a_ticket(x))
        order = compare_tickets(x->event, y->event);
    return order ? order : compare(x->round, y->round);
}

/* What was held before comes last. */
static int by_round(const void *a, const void *b)
{
    const struct job *x = *(struct job *const *)a, *y = *(struct job *const *)b;
    int order = compare(x->was_held, y->was_held);

    if (order == 0)
        order = compare(x->round, y->round);
    return order ? order : compare(x - y, 0); /* they lie by ticket */
}

void pipeline_sort(struct event **events, size_t count, struct job *jobs, struct job **sorted)
{
    for (size_t i = 0; i < count; i++)
        jobs[i] = (struct job){.event = events[i], .round = (unsigned)i};
    qsort(jobs, count, sizeof(*jobs), by_ticket);
    for (size_t i = 0; i < count; i++) {
        bool follows = i > 0 && is_of_a_ticket(&jobs[i - 1]) && compare_tickets(jobs[i].event, jobs[i - 1].event) == 0;
        jobs[i].before = follows ? &jobs[i - 1] : NULL;
        jobs[i].was_held = *jobs[i].event->why || (follows && jobs[i - 1].was_held);
        jobs[i].round = follows ? jobs[i - 1].round + 1 : 0;
        sorted[i] = &jobs[i];
    }
    qsort(sorted, count, sizeof(*sorted), by_round);
}
