/* What `ticketd import` and `ticketd rejected` ask the database beside having events applied. */
#include "base/clock.h"
#include "store/sql.h"
#include "store/store.h"
#include "store/store_connection.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 500 /* rows that one query asks for: a snapshot is not held for long */

struct store_list {
    struct store *store;
    int64_t since, until;
    uint8_t after[16]; /* last_event_id of the row before */
    int rows;          /* of this page so far */
    bool under_way;    /* rows of this page are still to come */
    bool failed, ended;
    PGresult *result; /* holds the row that was handed out last */
};

enum column { LAST_EVENT_ID, FIRST_RECEIVED_AT, LAST_RECEIVED_AT, ATTEMPTS, PROJECT_ID, BODY, REASON };

/* bigint, or timestamptz: microseconds since 2000. */
static int64_t get_integer(const PGresult *result, int column)
{
    uint64_t network;
    memcpy(&network, PQgetvalue(result, 0, column), sizeof(network));
    return (int64_t)be64toh(network);
}

static int64_t get_time(const PGresult *result, int column)
{
    return get_integer(result, column) + POSTGRES_EPOCH_US;
}

static int64_t deadline_of(const struct store *store)
{
    return clock_monotonic_ms() + store->conf->db_timeout_ms;
}

bool store_begin_import(struct store *store, const uint8_t digest[32], int64_t now, int64_t *began)
{
    int64_t deadline = deadline_of(store);
    uint64_t now_network = htobe64((uint64_t)(now - POSTGRES_EPOCH_US));
    const char *const values[] = {(const char *)digest, (const char *)&now_network};
    const int lengths[] = {32, sizeof(now_network)}, formats[] = {1, 1};

    if (!connection_open(store, deadline))
        return false;
    bool broken = !PQsendQueryParams(store->connection, sql_begin_import, 2, NULL, values, lengths, formats, 1);
    PGresult *result = connection_result(store, deadline, &broken);
    bool good = !broken && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;

    if (good)
        *began = get_time(result, 0);
    else
        connection_failed_by(store, result);
    PQclear(result);
    while (good && (result = connection_result(store, deadline, &broken))) /* the end of the statement */
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

/* Asks for the next page, whose rows come one by one: bodies may be large. */
static bool send_page(struct store_list *list)
{
    PGconn *connection = list->store->connection;
    uint64_t since = htobe64((uint64_t)(list->since - POSTGRES_EPOCH_US));
    uint64_t until = htobe64((uint64_t)(list->until - POSTGRES_EPOCH_US));
    uint32_t most = htobe32(PAGE);
    const char *const values[] = {(const char *)&since, (const char *)&until, (const char *)list->after,
                                  (const char *)&most};
    const int lengths[] = {sizeof(since), sizeof(until), sizeof(list->after), sizeof(most)};
    const int formats[] = {1, 1, 1, 1};

    list->rows = 0;
    list->under_way = PQsendQueryParams(connection, sql_list_rejected, 4, NULL, values, lengths, formats, 1) &&
                      PQsetSingleRowMode(connection);
    return list->under_way;
}

static void read_row(struct store_list *list, struct rejected *row)
{
    const PGresult *result = list->result;
    uint32_t attempts;

    memcpy(list->after, PQgetvalue(result, 0, LAST_EVENT_ID), sizeof(list->after));
    memcpy(row->last_event_id, list->after, sizeof(row->last_event_id));
    memcpy(&attempts, PQgetvalue(result, 0, ATTEMPTS), sizeof(attempts));
    row->attempts = (int32_t)be32toh(attempts);
    row->first_received_at = get_time(result, FIRST_RECEIVED_AT);
    row->last_received_at = get_time(result, LAST_RECEIVED_AT);
    row->project_id = get_integer(result, PROJECT_ID);
    row->body = PQgetvalue(result, 0, BODY);
    row->length = (size_t)PQgetlength(result, 0, BODY);
    row->reason = PQgetvalue(result, 0, REASON);
}

bool store_list_next(struct store_list *list, struct rejected *row)
{
    struct store *store = list->store;

    while (!list->failed && !list->ended) {
        int64_t deadline = deadline_of(store);
        bool broken = false;
        PQclear(list->result);
        list->result = NULL;
        if (!store->connection && !connection_open(store, deadline)) {
            list->failed = true; /* it said so itself */
            break;
        }
        broken = !list->under_way && !send_page(list);
        list->result = connection_result(store, deadline, &broken);
        switch (PQresultStatus(list->result)) { /* of NULL: a fatal error */
        case PGRES_SINGLE_TUPLE:
            list->rows++;
            read_row(list, row);
            return true;
        case PGRES_TUPLES_OK: /* no more rows of this statement */
            break;
        default:
            list->under_way = false;
            list->ended = !broken && !list->result && list->rows < PAGE;
            list->failed = broken || list->result;
        }
        if (list->failed)
            connection_failed_by(store, list->result);
    }
    return false;
}

bool store_list_close(struct store_list *list)
{
    bool ended = list && list->ended;

    if (list)
        PQclear(list->result);
    free(list);
    return ended;
}
