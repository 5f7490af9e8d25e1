/* From the spool back to the path: what the drain takes, and what becomes of it. */
#include "base/clock.h"
#include "base/metrics.h"
#include "spool/spool_directory.h"
#include "spool/spool_file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char *column_text(sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    return text ? text : "";
}

bool spool_read_event(sqlite3_stmt *row, struct event *event)
{
    size_t length = (size_t)sqlite3_column_bytes(row, 4);
    const void *id = sqlite3_column_blob(row, 0), *body = sqlite3_column_blob(row, 4);
    int refusal = sqlite3_column_int(row, 5);
    char *copy = malloc(length + 1), *reason = refusal ? strdup(column_text(row, 6)) : NULL;

    if (!copy || !id || sqlite3_column_bytes(row, 0) != sizeof(event->id) || (length && !body) ||
        (refusal && !reason)) {
        free(copy);
        free(reason);
        return false;
    }
    if (length)
        memcpy(copy, body, length);
    copy[length] = '\0';
    event_init(event, copy, length);
    memcpy(event->id, id, sizeof(event->id));
    event->received_at = sqlite3_column_int64(row, 1);
    event->values[FIELD_project_id] = (struct value){.presence = PRESENT, .number = sqlite3_column_int64(row, 2)};
    event->values[FIELD_ticket_id] = (struct value){.presence = PRESENT, .number = sqlite3_column_int64(row, 3)};
    if (refusal)
        event->refusal = refusal == outcome_status(OUTCOME_BAD_REQUEST) ? OUTCOME_BAD_REQUEST : OUTCOME_UNPROCESSABLE;
    for (size_t i = 0; refusal && i < 2; i++) { /* 0: it is not known */
        struct value *key = &event->values[i ? FIELD_ticket_id : FIELD_project_id];
        key->presence = key->number == 0 ? ABSENT : PRESENT;
    }
    event->reason = reason;
    event->waited = true;
    event->tries = (unsigned)sqlite3_column_int64(row, 7);
    event_keep(event->iv, column_text(row, 8));
    event_keep(event->coding, column_text(row, 9));
    return true;
}

/* What spool_take is asked for and has got. */
struct taking {
    struct event *events;
    size_t most, bytes, count, taken;
    bool full;
};

static int take_ticket(sqlite3_stmt *row, struct taking *taking)
{
    int code = SQLITE_DONE;

    while (!taking->full && (code = sqlite3_step(row)) == SQLITE_ROW) {
        taking->taken += (size_t)sqlite3_column_bytes(row, 4);
        taking->full = taking->count > 0 && taking->taken > taking->bytes;
        if (!taking->full && !spool_read_event(row, &taking->events[taking->count])) {
            code = SQLITE_NOMEM;
            break;
        }
        taking->count += !taking->full;
    }
    sqlite3_reset(row);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

/* The first tickets of the lane that are due. Returns how many, at most `most`; *code says whether that went well. */
static size_t find_due(struct spool_side *side, unsigned lane, struct lanes lanes, int64_t (*due)[4], size_t most,
                       int *code)
{
    sqlite3_stmt *row = SPOOL_SQL(side, DUE, clock_realtime_us());
    size_t count = 0;

    while (count < most && (*code = sqlite3_step(row)) == SQLITE_ROW) {
        for (int i = 0; i < 4; i++)
            due[count][i] = sqlite3_column_int64(row, i);
        count += lane == (due[count][2] ? 0 : event_lane(due[count][0], due[count][1], lanes));
    }
    sqlite3_reset(row);
    *code = *code == SQLITE_ROW || *code == SQLITE_DONE ? SQLITE_OK : *code;
    return count;
}

/* As many of each ticket, for a call of the database has one of each; then more of those that have more. */
size_t spool_take(struct spool *spool, unsigned lane, struct lanes lanes, struct event *events, size_t most,
                  size_t bytes)
{
    struct taking taking = {events, most, bytes, 0, 0, false};
    struct spool_side *side = &spool->out;
    int64_t(*due)[4] = calloc(most, sizeof(*due));
    const char *why;
    int code = spool_begin(spool, side, SPOOL_READ, &why);

    if (code == SQLITE_OK && (why = spool_foreign(spool, side))) {
        (void)!spool_end(spool, side, SQLITE_EMPTY, &why);
        spool_end_drain(spool);
    } else if (code == SQLITE_OK) {
        size_t tickets = due ? find_due(side, lane, lanes, due, most, &code) : 0, each = most / (tickets ? tickets : 1);
        for (size_t i = 0; i < 2 * tickets && code == SQLITE_OK && !taking.full && taking.count < most; i++) {
            const int64_t *of = due[i % tickets];
            int64_t passed = i < tickets ? 0 : (int64_t)each, room = (int64_t)(passed ? most - taking.count : each);
            if (of[3] > passed)
                code = take_ticket(SPOOL_SQL(side, TAKE, of[0], of[1], of[2], room, passed), &taking);
        }
        (void)!spool_end(spool, side, code, &why);
    }
    if (why || taking.count == 0) /* else it is known once they can leave */
        spool_went_well(spool, SPOOL_GIVES_NOTHING, why);
    free(due);
    return taking.count;
}

bool spool_forget(struct spool *spool, struct event **events, size_t count)
{
    struct spool_side *side = &spool->out;
    int64_t gone = 0;
    const char *why;
    int code = spool_begin(spool, side, SPOOL_CHANGE, &why);

    if (code == SQLITE_OK) {
        for (size_t i = 0; code == SQLITE_OK && i < count; i++) {
            enum outcome outcome = events[i]->outcome;
            if (outcome == OUTCOME_NONE || outcome == OUTCOME_SPOOLED || outcome == OUTCOME_UNAVAILABLE)
                continue;
            code = spool_run(spool_sql_of(side, SQL_FORGET, events[i]->id));
            gone += sqlite3_changes(side->db);
        }
        code = spool_end(spool, side, code, &why);
    }
    if (code == SQLITE_OK)
        metrics_add(METRIC_SPOOL_EVENTS, -gone);
    return spool_went_well(spool, SPOOL_GIVES_NOTHING, why);
}

void spool_put_off(struct spool *spool, struct event **events, size_t count, const char *put_off_why, bool held)
{
    struct spool_side *side = &spool->out;
    const char *why;
    int code = spool_begin(spool, side, SPOOL_CHANGE, &why);

    if (code == SQLITE_OK) {
        for (size_t i = 0; code == SQLITE_OK && i < count; i++) {
            sqlite3_stmt *later = spool_sql_of(side, SQL_PUT_OFF, events[i]->id);
            sqlite3_bind_text(later, 2, put_off_why, -1, SQLITE_STATIC);
            sqlite3_bind_int64(later, 3, clock_realtime_us());
            code = spool_run(later);
            if (code != SQLITE_OK || held)
                continue;
            events[i]->tries++;
            code = spool_run(spool_sql_of(side, SQL_TRIED, events[i]->id));
        }
        (void)!spool_end(spool, side, code, &why);
    }
    spool_went_well(spool, SPOOL_GIVES_NOTHING, why);
}

bool spool_hurry(struct spool *spool)
{
    struct spool_side *side = &spool->out;
    const char *why;

    if (spool_begin(spool, side, SPOOL_CHANGE, &why) == SQLITE_OK)
        (void)!spool_end(spool, side, spool_run(SPOOL_SQL(side, HURRY, clock_realtime_us())), &why);
    return spool_went_well(spool, SPOOL_GIVES_NOTHING, why);
}

bool spool_begin_drain(struct spool *spool)
{
    struct spool_side *side = &spool->out;
    const char *why;

    pthread_mutex_lock(&side->mutex);
    bool good = spool->drain_lock >= 0; /* then spool_take looks whose it is */
    pthread_mutex_unlock(&side->mutex);
    if (good || !*spool->path)
        return good;
    if (spool_begin(spool, side, SPOOL_READ, &why) == SQLITE_OK) {
        why = spool_foreign(spool, side);
        (void)!spool_end(spool, side, SQLITE_EMPTY, &why);
    }
    if (why) {
        spool_went_well(spool, SPOOL_GIVES_NOTHING, why);
        return false;
    }
    pthread_mutex_lock(&side->mutex);
    if (spool->drain_lock < 0)
        spool->drain_lock = spool_lock(spool, "drain.lock", LOCK_EX, 0);
    good = spool->drain_lock >= 0;
    pthread_mutex_unlock(&side->mutex);
    return good;
}

void spool_end_drain(struct spool *spool)
{
    pthread_mutex_lock(&spool->out.mutex);
    if (spool->drain_lock >= 0)
        close(spool->drain_lock);
    spool->drain_lock = -1;
    pthread_mutex_unlock(&spool->out.mutex);
}
