/* What `ticketd import` and `ticketd rejected` ask the database beside having events applied. */
#include "base/clock.h"
#include "store/sql.h"
#include "store/store.h"
#include "store/store_connection.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define PAGE       500     /* rows that one query asks for */
#define PAGE_BYTES 8388608 /* and of how large bodies; the last one may go beyond that */

struct store_list {
    struct store *store;
    int64_t since, until;
    bool one; /* the row whose last_event_id is `id` is meant; else all are */
    uint8_t id[16];
    uint8_t after[16]; /* last_event_id of the row before */
    PGresult *page;
    int row; /* the next one of it */
    bool failed, ended;
};

enum column { LAST_EVENT_ID, FIRST_RECEIVED_AT, LAST_RECEIVED_AT, ATTEMPTS, PROJECT_ID, BODY, REASON, IV, CODING };

/* Parameters in their binary form. */
struct values {
    const char *bytes[5];
    int lengths[5], count;
};

static void add_value(struct values *values, const void *bytes, size_t length)
{
    values->bytes[values->count] = bytes;
    values->lengths[values->count++] = (int)length;
}

/* bigint, or timestamptz: microseconds since 2000. */
static int64_t get_integer(const PGresult *result, int row, int column)
{
    uint64_t network;
    memcpy(&network, PQgetvalue(result, row, column), sizeof(network));
    return (int64_t)be64toh(network);
}

static int64_t get_time(const PGresult *result, int row, int column)
{
    return get_integer(result, row, column) + POSTGRES_EPOCH_US;
}

static uint64_t put_time(int64_t time)
{
    return htobe64((uint64_t)(time - POSTGRES_EPOCH_US));
}

/* The rows of a statement. NULL: the database did not say, or refused (logged). A connection that was lost since it was
 * used last is made again. */
static PGresult *rows_of(struct store *store, const char *sql, const struct values *values)
{
    static const int formats[5] = {1, 1, 1, 1, 1};

    bool connected = store->connection;
    int64_t deadline = clock_monotonic_ms() + store->conf->db_timeout_ms;

    bool ready = store_idle(store);
    if (!ready && connected) {
        connection_back_off(store, deadline);
        ready = store_idle(store);
    }
    if (!ready)
        return NULL;
    deadline = clock_monotonic_ms() + store->conf->db_timeout_ms;
    int sent =
        PQsendQueryParams(store->connection, sql, values->count, NULL, values->bytes, values->lengths, formats, 1);
    PGresult *result = connection_ask(store, sent, deadline);

    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    connection_failed_by(store, result);
    PQclear(result);
    return NULL;
}

bool store_begin_import(struct store *store, const uint8_t digest[32], int64_t now, int64_t *began, int64_t *ended)
{
    uint64_t time = put_time(now);
    struct values values = {.count = 0};

    add_value(&values, digest, 32);
    add_value(&values, &time, sizeof(time));
    PGresult *result = rows_of(store, sql_begin_import, &values);
    bool good = PQntuples(result) == 1; /* of NULL: 0 */
    if (good) {
        *began = get_time(result, 0, 0);
        *ended = PQgetisnull(result, 0, 1) ? 0 : get_time(result, 0, 1);
    }
    PQclear(result);
    return good;
}

bool store_end_import(struct store *store, const uint8_t digest[32], int64_t now)
{
    uint64_t time = put_time(now);
    struct values values = {.count = 0};

    add_value(&values, digest, 32);
    add_value(&values, &time, sizeof(time));
    PGresult *result = rows_of(store, sql_end_import, &values);
    PQclear(result);
    return result;
}

bool store_prepare_month(struct store *store, int64_t time)
{
    uint64_t month = put_time(time);
    struct values values = {.count = 0};

    add_value(&values, &month, sizeof(month));
    PGresult *result = rows_of(store, sql_prepare_month, &values);
    bool locked = PQntuples(result) == 1 && !*PQgetvalue(result, 0, 0);
    PQclear(result);
    return !locked;
}

bool store_drop_rejected(struct store *store, const uint8_t last_event_id[16], bool *found)
{
    struct values values = {.count = 0};

    add_value(&values, last_event_id, 16);
    PGresult *result = rows_of(store, sql_drop_rejected, &values);
    bool good = PQntuples(result) == 1;
    *found = good && *PQgetvalue(result, 0, 0);
    PQclear(result);
    return good;
}

struct store_list *store_list_rejected(struct store *store, int64_t since, int64_t until)
{
    struct store_list *list = calloc(1, sizeof(*list));
    if (list) {
        list->store = store;
        list->since = since;
        list->until = until;
    }
    return list;
}

/* A page begins behind an identifier: here behind the one before. */
struct store_list *store_find_rejected(struct store *store, const uint8_t last_event_id[16])
{
    struct store_list *list = store_list_rejected(store, 0, STORE_LAST_TIME);
    size_t byte = sizeof(list->after);

    if (!list)
        return NULL;
    memcpy(list->id, last_event_id, sizeof(list->id));
    memcpy(list->after, last_event_id, sizeof(list->after));
    list->one = true;
    while (byte > 0 && list->after[--byte]-- == 0)
        ;
    return list;
}

/* Reads the next page whole, so that no statement is under way while the caller takes its time. */
static bool read_page(struct store_list *list)
{
    uint64_t since = put_time(list->since), until = put_time(list->until), bytes = htobe64(PAGE_BYTES);
    uint32_t most = htobe32(list->one ? 1 : PAGE);
    struct values values = {.count = 0};

    add_value(&values, &since, sizeof(since));
    add_value(&values, &until, sizeof(until));
    add_value(&values, list->after, sizeof(list->after));
    add_value(&values, &most, sizeof(most));
    add_value(&values, &bytes, sizeof(bytes));
    PQclear(list->page);
    list->page = rows_of(list->store, sql_list_rejected, &values);
    list->row = 0;
    list->failed = !list->page;
    return list->page;
}

static void read_row(struct store_list *list, struct rejected *row)
{
    const PGresult *page = list->page;
    int at = list->row++;
    uint32_t attempts;

    memcpy(list->after, PQgetvalue(page, at, LAST_EVENT_ID), sizeof(list->after));
    memcpy(row->last_event_id, list->after, sizeof(row->last_event_id));
    memcpy(&attempts, PQgetvalue(page, at, ATTEMPTS), sizeof(attempts));
    row->attempts = (int32_t)be32toh(attempts);
    row->first_received_at = get_time(page, at, FIRST_RECEIVED_AT);
    row->last_received_at = get_time(page, at, LAST_RECEIVED_AT);
    row->project_id = get_integer(page, at, PROJECT_ID);
    row->body = PQgetvalue(page, at, BODY);
    row->length = (size_t)PQgetlength(page, at, BODY);
    row->reason = PQgetvalue(page, at, REASON);
    row->iv = PQgetvalue(page, at, IV); /* of NULL: "" */
    row->coding = PQgetvalue(page, at, CODING);
}

bool store_list_next(struct store_list *list, struct rejected *row)
{
    if (list->failed || list->ended)
        return false;
    if ((!list->page || list->row == PQntuples(list->page)) && !read_page(list))
        return false;
    list->ended = list->row == PQntuples(list->page);
    if (list->ended)
        return false;
    read_row(list, row);
    list->ended = list->one; /* there is no other */
    return !list->one || memcmp(row->last_event_id, list->id, sizeof(row->last_event_id)) == 0;
}

bool store_list_close(struct store_list *list)
{
    bool ended = list && list->ended;

    if (list)
        PQclear(list->page);
    free(list);
    return ended;
}
