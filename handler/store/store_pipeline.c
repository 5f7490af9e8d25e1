/* The last station of the path: events become arrays, a column each, and one call applies all of them. */
#include "store/store_pipeline.h"
#include "base/clock.h"
#include "base/text.h"
#include "store/sql.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* pg_type.oid, the same in every PostgreSQL (src/include/catalog/pg_type.dat) */
#define INT8        20
#define TEXT        25
#define TIMESTAMPTZ 1184
#define UUID        2950

#define PARAMETERS 10 /* of the function that has most */

/* -- parameters, all in the binary form of their types ------------------------------------------------------------- */

struct parameters {
    struct text bytes[PARAMETERS];
    int count;
    size_t head; /* bytes before each value: the length, where it is the element of an array */
};

static void append_int32(struct text *bytes, size_t number)
{
    uint32_t network = htobe32((uint32_t)number);
    text_append_bytes(bytes, (const char *)&network, sizeof(network));
}

/* bigint, or timestamptz: microseconds since POSTGRES_EPOCH_US. */
static void append_int64(struct text *bytes, int64_t number)
{
    uint64_t network = htobe64((uint64_t)number);
    text_append_bytes(bytes, (const char *)&network, sizeof(network));
}

static const char *value_of(const struct text *parameter, size_t head)
{
    if (!parameter->bytes)
        return "";
    return head && memcmp(parameter->bytes, "\xff\xff\xff\xff", head) == 0 ? NULL : parameter->bytes + head;
}

static bool send_statement(const struct store *store, const struct statement *statement, struct parameters *p)
{
    const char *values[PARAMETERS];
    int lengths[PARAMETERS], formats[PARAMETERS];
    bool good = true;

    for (int i = 0; i < p->count; i++) {
        good = good && !p->bytes[i].failed;
        values[i] = value_of(&p->bytes[i], p->head);
        lengths[i] = (int)(p->bytes[i].length - p->head);
        formats[i] = 1;
    }
    if (good && connection_is_pooled(store->conf))
        good = PQsendQueryParams(store->connection, statement->sql, p->count, NULL, values, lengths, formats, 0);
    else if (good)
        good = PQsendQueryPrepared(store->connection, statement->name, p->count, values, lengths, formats, 0);
    for (int i = 0; i < p->count; i++)
        text_free(&p->bytes[i]);
    return good;
}

/* -- a column of a call: an array of one element for each event ---------------------------------------------------- */

/* In the form of array_recv (src/backend/utils/adt/arrayfuncs.c), each element is its length and its bytes. */
static void append_element(struct text *array, const void *bytes, size_t length)
{
    append_int32(array, length);
    text_append_bytes(array, bytes, length);
}

static void append_null(struct text *array)
{
    append_int32(array, (size_t)-1);
}

static void append_integer(struct text *array, int64_t number)
{
    append_int32(array, sizeof(number));
    append_int64(array, number);
}

static void append_id(struct text *array, const struct event *event)
{
    append_element(array, event->id, sizeof(event->id));
}

static void append_received_at(struct text *array, const struct event *event)
{
    append_integer(array, event->received_at - POSTGRES_EPOCH_US);
}

static void append_project_id(struct text *array, const struct event *event)
{
    append_integer(array, event->values[FIELD_project_id].number);
}

static void append_ticket_id(struct text *array, const struct event *event)
{
    append_integer(array, event->values[FIELD_ticket_id].number);
}

static void append_action(struct text *array, const struct event *event)
{
    const char *name = action_name(event->action);
    append_element(array, name, strlen(name));
}

static void append_body(struct text *array, const struct event *event)
{
    append_element(array, event->body, event->length);
}

/* Begins the next member of a JSON object. */
static void append_name(struct text *object, const char *name)
{
    text_append(object, object->length ? "," : "{");
    text_append_json(object, name);
    text_append(object, ":");
}

/* Ends the object; one without members is `empty`, which may be NULL. */
static void append_object(struct text *array, struct text *object, const char *empty)
{
    if (object->length)
        text_append(object, "}");
    else if (empty)
        text_append(object, empty);
    if (object->length)
        append_element(array, object->bytes, object->length);
    else
        append_null(array);
    array->failed = array->failed || object->failed;
    text_free(object);
}

/* A string that timestamptz reads alike under every setting of the session. An offset may have moved a time into the
 * year before 1, which is 1 BC, or into 10000. */
static void append_timestamp(struct text *object, int64_t unix_us)
{
    int64_t fraction = (unix_us % 1000000 + 1000000) % 1000000;
    time_t seconds = (unix_us - fraction) / 1000000;
    struct tm utc = {0};

    gmtime_r(&seconds, &utc);
    int year = utc.tm_year + 1900;
    text_append_format(object, "\"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ%s\"", year > 0 ? year : 1 - year, utc.tm_mon + 1,
                       utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, (int)fraction, year > 0 ? "" : " BC");
}

static void append_attributes(struct text *array, const struct event *event)
{
    struct text object = {0};

    for (int f = 0; f < FIELD_COUNT; f++) {
        const struct value *value = &event->values[f];
        if (value->presence == ABSENT || event_fields[f].type == TYPE_KEY)
            continue;
        append_name(&object, event_fields[f].column);
        if (value->presence == CLEARED) {
            text_append(&object, "null");
        } else if (event_fields[f].type == TYPE_TEXT) {
            text_append_json(&object, value->text);
        } else if (event_fields[f].type == TYPE_TIME) {
            append_timestamp(&object, value->number);
        } else {
            text_append_format(&object, "%" PRId64, value->number);
        }
    }
    append_object(array, &object, "{}");
}

static void append_extra_names(struct text *array, const struct event *event)
{
    struct text object = {0};

    for (size_t i = 0; i < event->extra_count; i++) {
        append_name(&object, event->extra[i]);
        text_append(&object, "null");
    }
    append_object(array, &object, NULL);
}

/* The parameters of vcc.apply_event, and of vcc.apply_events but for the flags at its end. */
static const struct column {
    size_t type;
    void (*append)(struct text *array, const struct event *event);
} columns[] = {
    {UUID, append_id},         {TIMESTAMPTZ, append_received_at}, {TEXT, append_action},     {TEXT, append_body},
    {INT8, append_project_id}, {INT8, append_ticket_id},          {TEXT, append_attributes}, {TEXT, append_extra_names},
};

#define COLUMNS (int)(sizeof(columns) / sizeof(columns[0]))

/* -- calls --------------------------------------------------------------------------------------------------------- */

static void append_boolean(struct text *bytes, bool value)
{
    text_append_bytes(bytes, value ? "\1" : "\0", 1);
}

static bool send_apply(const struct store *store, struct event **events, size_t count, bool tolerant)
{
    struct parameters p = {.count = COLUMNS + 2};

    for (int i = 0; i < COLUMNS; i++) {
        /* Dimensions, whether there are NULLs, type; number of elements, index of the first. */
        const size_t head[] = {1, 1, columns[i].type, count, 1};
        for (size_t h = 0; h < sizeof(head) / sizeof(head[0]); h++)
            append_int32(&p.bytes[i], head[h]);
        for (size_t e = 0; e < count; e++)
            columns[i].append(&p.bytes[i], events[e]);
    }
    bool repeats = false;
    for (size_t e = 0; e < count; e++)
        repeats = repeats || events[e]->repeat;
    append_boolean(&p.bytes[COLUMNS], repeats);
    append_boolean(&p.bytes[COLUMNS + 1], tolerant && !events[0]->was_rejected);
    return send_statement(store, store->apply, &p);
}

static bool send_apply_one(const struct store *store, const struct event *event)
{
    struct parameters p = {.count = COLUMNS, .head = sizeof(int32_t)};

    for (int i = 0; i < p.count; i++)
        columns[i].append(&p.bytes[i], event);
    return send_statement(store, store->apply, &p);
}

/* Sets a body aside. */
static bool send_reject(const struct store *store, struct event *event)
{
    struct parameters p = {.count = 5};
    size_t length;
    const char *body = event_received(event, &length);

    text_append_bytes(&p.bytes[0], (const char *)event->id, sizeof(event->id));
    append_int64(&p.bytes[1], event->received_at - POSTGRES_EPOCH_US);
    append_int64(&p.bytes[2], event_project(event));
    text_append_bytes(&p.bytes[3], body ? body : "", length);
    text_append(&p.bytes[4], event_reason(event));
    return send_statement(store, &statement_reject, &p);
}

/* What was set aside is applied now. */
static bool send_forget(const struct store *store, const struct event *event)
{
    struct parameters p = {.count = 1};

    text_append_bytes(&p.bytes[0], (const char *)event->id, sizeof(event->id));
    return send_statement(store, &statement_forget, &p);
}

/* The time-outs, for this transaction. */
static bool send_timeouts(const struct store *store)
{
    struct timeouts timeouts = {0};

    connection_timeouts(store->conf, &timeouts);
    return PQsendQueryParams(store->connection, sql_set_timeouts, 3, NULL, timeouts.values, NULL, NULL, 0);
}

struct call {
    enum { TIMEOUTS, APPLY, REJECT, FORGET } kind;
    size_t from, to; /* the events that it is about */
};

/* Whether an event needs a call of its own. One that was set aside does: what is refused again is not to be forgotten,
 * so that its call must fail. */
static bool goes_alone(const struct event *event)
{
    return event->refusal != OUTCOME_NONE || event->alone || event->was_rejected;
}

/* Whether one call may apply both: no ticket may be in it twice. */
static bool go_together(const struct event *a, const struct event *b)
{
    return a->turn == b->turn && !goes_alone(a) && !goes_alone(b);
}

/* Returns how many calls, at most one and two an event. */
static size_t plan(const struct store *store, struct event **events, size_t count, struct call *calls)
{
    size_t n = 0;

    if (connection_is_pooled(store->conf))
        calls[n++] = (struct call){TIMEOUTS, 0, count};
    for (size_t i = 0; i < count; i++)
        if (events[i]->was_rejected && events[i]->refusal == OUTCOME_NONE)
            calls[n++] = (struct call){FORGET, i, i + 1};
    for (size_t i = 0, next; i < count; i = next) {
        next = i + 1;
        while (next < count && store->apply == &statement_apply && go_together(events[i], events[next]))
            next++;
        calls[n++] = (struct call){events[i]->refusal == OUTCOME_NONE ? APPLY : REJECT, i, next};
    }
    return n;
}

/* False: out of memory, or the connection is broken. */
static bool send_call(const struct store *store, struct event **events, const struct call *call, bool tolerant)
{
    switch (call->kind) {
    case TIMEOUTS:
        return send_timeouts(store);
    case APPLY:
        return store->apply == &statement_apply
                   ? send_apply(store, events + call->from, call->to - call->from, tolerant)
                   : send_apply_one(store, events[call->from]);
    case REJECT:
        return send_reject(store, events[call->from]);
    default:
        return send_forget(store, events[call->from]);
    }
}

/* Takes the next element of the text form of an array, and returns what is behind it: a quoted one is unescaped
 * (PostgreSQL manual, section 8.15.6). What does not fit is cut. */
static const char *read_element(const char *at, char *element, size_t size)
{
    bool quoted = *at == '"';
    size_t length = 0;

    for (at += quoted; *at && (quoted ? *at != '"' : *at != ',' && *at != '}'); at++) {
        if (quoted && *at == '\\' && at[1])
            at++;
        if (length + 1 < size)
            element[length++] = *at;
    }
    element[length] = '\0';
    return at + (quoted && *at == '"');
}

/* A result of vcc.apply_events. */
static void read_result(const char *word, struct verdict *verdict)
{
    verdict->outcome = strcmp(word, "refused") == 0 ? OUTCOME_UNPROCESSABLE : outcome_by_result(word);
    if (*word == '!')
        snprintf(verdict->refusal, sizeof(verdict->refusal), "%s", word + 1);
}

/* Reads a result, or an array of them: {inserted,"!23514||my check"}. */
static void read_results(const char *results, size_t count, struct verdict *verdicts)
{
    char word[REFUSAL + 1];

    if (*results != '{') {
        read_result(results, verdicts);
        return;
    }
    for (size_t i = 0; *results && *results != '}' && i < count; i++) {
        results = read_element(results + 1, word, sizeof(word));
        read_result(word, &verdicts[i]);
    }
}

static void read_call(const PGresult *result, struct event **events, const struct call *call, struct verdict *verdicts)
{
    if (PQntuples(result) != 1)
        return;
    if (call->kind == APPLY)
        read_results(PQgetvalue(result, 0, 0), call->to - call->from, verdicts + call->from);
    if (call->kind == REJECT)
        verdicts[call->from].outcome = events[call->from]->refusal;
}

struct run pipeline_run(struct store *store, struct event **events, size_t count, struct verdict *verdicts)
{
    int64_t deadline = clock_monotonic_ms() + store->conf->db_timeout_ms;
    struct call *calls = calloc(1 + 2 * count, sizeof(*calls));
    size_t wanted = calls ? plan(store, events, count, calls) : 0, done = 0;
    struct run run = {
        .broken = !calls || !PQenterPipelineMode(store->connection),
        .tolerant = clock_monotonic_ms() < store->tolerant_until,
    };

    memset(verdicts, 0, count * sizeof(*verdicts));
    for (size_t i = 0; i < wanted && !run.broken; i++)
        run.broken = !send_call(store, events, &calls[i], run.tolerant);
    if (!run.broken)
        run.broken = !PQpipelineSync(store->connection);

    while (!run.broken) {
        PGresult *result = connection_result(store, deadline, &run.broken);
        ExecStatusType status = PQresultStatus(result);
        if (!result) { /* the end of what one call returned */
            done++;
        } else if (status == PGRES_FATAL_ERROR && !run.error) {
            run.error = result;
            run.from = done < wanted ? calls[done].from : 0;
            run.to = done < wanted ? calls[done].to : count;
            continue;
        } else if (status == PGRES_TUPLES_OK && done < wanted) {
            read_call(result, events, &calls[done], verdicts);
        }
        PQclear(result);
        if (status == PGRES_PIPELINE_SYNC)
            break;
    }
    if (!run.broken)
        run.broken = !PQexitPipelineMode(store->connection);
    free(calls);
    return run;
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

bool pipeline_same_ticket(const struct event *a, const struct event *b)
{
    return compare_tickets(a, b) == 0;
}

static int by_ticket(const void *a, const void *b)
{
    const struct event *x = *(struct event *const *)a, *y = *(struct event *const *)b;
    int order = compare_tickets(x, y);
    return order ? order : compare(x->turn, y->turn);
}

static int by_round(const void *a, const void *b)
{
    const struct event *x = *(struct event *const *)a, *y = *(struct event *const *)b;
    int order = compare(x->turn, y->turn);
    return order ? order : compare_tickets(x, y);
}

void pipeline_sort(struct event **events, size_t count)
{
    for (unsigned i = 0; i < count; i++) {
        events[i]->turn = i;
        events[i]->alone = false;
    }
    qsort(events, count, sizeof(*events), by_ticket);
    for (size_t i = 0; i < count; i++)
        events[i]->turn = i > 0 && pipeline_same_ticket(events[i], events[i - 1]) ? events[i - 1]->turn + 1 : 0;
    qsort(events, count, sizeof(*events), by_round);
}

size_t pipeline_turn(struct event **events, size_t from, size_t to)
{
    size_t end = from;

    while (end < to && events[end]->turn == events[from]->turn)
        end++;
    return end;
}
