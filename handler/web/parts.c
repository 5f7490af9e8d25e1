/* Before request.c: pieces of a request are put together, the head apart from the body. */
#include "web/parts.h"

#include <stdatomic.h>
#include <string.h>

#define BODIES   64     /* of the largest size that all requests together may have here */
#define HEAD_MAX 262144 /* bytes of the records that hold the parameters */

static atomic_size_t all_bytes; /* of the bodies of all requests */

static void forget_body(struct parts *parts)
{
    atomic_fetch_sub(&all_bytes, parts->counted);
    parts->counted = parts->taken = 0;
    text_free(&parts->body);
}

void parts_refuse(struct parts *parts, enum outcome why)
{
    forget_body(parts);
    parts->refused = why;
}

static void limit_body(struct parts *parts, size_t max_body)
{
    size_t more = parts->body.length - parts->counted;
    size_t all = atomic_fetch_add(&all_bytes, more) + more;

    parts->counted += more;
    if (parts->body.length > max_body)
        parts_refuse(parts, OUTCOME_TOO_LARGE);
    else if (parts->body.failed || (more > 0 && all > max_body * BODIES))
        parts_refuse(parts, OUTCOME_UNAVAILABLE);
}

enum records_state parts_add(struct parts *parts, const char *bytes, size_t count, size_t max_body)
{
    struct records *records = &parts->records;

    if (!records_have_head(records))
        text_append_bytes(&parts->head, bytes, count);
    records->body = parts->refused == OUTCOME_NONE ? &parts->body : NULL;
    enum records_state state = records_look(records, (const uint8_t *)bytes, count);
    limit_body(parts, max_body);
    return parts->head.failed || records->head_length > HEAD_MAX ? RECORDS_BAD : state;
}

size_t parts_read(struct parts *parts, char *into, size_t size)
{
    size_t left = parts->body.length - parts->taken;

    size = size < left ? size : left;
    if (size > 0)
        memcpy(into, parts->body.bytes + parts->taken, size);
    parts->taken += size;
    return size;
}

void parts_forget_head(struct parts *parts)
{
    if (parts->head.bytes)
        explicit_bzero(parts->head.bytes, parts->head.length);
    text_free(&parts->head);
}

void parts_free(struct parts *parts)
{
    forget_body(parts);
    parts_forget_head(parts);
    *parts = (struct parts){0};
}
