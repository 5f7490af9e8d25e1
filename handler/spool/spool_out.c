/* From the spool back to the path: what the drain takes, and what becomes of it. */
#include "base/clock.h"
#include "base/metrics.h"
#include "spool/spool_file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *column_text(sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    return text ? text : "";
}

bool spool_read_event(sqlite3_stmt *row, struct event *event)
{
    size_t length = (size_t)sqlite3_column_bytes(row, 6);
    const void *body = sqlite3_column_blob(row, 6), *id = sqlite3_column_blob(row, 1);
    const char *action = (const char *)sqlite3_column_text(row, 5);
    const char *reason = (const char *)sqlite3_column_text(row, 8);
    int refusal = sqlite3_column_int(row, 7);
    char *copy = malloc(length + 1), *why = reason ? strdup(reason) : NULL;

    if (!copy || !id || sqlite3_column_bytes(row, 1) != sizeof(event->id) || (length && !body) || (reason && !why)) {
        free(copy);
        free(why);
        return false;
    }
    if (length)
        memcpy(copy, body, length);
    copy[length] = '\0';
    event_init(event, copy, length);
    memcpy(event->id, id, sizeof(event->id));
    event->received_at = sqlite3_column_int64(row, 2);
    event->values[FIELD_project_id] = (struct value){.presence = PRESENT, .number = sqlite3_column_int64(row, 3)};
    event->values[FIELD_ticket_id] = (struct value){.presence = PRESENT, .number = sqlite3_column_int64(row, 4)};
    while (action && event->action < ACTION_DELETE && strcmp(action, action_name(event->action)) != 0)
        event->action++;
    if (refusal)
        event->refusal = refusal == outcome_status(OUTCOME_BAD_REQUEST) ? OUTCOME_BAD_REQUEST : OUTCOME_UNPROCESSABLE;
    if (refusal && event_project(event) == 0) /* it is not known */
        event->values[FIELD_project_id].presence = ABSENT;
    event->reason = why;
    event->waited = true;
    event->spooled_no = sqlite3_column_int64(row, 0);
    event->tries = (unsigned)sqlite3_column_int64(row, 9);
    event_keep(event->iv, column_text(row, 10));
    event_keep(event->coding, column_text(row, 11));
    return true;
}

/* What spool_take is asked for and has got. */
struct taking {
    struct event *events;
    size_t most, bytes, count, taken;
    bool full;
};

static int take_ticket(struct spool_side *side, const struct spool_key *key, struct taking *taking)
{
    sqlite3_stmt *row =
        SPOOL_SQL(side, TAKE, key->project, key->ticket, key->lone, (int64_t)(taking->most - taking->count));
    int code = SQLITE_DONE;

    while (!taking->full && (code = sqlite3_step(row)) == SQLITE_ROW) {
        taking->taken += (size_t)sqlite3_column_bytes(row, 6);
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

size_t spool_take(struct spool *spool, unsigned lane, unsigned lanes, struct event *events, size_t most, size_t bytes)
{
    struct taking taking = {events, most, bytes, 0, 0, false};
    struct spool_side *side = &spool->out;
    const char *why;
    int code = spool_begin(spool, side, SPOOL_READ, &why);

    if (code == SQLITE_OK) {
        sqlite3_stmt *due = SPOOL_SQL(side, DUE, clock_realtime_us());
        while (code == SQLITE_OK && !taking.full && taking.count < most && (code = sqlite3_step(due)) == SQLITE_ROW) {
            struct spool_key key = {sqlite3_column_int64(due, 0), sqlite3_column_int64(due, 1),
                                    sqlite3_column_int64(due, 2)};
            unsigned its = key.lone ? 0 : event_lane(key.project, key.ticket, lanes);
            code = its == lane ? take_ticket(side, &key, &taking) : SQLITE_OK;
        }
        sqlite3_reset(due);
        code = spool_end(spool, side, code == SQLITE_DONE ? SQLITE_OK : code, &why);
    }
    spool_went_well(spool, code, why); /* what was read before is good */
    return taking.count;
}

/* Whose event it is; false: the row is gone, or it is another's, of a file that was begun since. */
static bool find_row(struct spool_side *side, const struct event *event, struct spool_key *key, unsigned *tries)
{
    sqlite3_stmt *row = SPOOL_SQL(side, WHOSE, event->spooled_no);
    sqlite3_bind_blob(row, 2, event->id, sizeof(event->id), SQLITE_STATIC);
    bool found = sqlite3_step(row) == SQLITE_ROW;
    *key = (struct spool_key){sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1), sqlite3_column_int64(row, 2)};
    *tries = (unsigned)sqlite3_column_int64(row, 3);
    sqlite3_reset(row);
    return found;
}

/* The ticket goes with its last event; else it is the next one's turn, behind that of other tickets. */
static int settle_ticket(struct spool_side *side, const struct spool_key *key, struct spool_counts *gone)
{
    int code = spool_run(SPOOL_SQL(side, DONE, key->project, key->ticket, key->lone));
    int64_t ended = sqlite3_changes(side->db);

    gone->tickets -= ended;
    if (code == SQLITE_OK && ended == 0)
        code = spool_run(SPOOL_SQL(side, NEXT, key->project, key->ticket, key->lone, clock_realtime_us()));
    return code;
}

static int forget(struct spool_side *side, struct event **events, size_t count, struct spool_counts *gone)
{
    struct spool_key key, before = {0, 0, 0};
    int code = SQLITE_OK;
    unsigned tries;

    for (size_t i = 0; code == SQLITE_OK && i < count; i++) {
        enum outcome outcome = events[i]->outcome;
        if (outcome == OUTCOME_NONE || outcome == OUTCOME_SPOOLED || outcome == OUTCOME_UNAVAILABLE ||
            !find_row(side, events[i], &key, &tries))
            continue;
        if (gone->events && memcmp(&key, &before, sizeof(key)) != 0)
            code = settle_ticket(side, &before, gone);
        before = key;
        if (code == SQLITE_OK)
            code = spool_run(SPOOL_SQL(side, FORGET, events[i]->spooled_no));
        gone->events--;
    }
    if (code == SQLITE_OK && gone->events)
        code = settle_ticket(side, &before, gone);
    return code == SQLITE_OK ? spool_count(side, gone, NULL) : code;
}

bool spool_forget(struct spool *spool, struct event **events, size_t count)
{
    struct spool_counts gone = {0, 0};
    const char *why;
    int code = spool_begin(spool, &spool->out, SPOOL_CHANGE, &why);

    if (code == SQLITE_OK)
        code = spool_end(spool, &spool->out, forget(&spool->out, events, count, &gone), &why);
    if (code == SQLITE_OK)
        metrics_add(METRIC_SPOOL_EVENTS, gone.events);
    return spool_went_well(spool, code, why);
}

static int put_off(struct spool_side *side, struct event *event, const char *put_off_why, bool held)
{
    struct spool_key key;
    int code = SQLITE_OK;

    if (!find_row(side, event, &key, &event->tries))
        return SQLITE_OK;
    if (!held) {
        event->tries++;
        code = spool_run(SPOOL_SQL(side, TRIED, event->spooled_no));
    }
    sqlite3_stmt *later = SPOOL_SQL(side, PUT_OFF, key.project, key.ticket, key.lone, clock_realtime_us());
    sqlite3_bind_text(later, 5, put_off_why, -1, SQLITE_STATIC);
    return code == SQLITE_OK ? spool_run(later) : code;
}

void spool_put_off(struct spool *spool, struct event **events, size_t count, const char *why, bool held)
{
    const char *problem;
    int code = spool_begin(spool, &spool->out, SPOOL_CHANGE, &problem);

    if (code == SQLITE_OK) {
        for (size_t i = 0; code == SQLITE_OK && i < count; i++)
            code = put_off(&spool->out, events[i], why, held);
        code = spool_end(spool, &spool->out, code, &problem);
    }
    spool_went_well(spool, code, problem);
}

bool spool_hurry(struct spool *spool)
{
    const char *why;
    int code = spool_begin(spool, &spool->out, SPOOL_CHANGE, &why);

    if (code == SQLITE_OK)
        code = spool_end(spool, &spool->out, spool_run(SPOOL_SQL(&spool->out, HURRY, clock_realtime_us())), &why);
    return spool_went_well(spool, code, why);
}

bool spool_begin_drain(struct spool *spool)
{
    struct stat held, now;
    char path[PATH_MAX];

    pthread_mutex_lock(&spool->out.mutex);
    /* The directory may have been replaced. */
    if (spool->drain_lock >= 0 &&
        (fstat(spool->drain_lock, &held) != 0 || stat(spool_name(spool, path, "drain.lock"), &now) != 0 ||
         held.st_ino != now.st_ino)) {
        close(spool->drain_lock);
        spool->drain_lock = -1;
    }
    if (spool->drain_lock < 0 && *spool->path)
        spool->drain_lock = spool_lock(spool, "drain.lock", LOCK_EX, 0);
    bool good = spool->drain_lock >= 0;
    pthread_mutex_unlock(&spool->out.mutex);
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
