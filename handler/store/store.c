/* Batches and what becomes of them: committed, tried again, or freed of the event that PostgreSQL refuses. */
#include "store/store.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "store/store_pipeline.h"

#include <stdlib.h>
#include <string.h>

#define JOURNAL   "ticket_events"           /* so begin the names of its partitions */
#define SMALL     16                        /* events of a pipeline after one was refused in a larger one */
#define SET_ASIDE "it was set aside before" /* of vcc.apply_events */
#define PAUSE_MS  10                        /* before a ticket that cannot be written is tried again */

/* The jobs that have no verdict yet. */
struct work {
    struct job *jobs;     /* all, by ticket */
    struct job **waiting; /* those without a verdict, in the order in which they are tried */
    size_t count;         /* of waiting */
    struct job **chosen;  /* those of the next pipeline */
    size_t chosen_count;
    size_t part; /* how many it may have */
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t store_batch(const struct store *store)
{
    return store->batch;
}

/* How large the next batch may be, by what this one took. Far too long: so many as take a fifth of the time-out at its
 * pace. Otherwise more, where it was as large as it might be: what takes long need not be the events, but may be a
 * commit that waits for a far standby. */
static void keep_pace(struct store *store, size_t count, int64_t microseconds)
{
    int64_t timeout = (int64_t)store->conf->db_timeout_ms * 1000;

    if (microseconds > timeout / 2)
        store->batch = (size_t)((int64_t)count * timeout / 5 / microseconds);
    else if (count >= store->batch)
        store->batch = microseconds > timeout / 10 ? count + count / 2 : 4 * count;
    store->batch = least((size_t)store->conf->batch, store->batch < 2 ? 2 : store->batch);
}

/* -- what is tried next -------------------------------------------------------------------------------------------- */

static bool is_done(const struct job *job)
{
    return job->event->outcome != OUTCOME_NONE;
}

/* The first jobs that may be tried: those whose ticket has none before them that is not tried with them. */
static void choose(struct work *work, size_t most)
{
    work->chosen_count = 0;
    for (size_t i = 0; i < work->count; i++)
        work->waiting[i]->chosen = false;
    for (size_t i = 0; i < work->count && work->chosen_count < most; i++) {
        struct job *job = work->waiting[i];
        if (job->held || (job->before && !is_done(job->before) && !job->before->chosen))
            continue;
        job->chosen = true;
        work->chosen[work->chosen_count++] = job;
    }
}

/* What has its verdict goes. */
static void forget_done(struct work *work)
{
    size_t count = 0;

    for (size_t i = 0; i < work->count; i++)
        if (!is_done(work->waiting[i]))
            work->waiting[count++] = work->waiting[i];
    work->count = count;
}

/* -- what became of it --------------------------------------------------------------------------------------------- */

/* A refusal by a constraint or a trigger: what it names, never what the event holds. */
static void refuse_by_error(struct event *event, const PGresult *error)
{
    const char *column = PQresultErrorField(error, PG_DIAG_COLUMN_NAME);
    const char *constraint = PQresultErrorField(error, PG_DIAG_CONSTRAINT_NAME);
    enum field field = column ? event_field_by_column(column) : FIELD_COUNT;
    struct text pointer = {0}, detail = {0};

    text_append(&pointer, field < FIELD_COUNT ? "/ticket/" : "");
    text_append(&pointer, field < FIELD_COUNT ? event_fields[field].name : "");
    text_append_format(&detail, "PostgreSQL refuses it with SQLSTATE %.5s",
                       PQresultErrorField(error, PG_DIAG_SQLSTATE));
    if (column)
        text_append_format(&detail, ", column %.63s", column);
    if (constraint)
        text_append_format(&detail, ", constraint %.63s", constraint);
    if (!pointer.failed && !detail.failed) {
        event_refuse(event, OUTCOME_UNPROCESSABLE, pointer.bytes, detail.bytes);
        log_line(LOG_WARNING, "event refused by the database", LOG_TEXT("detail", detail.bytes));
    }
    event->refusal = OUTCOME_UNPROCESSABLE;
    text_free(&pointer);
    text_free(&detail);
}

static void refuse_by_rule(struct event *event, const char *detail)
{
    event_refuse(event, OUTCOME_UNPROCESSABLE, "/ticket", detail);
    event->refusal = OUTCOME_UNPROCESSABLE;
    log_line(LOG_WARNING, "event refused by the rule", LOG_TEXT("detail", detail));
}

/* The pipeline is committed. What the rule refuses is set aside next. The next one may be larger, unless there are
 * refused ones, which seldom come alone. */
static void take_verdicts(struct work *work, int64_t microseconds)
{
    int64_t applied = 0, rejected = 0;

    for (size_t i = 0; i < work->chosen_count; i++) {
        struct job *job = work->chosen[i];
        struct event *event = job->event;
        event->outcome = job->verdict;
        if (job->verdict == OUTCOME_NONE && *job->detail)
            refuse_by_rule(event, job->detail);
        if (strcmp(job->detail, SET_ASIDE) == 0) /* with its reason */
            event->outcome = event->refusal;
        if (job->held)
            event->waited = true;
        applied += is_done(job);
        rejected += is_done(job) && event->refusal != OUTCOME_NONE;
    }
    if (rejected == 0)
        work->part += work->part / 4 + 1;
    metrics_observe(METRIC_BATCH_EVENTS, applied);
    metrics_observe(METRIC_COMMIT_SECONDS, microseconds);
    metrics_add(METRIC_REJECTED, rejected);
}

static enum sqlstate_class classify(const struct attempt *attempt)
{
    if (attempt->broken)
        return SQLSTATE_RECONNECT;
    const char *state = PQresultErrorField(attempt->error, PG_DIAG_SQLSTATE);
    const char *table = PQresultErrorField(attempt->error, PG_DIAG_TABLE_NAME);
    if (state && table && strcmp(state, "23505") == 0 && strncmp(table, JOURNAL, strlen(JOURNAL)) == 0)
        return SQLSTATE_TRY_AGAIN; /* the journal has one of them: another session was faster */
    return sqlstate_classify(state);
}

/* The pipeline was undone, or is in doubt. Of several the first are tried next: so the one at fault is found. */
static void take_failure(struct store *store, struct work *work, const struct attempt *attempt)
{
    enum sqlstate_class class = classify(attempt);
    size_t count = work->chosen_count;
    struct event *first = work->chosen[0]->event;

    for (size_t i = 0; i < count; i++)
        work->chosen[i]->event->waited = true; /* it may be applied all the same, or others be before it */
    if (class != SQLSTATE_EVENT && class != SQLSTATE_TRY_AGAIN) {
        store->batch = least((count + 1) / 2, store->batch);
        connection_failed_by(store, attempt->error);
    } else if (count > 1) {
        work->part = count > SMALL && class == SQLSTATE_EVENT ? SMALL : (count + 1) / 2;
    } else if (class == SQLSTATE_TRY_AGAIN) {
        work->chosen[0]->held = true;
    } else if (first->refusal == OUTCOME_NONE) {
        refuse_by_error(first, attempt->error);
    } else {
        connection_failed_by(store, attempt->error); /* not even set aside: vcc.rejected_events is broken */
    }
}

/* Tries the next pipeline. False: nothing can be tried before something changes: the connection, or a lock of others.
 */
static bool step(struct store *store, struct work *work, int64_t deadline)
{
    int64_t now = clock_monotonic_ms();

    if (!store->connection && now < store->next_try)
        return false;
    if (!store->connection && !connection_open(store, deadline > now ? deadline : now + 1))
        return false;
    choose(work, least(work->part, store->batch));
    if (work->chosen_count == 0)
        return false;
    int64_t began = clock_monotonic_us();
    struct attempt attempt = pipeline_run(store, work->chosen, work->chosen_count);
    int64_t took = clock_monotonic_us() - began;
    keep_pace(store, work->chosen_count, took);
    if (attempt.broken || attempt.error) {
        take_failure(store, work, &attempt);
        PQclear(attempt.error);
        return true;
    }
    connection_healthy(store);
    take_verdicts(work, took);
    forget_done(work);
    return true;
}

/* Others hold locks: waits a moment. */
static void wait_for_others(struct work *work)
{
    clock_sleep_ms(PAUSE_MS);
    for (size_t i = 0; i < work->count; i++)
        work->waiting[i]->held = false;
}

void store_apply(struct store *store, struct event **events, size_t count, int64_t deadline)
{
    struct work work = {
        .jobs = calloc(count, sizeof(*work.jobs)),
        .waiting = calloc(count, sizeof(*work.waiting)),
        .chosen = calloc(count, sizeof(*work.chosen)),
        .count = count,
        .part = count,
    };

    if (!work.jobs || !work.waiting || !work.chosen)
        goto out;
    pipeline_sort(events, count, work.jobs, work.waiting);
    if (store->connection && clock_monotonic_ms() >= store->journal_due)
        (void)!connection_prepare_journal(store, deadline);
    for (bool tried = false; work.count > 0 && !store_must_stop(store); tried = true) {
        if (tried && clock_monotonic_ms() >= deadline)
            break;
        if (step(store, &work, deadline))
            continue;
        if (clock_monotonic_ms() >= deadline)
            break;
        if (store->connection)
            wait_for_others(&work);
        else
            connection_back_off(store, deadline);
    }
    /* A primary that was left by its standby, which now is one, commits nothing any more and keeps its locks. */
    if (work.count > 0 && store->connection && !store_must_stop(store) && connection_has_other_hosts(store))
        connection_failed(store, "what holds the locks does not end: another host may be the primary", "55P03");
out:
    free(work.jobs);
    free(work.waiting);
    free(work.chosen);
}
