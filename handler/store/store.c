/* Batches and what becomes of them: committed, tried again, or freed of the event that PostgreSQL refuses. */
#include "store/store.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "store/store_pipeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The verdict on an event that PostgreSQL refuses: what it names, never what the event holds. `column` and `constraint`
 * may be NULL or empty. */
static void refuse_by_sqlstate(struct event *event, const char *state, const char *column, const char *constraint)
{
    enum field field = column && *column ? event_field_by_column(column) : FIELD_COUNT;
    struct text pointer = {0}, detail = {0};

    text_append(&pointer, field < FIELD_COUNT ? "/ticket/" : "");
    text_append(&pointer, field < FIELD_COUNT ? event_fields[field].name : "");
    text_append_format(&detail, "PostgreSQL refuses it with SQLSTATE %.5s", state);
    if (column && *column)
        text_append_format(&detail, ", column %.63s", column);
    if (constraint && *constraint)
        text_append_format(&detail, ", constraint %.63s", constraint);
    if (!pointer.failed && !detail.failed) {
        event_refuse(event, OUTCOME_UNPROCESSABLE, pointer.bytes, detail.bytes);
        log_line(LOG_WARNING, "event refused by the database", LOG_TEXT("detail", detail.bytes));
    }
    event->refusal = OUTCOME_UNPROCESSABLE;
    text_free(&pointer);
    text_free(&detail);
}

static void refuse_by_error(struct event *event, const PGresult *error)
{
    refuse_by_sqlstate(event, PQresultErrorField(error, PG_DIAG_SQLSTATE),
                       PQresultErrorField(error, PG_DIAG_COLUMN_NAME),
                       PQresultErrorField(error, PG_DIAG_CONSTRAINT_NAME));
}

/* The same by what vcc.apply_events returned: "SQLSTATE|column|constraint". */
static void refuse_by_verdict(struct event *event, struct verdict *verdict)
{
    char *rest = verdict->refusal, *state = strsep(&rest, "|"), *column = strsep(&rest, "|");
    refuse_by_sqlstate(event, state, column, rest);
}

#define JOURNAL "ticket_events" /* so begin the names of its partitions */

#define TOLERANT_MS 10000 /* how long a refused event makes others expected */

#define FASTER 8 /* where several are refused, the next is tried by itself, then so many times as many, and so on */

/* The part of a batch that is tried next. */
struct range {
    size_t from, to, count;
    size_t bad;   /* the end of a part that begins at `from` and holds an event that is refused; 0: none known */
    size_t most;  /* events of the next part */
    bool careful; /* one was refused already */
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

/* The next part after one that was committed: what is left, but for a search the half of what is suspected. */
static void advance(const struct store *store, struct range *range)
{
    range->from = range->to;
    if (range->bad > range->from) {
        range->to = range->from + (range->bad - range->from + 1) / 2;
    } else {
        range->bad = 0;
        range->to = least(range->count, range->from + least(range->most, store->batch));
        range->most = least(range->most * FASTER, range->count); /* it does not grow out of its type */
    }
}

/* Which of the suspected events PostgreSQL means, by the row that it names, or `to`. A guess, for a trigger of the
 * user's may have been at another row. "Failing row contains (101, 5, ...)": in every language the key comes first. */
static size_t guess(struct event **events, size_t from, size_t to, const PGresult *error)
{
    const char *detail = PQresultErrorField(error, PG_DIAG_MESSAGE_DETAIL);
    int64_t project, ticket;

    if (!detail || sscanf(detail, "%*[^(](%" SCNd64 ", %" SCNd64, &project, &ticket) != 2)
        return to;
    while (from < to && (events[from]->values[FIELD_project_id].number != project ||
                         events[from]->values[FIELD_ticket_id].number != ticket))
        from++;
    return from;
}

/* Whether an event of the same ticket is applied before it in its part. */
static bool follows_another(struct event **events, size_t from, size_t at)
{
    while (from < at && (events[from]->refusal != OUTCOME_NONE || !pipeline_same_ticket(events[from], events[at])))
        from++;
    return from < at;
}

/* From now on, and for a while, calls leave out what a constraint refuses. Not always: it takes a subtransaction. */
static void be_tolerant(struct store *store)
{
    store->tolerant_until = clock_monotonic_ms() + TOLERANT_MS;
}

/* What the end of a run means for its events. */
static enum sqlstate_class classify(const struct run *run)
{
    if (run->broken)
        return SQLSTATE_RECONNECT;
    const char *state = PQresultErrorField(run->error, PG_DIAG_SQLSTATE);
    const char *table = PQresultErrorField(run->error, PG_DIAG_TABLE_NAME);
    if (state && table && strcmp(state, "23505") == 0 && strncmp(table, JOURNAL, strlen(JOURNAL)) == 0)
        return SQLSTATE_TRY_AGAIN; /* the journal has one of them: another session was faster */
    return sqlstate_classify(state);
}

/* Draws the conclusion from a failed run: what to try next, and whether with the same connection. */
static void draw_conclusion(struct store *store, struct event **events, struct range *range, const struct run *run)
{
    size_t length = range->to - range->from, from = range->from + run->from, to = range->from + run->to;
    enum sqlstate_class class = classify(run);

    for (size_t i = range->from; class != SQLSTATE_EVENT && i < range->to; i++)
        events[i]->repeat = true; /* it may be committed all the same, or by another session */
    if (class == SQLSTATE_EVENT) {
        if (!run->tolerant && store->apply == &statement_apply) {
            be_tolerant(store); /* the same again may do without the one */
            return;
        }
        size_t suspect = to - from > 1 ? guess(events, from, to, run->error) : to;
        if (suspect < to && !events[suspect]->alone) {
            events[suspect]->alone = true; /* the same again shows whether it is the one */
        } else if (to - from > 1) {
            range->bad = to;
            range->to = from + (to - from) / 2;
        } else if (follows_another(events, range->from, from)) {
            range->bad = to; /* the one before it may be refused at the commit, and this one be good without it */
            range->to = from;
        } else if (events[from]->refusal == OUTCOME_NONE) {
            refuse_by_error(events[from], run->error);
            range->bad = 0;
            if (range->careful) { /* all before it are good: it is set aside with them, then come those behind it */
                range->to = to;
                range->most = 1;
            }
            range->careful = true;
        } else {
            connection_failed_by(store, run->error); /* not even set aside: vcc.rejected_events is broken */
        }
    } else if (class == SQLSTATE_TRY_AGAIN) {
        log_line(LOG_DEBUG, "trying again", LOG_TEXT("sqlstate", PQresultErrorField(run->error, PG_DIAG_SQLSTATE)));
        length = least((length + 1) / 2, store->batch); /* less at once meets fewer others, and takes less time */
        range->to = range->from + length;
        range->most = least(range->most, length);
        store->next_try = clock_monotonic_ms() + 1 + clock_realtime_us() % 20;
    } else {
        store->batch = least((length + 1) / 2, store->batch);
        connection_failed_by(store, run->error);
    }
}

/* They are committed, but for those that a constraint refused: these come to the end, in their order, to be set aside
 * next. Returns how many have their verdicts. */
static size_t take_verdicts(struct store *store, struct event **events, struct verdict *verdicts, size_t count,
                            int64_t microseconds)
{
    size_t settled = 0;
    int64_t rejected = 0;

    for (size_t i = 0; i < count; i++) {
        struct event *event = events[i];
        if (*verdicts[i].refusal) {
            refuse_by_verdict(event, &verdicts[i]);
            be_tolerant(store);
            continue;
        }
        event->outcome = verdicts[i].outcome;
        rejected += event->refusal != OUTCOME_NONE;
        if (event->outcome == OUTCOME_UNPROCESSABLE && event->refusal == OUTCOME_NONE)
            event_refuse(event, OUTCOME_UNPROCESSABLE, "", "it was set aside before");
        memmove(&events[settled + 1], &events[settled], (i - settled) * sizeof(*events));
        events[settled++] = event;
    }
    metrics_observe(METRIC_BATCH_EVENTS, (int64_t)settled);
    metrics_observe(METRIC_COMMIT_SECONDS, microseconds);
    metrics_add(METRIC_REJECTED, rejected);
    return settled;
}

void store_apply(struct store *store, struct event **events, size_t count, int64_t deadline)
{
    struct range range = {.from = 0, .to = least(count, store->batch), .count = count, .most = count};
    struct verdict *verdicts = calloc(count, sizeof(*verdicts));
    bool tried = false;

    pipeline_sort(events, count);
    if (store->connection && clock_monotonic_ms() >= store->journal_due)
        (void)!connection_prepare_journal(store, deadline);
    while (verdicts && range.from < count) {
        int64_t now = clock_monotonic_ms();
        if (store_must_stop(store) || (tried && now >= deadline))
            break;
        if (now < store->next_try && (tried || !store->connection)) {
            if (now >= deadline)
                break;
            connection_back_off(store, deadline);
            continue;
        }
        tried = true;
        if (!store->connection && !connection_open(store, deadline > now ? deadline : now + 1))
            continue;

        if (now < store->tolerant_until)
            range.to = pipeline_turn(events, range.from, range.to);
        int64_t began = clock_monotonic_us();
        struct run run = pipeline_run(store, events + range.from, range.to - range.from, verdicts);
        int64_t took = clock_monotonic_us() - began;
        keep_pace(store, range.to - range.from, took);
        if (run.broken || run.error) {
            draw_conclusion(store, events, &range, &run);
            PQclear(run.error);
            continue;
        }
        connection_healthy(store);
        range.to = range.from + take_verdicts(store, events + range.from, verdicts, range.to - range.from, took);
        advance(store, &range);
    }
    /* A primary that was left by its standby, which now is one, commits nothing any more and keeps its locks. */
    if (range.from < count && store->connection && !store_must_stop(store) && connection_has_other_hosts(store))
        connection_failed(store, "what holds the locks does not end: another host may be the primary", "55P03");
    free(verdicts);
}
