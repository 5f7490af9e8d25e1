/* The last station of the path: a batch of events becomes one pipeline, one Sync, one commit. */
#include "store.h"
#include "clock.h"
#include "log.h"
#include "sql.h"
#include "store_connection.h"
#include "text.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OID   25 /* pg_type.oid of text */
#define FIXED      6  /* parameters of vcc.upsert_ticket before the columns */
#define PARAMETERS (FIXED + FIELD_COUNT)

/* The parameters of one call, as libpq wants them. Text is sent as text, all else binary. */
struct parameters {
    const char *values[PARAMETERS];
    int lengths[PARAMETERS];
    int formats[PARAMETERS];
    uint64_t integers[PARAMETERS];
    struct text clears, extra;
    int count;
};

static void add_text(struct parameters *p, const char *text)
{
    p->values[p->count] = text;
    p->formats[p->count++] = 0;
}

static void add_binary(struct parameters *p, const void *bytes, size_t length)
{
    p->values[p->count] = bytes;
    p->lengths[p->count] = (int)length;
    p->formats[p->count++] = 1;
}

/* bigint, or timestamptz: microseconds since 2000. */
static void add_integer(struct parameters *p, int64_t number)
{
    p->integers[p->count] = htobe64((uint64_t)number);
    add_binary(p, &p->integers[p->count], sizeof(uint64_t));
}

static void append_int32(struct text *array, size_t number)
{
    uint32_t network = htobe32((uint32_t)number);
    text_append_bytes(array, (const char *)&network, sizeof(network));
}

/* An array of texts in the binary form of PostgreSQL's array_recv: dimensions, has nulls, element type, then length and
 * lower bound of the dimension, then length and bytes of each element. */
static void begin_array(struct text *array, size_t count)
{
    const size_t head[] = {1, 0, TEXT_OID, count, 1};
    for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++)
        append_int32(array, head[i]);
}

static void append_element(struct text *array, const char *element)
{
    append_int32(array, strlen(element));
    text_append(array, element);
}

static void add_array(struct parameters *p, const struct text *array)
{
    if (array->length)
        add_binary(p, array->bytes, array->length);
    else
        add_text(p, NULL);
}

static void add_clears(struct parameters *p, const struct event *event)
{
    size_t count = 0;
    for (int f = 0; f < FIELD_COUNT; f++)
        count += event->values[f].presence == CLEARED;
    if (count)
        begin_array(&p->clears, count);
    for (int f = 0; count && f < FIELD_COUNT; f++)
        if (event->values[f].presence == CLEARED)
            append_element(&p->clears, event_fields[f].column);
    add_array(p, &p->clears);
}

static void add_extra_names(struct parameters *p, const struct event *event)
{
    if (event->extra_count)
        begin_array(&p->extra, event->extra_count);
    for (size_t i = 0; i < event->extra_count; i++)
        append_element(&p->extra, event->extra[i]);
    add_array(p, &p->extra);
}

static void add_value(struct parameters *p, enum field_type type, const struct value *value)
{
    if (value->presence != PRESENT)
        add_text(p, NULL);
    else if (type == TYPE_TEXT)
        add_text(p, value->text);
    else
        add_integer(p, type == TYPE_TIME ? value->number - POSTGRES_EPOCH_US : value->number);
}

/* Sends the call that sets a body aside. */
static bool send_refused(PGconn *connection, struct event *event)
{
    struct parameters p = {0};
    size_t length;
    const char *body = event_received(event, &length);

    add_binary(&p, event->id, sizeof(event->id));
    add_integer(&p, event->received_at - POSTGRES_EPOCH_US);
    add_integer(&p, event_project(event));
    add_binary(&p, body ? body : "", length);
    add_text(&p, event_reason(event));
    return PQsendQueryParams(connection, sql_reject_event, p.count, NULL, p.values, p.lengths, p.formats, 0);
}

static bool send_forget(PGconn *connection, const struct event *event)
{
    struct parameters p = {0};

    add_binary(&p, event->id, sizeof(event->id));
    return PQsendQueryParams(connection, sql_forget_rejected, p.count, NULL, p.values, p.lengths, p.formats, 0);
}

/* How many statements an event is. */
static int statements(const struct event *event)
{
    return event->was_rejected && event->refusal == OUTCOME_NONE ? 2 : 1;
}

/* Sends what applies an event. False: out of memory, or the connection is broken. */
static bool send_event(PGconn *connection, struct event *event)
{
    struct parameters p;
    const char *statement = event->action == ACTION_DELETE ? "delete" : "upsert";

    if (event->refusal != OUTCOME_NONE)
        return send_refused(connection, event);
    p.count = 0;
    p.clears = p.extra = (struct text){0};
    add_binary(&p, event->id, sizeof(event->id));
    add_integer(&p, event->received_at - POSTGRES_EPOCH_US);
    if (event->action == ACTION_DELETE) {
        add_text(&p, event->body);
        add_integer(&p, event->values[FIELD_project_id].number);
        add_integer(&p, event->values[FIELD_ticket_id].number);
    } else {
        add_text(&p, event_action_name(event->action));
        add_text(&p, event->body);
        add_clears(&p, event);
        add_extra_names(&p, event);
        for (int f = 0; f < FIELD_COUNT; f++)
            add_value(&p, event_fields[f].type, &event->values[f]);
    }
    bool good = !p.clears.failed && !p.extra.failed &&
                PQsendQueryPrepared(connection, statement, p.count, p.values, p.lengths, p.formats, 0);
    text_free(&p.clears);
    text_free(&p.extra);
    return good && (statements(event) == 1 || send_forget(connection, event));
}

/* How one pipeline went. */
struct run {
    bool broken;     /* no answer in time, or the connection broke */
    PGresult *error; /* the first error; NULL: committed */
    size_t culprit;  /* index of the event that it belongs to; the count of events where it came at the commit */
};

/* Sends the events and one Sync, and reads the answers. `results` gets an outcome for each; they count only when the
 * commit is known, which is when the Sync is answered with no error before it. */
static struct run run_batch(struct store *store, struct event **events, size_t count, enum outcome *results)
{
    int64_t deadline = clock_monotonic_ms() + store->conf->db_timeout_ms;
    struct run run = {.broken = !PQenterPipelineMode(store->connection)};

    for (size_t i = 0; i < count && !run.broken; i++)
        run.broken = !send_event(store->connection, events[i]);
    if (!run.broken)
        run.broken = !PQpipelineSync(store->connection);

    int part = 0; /* statements of event i that are done */
    for (size_t i = 0; !run.broken;) {
        PGresult *result = connection_result(store, deadline, &run.broken);
        ExecStatusType status = PQresultStatus(result);
        if (!result) { /* the end of what one statement returned */
            if (i < count && ++part == statements(events[i])) {
                part = 0;
                i++;
            }
            continue;
        }
        if (status == PGRES_TUPLES_OK && i < count && part == 0 && PQntuples(result) == 1)
            results[i] = events[i]->refusal ? events[i]->refusal : outcome_by_result(PQgetvalue(result, 0, 0));
        if (status == PGRES_FATAL_ERROR && !run.error) {
            run.error = result;
            run.culprit = i;
            continue;
        }
        PQclear(result);
        if (status == PGRES_PIPELINE_SYNC)
            break;
    }
    if (!run.broken)
        run.broken = !PQexitPipelineMode(store->connection);
    return run;
}

/* The verdict on an event that PostgreSQL refuses: what it names, never what the event holds. */
static void refuse(struct event *event, const PGresult *error)
{
    const char *column = PQresultErrorField(error, PG_DIAG_COLUMN_NAME);
    const char *constraint = PQresultErrorField(error, PG_DIAG_CONSTRAINT_NAME);
    const char *state = PQresultErrorField(error, PG_DIAG_SQLSTATE);
    enum field field = column ? event_field_by_column(column) : FIELD_COUNT;
    struct text pointer = {0}, detail = {0};

    text_append(&pointer, field < FIELD_COUNT ? "/ticket/" : "");
    text_append(&pointer, field < FIELD_COUNT ? event_fields[field].name : "");
    text_append_format(&detail, "PostgreSQL refuses it with SQLSTATE %.5s", state);
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

/* The part of a batch that is tried next. */
struct range {
    size_t from, to, count;
};

/* Draws the conclusion from a failed run: what to try next, and whether with the same connection. */
static void conclude(struct store *store, struct event **events, struct range *range, const struct run *run)
{
    const char *state = run->error ? PQresultErrorField(run->error, PG_DIAG_SQLSTATE) : NULL;
    size_t length = range->to - range->from;

    size_t culprit = range->from + (length == 1 ? 0 : run->culprit);

    if (!run->broken && state && sqlstate_classify(state) == SQLSTATE_EVENT) {
        if (culprit == range->to) {
            range->to = range->from + length / 2; /* refused at the commit, by whose fault is not said: halve */
        } else if (events[culprit]->refusal == OUTCOME_NONE) {
            refuse(events[culprit], run->error);
            range->to = culprit + 1; /* all before it are good: it is set aside with them, then come all behind it */
        } else {
            connection_failed_by(store, run->error); /* not even set aside: vcc.rejected_events is broken */
        }
    } else if (!run->broken && state && sqlstate_classify(state) == SQLSTATE_TRY_AGAIN) {
        log_line(LOG_DEBUG, "trying again", LOG_TEXT("sqlstate", state));
        store->next_try = clock_monotonic_ms() + 1 + clock_realtime_us() % 20;
    } else {
        store->batch = length > 1 ? length / 2 : 1;
        connection_failed_by(store, run->error);
    }
}

static int64_t compare_events(const struct event *a, const struct event *b)
{
    static const enum field key[] = {FIELD_project_id, FIELD_ticket_id};
    for (int i = 0; i < 2; i++)
        if (a->values[key[i]].number != b->values[key[i]].number)
            return a->values[key[i]].number < b->values[key[i]].number ? -1 : 1;
    return (int64_t)a->turn - b->turn;
}

static int by_ticket(const void *a, const void *b)
{
    int64_t order = compare_events(*(struct event *const *)a, *(struct event *const *)b);
    return (order > 0) - (order < 0);
}

size_t store_batch(const struct store *store)
{
    size_t most = (size_t)store->conf->batch;
    return store->batch < most ? store->batch : most;
}

void store_settle(struct store *store, struct event **events, size_t count, int64_t deadline)
{
    struct range range = {.from = 0, .to = count, .count = count};
    enum outcome *results = calloc(count, sizeof(*results));
    bool tried = false;

    for (unsigned i = 0; i < count; i++)
        events[i]->turn = i;
    qsort(events, count, sizeof(*events), by_ticket);
    while (results && range.from < count) {
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

        struct run run = run_batch(store, events + range.from, range.to - range.from, results);
        if (run.broken || run.error) {
            conclude(store, events, &range, &run);
            PQclear(run.error);
            continue;
        }
        for (size_t i = range.from; i < range.to; i++)
            events[i]->outcome = results[i - range.from];
        connection_healthy(store);
        if (store->batch <= range.to - range.from && store->batch < (size_t)store->conf->batch)
            store->batch *= 2;
        range.from = range.to;
        range.to = count;
    }
    free(results);
}
