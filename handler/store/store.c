/* Batches and what becomes of them: committed, held, or freed of the event that PostgreSQL does not take. */
#include "store/store.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/store_nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL     16 /* events of a pipeline after a larger one failed, and of a batch after a crash */
#define SET_ASIDE "it was set aside before" /* of vcc.apply_events */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t store_batch(const struct store *store)
{
    return store->alone > 0 ? least(SMALL, (size_t)store->conf->batch) : store->batch;
}

/* How large the next batch may be, by what this one took of the quarter of TICKETD_DB_TIMEOUT_MS that it has. Undone:
 * so many as take a fifth, at its pace. Close to the end: fewer. Otherwise more, where it was as large as it might be,
 * and little more beyond the half: what takes long need not be the events, but may be a commit that waits for a far
 * standby. */
static void keep_pace(struct store *store, size_t count, int64_t microseconds, bool committed)
{
    int64_t most = (int64_t)store->conf->db_timeout_ms * 1000 / 4;

    if (!committed && microseconds > most / 2)
        store->batch = (size_t)((int64_t)count * most / 5 / microseconds);
    else if (microseconds > most - most / 10)
        store->batch = count - count / 4;
    else if (committed && count >= store->batch)
        store->batch = microseconds > most / 2 ? count + 1 : microseconds > most / 10 ? count + count / 2 : 4 * count;
    store->batch = least((size_t)store->conf->batch, store->batch < 2 ? 2 : store->batch);
}

/* -- what is tried next -------------------------------------------------------------------------------------------- */

static bool is_done(const struct job *job)
{
    return job->event->outcome != OUTCOME_NONE;
}

/* The first jobs that may be tried: those whose ticket has none before them that is not tried with them. What was held
 * before, and may be so again, is not tried with others: it would undo them. Where the database is distributed they are
 * of one project. */
static void choose(const struct store *store, struct work *work, size_t most)
{
    work->chosen_count = 0;
    for (size_t i = 0; i < work->count; i++)
        work->waiting[i]->chosen = false;
    for (size_t i = 0; i < work->count && work->chosen_count < most; i++) {
        struct job *job = work->waiting[i];
        if (work->closing && job->event->refusal == OUTCOME_NONE)
            continue;
        if (job->held || job->slow || job->suspect || (job->before && !is_done(job->before) && !job->before->chosen))
            continue;
        if (work->chosen_count > 0 && job->was_held != work->chosen[0]->was_held)
            break;
        if (store->distributed && work->chosen_count > 0 && !pipeline_same_project(job, work->chosen[0]))
            continue;
        job->chosen = true;
        work->chosen[work->chosen_count++] = job;
    }
}

/* An event that is to have all the time there is, when all others had their turn. Long tries have their pauses, too. */
static void choose_slow(struct store *store, struct work *work)
{
    int64_t now = clock_monotonic_ms();

    for (size_t i = 0; i < work->count && !work->closing && now >= store->next_long_try; i++) {
        struct job *job = work->waiting[i];
        if (!job->slow || job->suspect || (job->before && !is_done(job->before)))
            continue;
        store->next_long_try = now + 2 * (int64_t)store->conf->db_timeout_ms;
        work->long_try = true;
        work->chosen[work->chosen_count++] = job;
        return;
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

/* The pipeline is committed. What the rule refuses is set aside next. The next one may be larger, unless there are
 * refused ones, which seldom come alone. */
static void take_verdicts(struct store *store, struct work *work, int64_t microseconds)
{
    int64_t applied = 0, rejected = 0;

    for (size_t i = 0; i < work->chosen_count; i++) {
        struct job *job = work->chosen[i];
        struct event *event = job->event;
        event->outcome = job->verdict;
        event->waited = event->waited || job->held;
        if (job->verdict == OUTCOME_NONE && *job->detail && !job->held) {
            job->field = FIELD_COUNT;
            faults_refuse(job);
        }
        if (strcmp(job->detail, SET_ASIDE) == 0) /* with its reason */
            event->outcome = event->refusal;
        if (job->held && job->before && job->before->chosen && !job->before->held)
            job->held = false; /* the one before it was not applied, but refused: that is no reason to wait */
        if (is_done(job))
            tries_forget(&store->tries, event);
        rejected += is_done(job) && event->refusal != OUTCOME_NONE;
        applied += is_done(job) && event->refusal == OUTCOME_NONE;
    }
    work->among -= least(work->among, work->chosen_count);
    if (rejected == 0) {
        work->part = least(2 * work->part, (size_t)store->conf->batch);
        store->part += work->chosen_count >= store->part ? store->part / 4 + 1 : 0;
    }
    if (work->among > 0)
        work->part = least(work->part, (work->among + 1) / 2);
    if (applied > 0) {
        store->commits++;
        work->stuck = 0;
        work->probed = false;
        faults_prove(store, work, work->chosen[0]);
    }
    metrics_observe(METRIC_BATCH_EVENTS, applied + rejected);
    metrics_observe(METRIC_COMMIT_SECONDS, microseconds);
    metrics_add(METRIC_REJECTED, rejected);
}

/* The pipeline was undone, or is in doubt. Of several the first half is tried next, then half of what is left of them:
 * so the one at fault is found. */
static void take_failure(struct store *store, struct work *work, const struct attempt *attempt, int64_t microseconds)
{
    enum sqlstate_class class = faults_classify(attempt);
    size_t count = work->chosen_count;
    bool was_held = work->chosen[0]->was_held;

    for (size_t i = 0; i < count; i++)
        work->chosen[i]->event->waited = true; /* it may be applied all the same, or others be before it */
    if (nodes_blamed(store, work, attempt, class, microseconds / 1000)) {
        work->long_try = false;
        return;
    }
    if (class == SQLSTATE_FAULT)
        store->part = least(store->part, SMALL);
    work->among = 0;
    if (count == 1) {
        faults_note(store, work, attempt, class);
    } else if (class != SQLSTATE_OUTAGE) {
        size_t few = count > SMALL ? SMALL : 1; /* a failure that takes long is worse than a few more commits */
        work->among = count;
        work->part = class == SQLSTATE_FAULT ? (count + 1) / 2 : few;
    } else if (attempt->crashed) {
        store->alone = 2 * count; /* which one it was shows when each is alone; others come between them, so more */
    }
    if (count > 1 && !was_held && (class == SQLSTATE_TIMEOUT || class == SQLSTATE_HELD))
        store->batch = work->part; /* the deadline may come before the one is found */
    work->long_try = false;
    if (class == SQLSTATE_OUTAGE) {
        store->batch = least((count + 1) / 2, store->batch);
        connection_failed_by(store, attempt->error);
    }
}

/* It is not the one ticket that waits for a lock. Do all, or does the database take others? */
static bool may_pass(struct store *store, struct work *work, int64_t now)
{
    int64_t project = event_project(work->chosen[0]->event);
    char state[6];

    if (now >= work->patience)
        return false;
    work->stuck = 0;
    if (session_probe(store, project, state))
        return true;
    if (store->distributed)
        nodes_refuse(store, work, project, state, clock_monotonic_ms() - now);
    else if (store->connection && sqlstate_classify(state) == SQLSTATE_OUTAGE)
        connection_failed(store, "it takes no event at all", state);
    return store->distributed && store->connection;
}

/* Whether something is left to be done though the deadline has passed: setting aside has time of its own. */
static bool must_end(const struct work *work)
{
    bool refused = false;

    for (size_t i = 0; i < work->count; i++)
        refused = refused || (work->waiting[i]->event->refusal != OUTCOME_NONE && !work->waiting[i]->held);
    return refused || (work->suspect > 0 && !work->probed);
}

/* Why it is held; "": it was not tried. */
static const char *why_held(const struct job *job)
{
    if (*job->detail)
        return job->detail;
    if (job->held)
        return "others hold what it needs";
    return job->before && !is_done(job->before) ? "an event before it waits" : "";
}

/* Tries the next pipeline. False: nothing can be tried before something changes: the connection, or a lock of others.
 */
static bool step(struct store *store, struct work *work, int64_t deadline)
{
    int64_t now = clock_monotonic_ms();

    if (!store->connection && now < store->next_try)
        return false;
    if (!store->connection) {
        bool distributed = store->distributed;
        if (!session_open(store, deadline > now ? deadline : now + 1))
            return false;
        for (size_t i = 0; i < work->count && store->distributed && !distributed; i++)
            work->waiting[i]->event->waited = true; /* lanes change: see queue_divide_by_project */
        nodes_hold(store, work);
    }
    if (work->stuck > 1 && !may_pass(store, work, now))
        return false;
    choose(store, work, store->alone > 0 ? 1 : least(work->part, store->batch));
    if (work->chosen_count == 0 && (work->suspect == 0 || work->probed))
        choose_slow(store, work);
    if (work->suspect > 0 && !work->probed && (work->chosen_count == 0 || work->suspect > 1)) {
        faults_probe(store, work);
        return true;
    }
    if (work->chosen_count == 0)
        return false;
    int64_t began = clock_monotonic_us();
    struct attempt attempt = pipeline_run(store, work->chosen, work->chosen_count, work->long_try);
    int64_t took = clock_monotonic_us() - began;
    bool committed = !attempt.broken && !attempt.error;
    if (committed || work->chosen_count > 1)
        keep_pace(store, work->chosen_count, took, committed);
    if (!committed) {
        take_failure(store, work, &attempt, took);
        PQclear(attempt.error);
        return true;
    }
    if (work->long_try) /* and with success: others have as much time now, not two time-outs */
        store->next_long_try = clock_monotonic_ms() + took / 1000;
    work->long_try = false;
    store->alone -= store->alone > 0;
    connection_healthy(store);
    take_verdicts(store, work, took);
    forget_done(work);
    return true;
}

void store_apply(struct store *store, struct event **events, size_t count, int64_t deadline)
{
    struct work work = {
        .jobs = calloc(count, sizeof(*work.jobs)),
        .waiting = calloc(count, sizeof(*work.waiting)),
        .chosen = calloc(count, sizeof(*work.chosen)),
        .count = count,
        .part = store->part,
        .patience = clock_monotonic_ms() + store->conf->db_timeout_ms / 5,
    };

    if (!work.jobs || !work.waiting || !work.chosen)
        goto out;
    pipeline_sort(events, count, work.jobs, work.waiting);
    faults_recall(store, &work);
    nodes_try(store);
    nodes_hold(store, &work);
    if (store->connection && clock_monotonic_ms() >= store->journal_due)
        (void)!session_prepare_journal(store, deadline);
    for (bool tried = false; work.count > 0 && !store_must_stop(store); tried = true) {
        int64_t left = deadline - clock_monotonic_ms();
        work.closing = tried && left <= 0;
        if (work.closing && (!must_end(&work) || left <= -store->conf->db_timeout_ms))
            break;
        if (step(store, &work, deadline))
            continue;
        if (store->connection || clock_monotonic_ms() >= deadline)
            break;
        connection_back_off(store, deadline);
    }
    for (size_t i = 0; i < work.count; i++) {
        struct job *job = work.waiting[i];
        job->event->held = store->connection || job->suspect; /* others may be taken */
        job->event->away = job->away;
        snprintf(job->event->why, sizeof(job->event->why), "%.95s", why_held(job));
    }

    /* A primary that was left by its standby, which now is one, commits nothing any more and keeps its locks. */
    int64_t now = clock_monotonic_ms();
    if (work.count < count || !store->stuck_since)
        store->stuck_since = now;
    if (work.count > 0 && store->connection && now - store->stuck_since > store->conf->db_timeout_ms &&
        connection_has_other_hosts(store)) {
        connection_failed(store, "what holds the locks does not end: another host may be the primary", "55P03");
        store->stuck_since = 0;
    }
out:
    free(work.jobs);
    free(work.waiting);
    free(work.chosen);
}
