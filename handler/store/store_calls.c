/* Near the end of the path: events become arrays, one for each column, and one call applies all of them. */
#include "store/store_calls.h"
#include "base/text.h"
#include "event/digest.h"
#include "store/sql.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* pg_type.oid, the same in every PostgreSQL (src/include/catalog/pg_type.dat) */
#define BOOL        16
#define BYTEA       17
#define INT8        20
#define TEXT        25
#define TIMESTAMPTZ 1184
#define UUID        2950

/* -- elements of arrays, in the binary form of their types --------------------------------------------------------- */

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

/* In the form of array_recv (src/backend/utils/adt/arrayfuncs.c) each element is its length and its bytes. */
static bool append_element(struct text *array, const void *bytes, size_t length)
{
    append_int32(array, length);
    text_append_bytes(array, bytes, length);
    return true;
}

/* Returns that the element says nothing. */
static bool append_null(struct text *array)
{
    append_int32(array, (size_t)-1);
    return false;
}

static bool append_integer(struct text *array, int64_t number)
{
    append_int32(array, sizeof(number));
    append_int64(array, number);
    return true;
}

/* Returns the flag, for one that is not set says nothing: a column of none is sent as NULL. */
static bool append_flag(struct text *array, bool flag)
{
    append_element(array, flag ? "\1" : "\0", 1);
    return flag;
}

/* The next element of the text form of an array (PostgreSQL manual, section 8.15.2), which is begun with the first. */
static void append_name(struct text *names, const char *name)
{
    text_append(names, names->length ? ",\"" : "{\"");
    for (; *name; name++) {
        if (*name == '"' || *name == '\\')
            text_append(names, "\\");
        text_append_bytes(names, name, 1);
    }
    text_append(names, "\"");
}

/* An element that is an array of names; frees them. */
static bool append_names(struct text *array, struct text *names)
{
    bool any = names->length > 0;

    if (any) {
        text_append(names, "}");
        append_element(array, names->bytes, names->length);
    } else {
        append_null(array);
    }
    array->failed = array->failed || names->failed;
    text_free(names);
    return any;
}

/* -- columns of a call: each has an element for each event --------------------------------------------------------- */

static bool append_id(struct text *array, const struct job *job)
{
    return append_element(array, job->event->id, sizeof(job->event->id));
}

static bool append_received_at(struct text *array, const struct job *job)
{
    return append_integer(array, job->event->received_at - POSTGRES_EPOCH_US);
}

static bool append_action(struct text *array, const struct job *job)
{
    const char *name = action_name(job->event->action);
    return append_element(array, name, strlen(name));
}

static bool append_project_id(struct text *array, const struct job *job)
{
    return append_integer(array, job->event->values[FIELD_project_id].number);
}

static bool append_ticket_id(struct text *array, const struct job *job)
{
    return append_integer(array, job->event->values[FIELD_ticket_id].number);
}

static bool append_payload(struct text *array, const struct job *job)
{
    return append_element(array, job->event->body, job->event->length);
}

static bool append_digest(struct text *array, const struct job *job)
{
    uint8_t digest[DIGEST_SIZE];

    if (job->event->action != ACTION_ADD)
        return append_null(array);
    array->failed = array->failed || !digest_of(job->event->body, job->event->length, digest);
    return append_element(array, digest, sizeof(digest));
}

static bool append_waited(struct text *array, const struct job *job)
{
    return append_flag(array, job->event->waited);
}

static bool append_cleared(struct text *array, const struct job *job)
{
    struct text names = {0};

    for (int f = 0; f < FIELD_COUNT; f++)
        if (job->event->values[f].presence == CLEARED)
            append_name(&names, event_fields[f].column);
    return append_names(array, &names);
}

static bool append_extra_names(struct text *array, const struct job *job)
{
    struct text names = {0};

    for (size_t i = 0; i < job->event->extra_count; i++)
        append_name(&names, job->event->extra[i]);
    return append_names(array, &names);
}

/* The event of the ticket that must have been applied before, in this very transaction. */
static bool append_after(struct text *array, const struct job *job)
{
    const struct job *before = job->before;

    if (!before || !before->chosen || before->event->refusal != OUTCOME_NONE)
        return append_null(array);
    return append_id(array, before);
}

static bool append_retried(struct text *array, const struct job *job)
{
    return append_flag(array, job->event->was_rejected);
}

static bool append_attribute(struct text *array, const struct value *value, enum field_type type)
{
    if (value->presence != PRESENT)
        return append_null(array);
    if (type == TYPE_TEXT)
        return append_element(array, value->text, value->length);
    return append_integer(array, value->number - (type == TYPE_TIME ? POSTGRES_EPOCH_US : 0));
}

/* The first parameters of sql_apply_events; behind them is the project, and then the columns of fields.def. */
static const struct column {
    size_t type;
    bool (*append)(struct text *array, const struct job *job);
} columns[] = {
    {UUID, append_id},        {TIMESTAMPTZ, append_received_at},
    {TEXT, append_action},    {INT8, append_project_id},
    {INT8, append_ticket_id}, {TEXT, append_payload},
    {BYTEA, append_digest},   {BOOL, append_waited},
    {TEXT, append_cleared},   {TEXT, append_extra_names},
    {UUID, append_after},     {BOOL, append_retried},
};

static const size_t attribute_types[] = {[TYPE_INTEGER] = INT8, [TYPE_TEXT] = TEXT, [TYPE_TIME] = TIMESTAMPTZ};

#define COLUMNS    (int)(sizeof(columns) / sizeof(columns[0]))
#define PARAMETERS (COLUMNS + 1 + FIELD_COUNT) /* of the function that has most: two fields are keys */

/* -- calls --------------------------------------------------------------------------------------------------------- */

struct parameters {
    struct text bytes[PARAMETERS];
    bool given[PARAMETERS]; /* it is not NULL */
    int count;
};

/* Frees the parameters. */
static bool send_statement(const struct store *store, const struct statement *statement, struct parameters *p)
{
    const char *values[PARAMETERS];
    int lengths[PARAMETERS], formats[PARAMETERS];
    bool good = true;

    for (int i = 0; i < p->count; i++) {
        good = good && !p->bytes[i].failed;
        values[i] = !p->given[i] ? NULL : p->bytes[i].bytes ? p->bytes[i].bytes : "";
        lengths[i] = (int)p->bytes[i].length;
        formats[i] = 1;
    }
    if (good && session_is_pooled(store->conf))
        good = PQsendQueryParams(store->connection, statement->sql, p->count, NULL, values, lengths, formats, 0);
    else if (good)
        good = PQsendQueryPrepared(store->connection, statement->name, p->count, values, lengths, formats, 0);
    for (int i = 0; i < p->count; i++)
        text_free(&p->bytes[i]);
    return good;
}

/* The next parameter, an array of `count` elements that are still to be appended. */
static struct text *begin_array(struct parameters *p, size_t type, size_t count)
{
    /* Dimensions, whether there are NULLs, type; number of elements, index of the first. */
    const size_t head[] = {1, 1, type, count, 1};
    struct text *array = &p->bytes[p->count++];

    for (size_t h = 0; h < sizeof(head) / sizeof(head[0]); h++)
        append_int32(array, head[h]);
    return array;
}

/* A value of its own. */
static struct text *begin_value(struct parameters *p)
{
    p->given[p->count] = true;
    return &p->bytes[p->count++];
}

bool calls_send_apply(const struct store *store, struct job **jobs, size_t count)
{
    struct parameters p = {.count = 0};

    for (int i = 0; i < COLUMNS; i++) {
        struct text *array = begin_array(&p, columns[i].type, count);
        for (size_t e = 0; e < count; e++)
            p.given[i] |= columns[i].append(array, jobs[e]);
    }
    if (store->distributed)
        append_int64(begin_value(&p), jobs[0]->event->values[FIELD_project_id].number);
    else
        p.count++; /* of several projects */
    for (int f = 0; f < FIELD_COUNT; f++) {
        if (event_fields[f].type == TYPE_KEY)
            continue;
        int at = p.count;
        struct text *array = begin_array(&p, attribute_types[event_fields[f].type], count);
        for (size_t e = 0; e < count; e++)
            p.given[at] |= append_attribute(array, &jobs[e]->event->values[f], event_fields[f].type);
    }
    return send_statement(store, &statement_apply, &p);
}

/* NULL where there is none. */
static void append_kept(struct parameters *p, const char *kept)
{
    if (*kept)
        text_append(begin_value(p), kept);
    else
        p->count++;
}

bool calls_send_reject(const struct store *store, struct event *event)
{
    struct parameters p = {.count = 0};
    size_t length;
    const char *body = event_received(event, &length);

    text_append_bytes(begin_value(&p), (const char *)event->id, sizeof(event->id));
    append_int64(begin_value(&p), event->received_at - POSTGRES_EPOCH_US);
    append_int64(begin_value(&p), event_project(event));
    text_append_bytes(begin_value(&p), body ? body : "", length);
    text_append(begin_value(&p), event_reason(event));
    text_append_bytes(begin_value(&p), event->waited ? "\1" : "\0", 1);
    append_kept(&p, event->iv);
    append_kept(&p, event->coding);
    append_int64(begin_value(&p), event->values[FIELD_ticket_id].number);
    p.given[p.count - 1] = event->values[FIELD_ticket_id].presence == PRESENT;
    return send_statement(store, &statement_reject, &p);
}

bool calls_send_forget(const struct store *store, const struct event *event)
{
    struct parameters p = {.count = 0};

    text_append_bytes(begin_value(&p), (const char *)event->id, sizeof(event->id));
    append_int64(begin_value(&p), event->values[FIELD_project_id].number);
    append_int64(begin_value(&p), event->values[FIELD_ticket_id].number);
    return send_statement(store, &statement_forget, &p);
}

bool calls_send_timeouts(const struct store *store, bool long_try)
{
    struct timeouts timeouts = {0};

    session_timeouts(store->conf, long_try, true, &timeouts);
    return PQsendQueryParams(store->connection, sql_set_timeouts, 3, NULL, timeouts.values, NULL, NULL, 0);
}
