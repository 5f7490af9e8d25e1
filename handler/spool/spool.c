/* Beside the store at the end of the path: where events go that it cannot take now, and where they come back from. */
#include "spool/spool.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "spool/spool_directory.h"
#include "spool/spool_file.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BROKEN_US 1000000 /* how long nobody asks a file again that could not be read */

bool spool_valid_directory(const struct conf *conf)
{
    char parent[PATH_MAX];
    struct stat status;
    int error = 0;

    snprintf(parent, sizeof(parent), "%s", conf->spool_dir);
    if (*parent && stat(conf->spool_dir, &status) == 0)
        error = S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
    else if (*parent && (errno == ENOTDIR || stat(dirname(parent), &status) != 0))
        error = errno;
    if (error)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", "TICKETD_SPOOL_DIR"), LOG_TEXT("value", conf->spool_dir),
                 LOG_TEXT("why", strerror(error)),
                 LOG_TEXT("expected", "a directory, or one that can be made in its parent"));
    return !error;
}

struct spool *spool_open(const struct conf *conf)
{
    struct spool *spool = calloc(1, sizeof(*spool));

    if (!spool || asprintf(&spool->file, "%s/spool.db", conf->spool_dir) < 0) {
        free(spool);
        return NULL;
    }
    spool->path = conf->spool_dir;
    spool->max_pages = (int64_t)conf->spool_max_mb * 1048576 / SPOOL_PAGE;
    spool->out.drains = true;
    spool->drain_lock = -1;
    pthread_mutex_init(&spool->in.mutex, NULL);
    pthread_mutex_init(&spool->out.mutex, NULL);
    pthread_mutex_init(&spool->saying, NULL);
    metrics_set(METRIC_SPOOL_MAX, *spool->path ? spool->max_pages * SPOOL_PAGE : 0);
    return spool;
}

void spool_close(struct spool *spool)
{
    if (!spool)
        return;
    spool_end_drain(spool);
    spool_close_side(&spool->in);
    spool_close_side(&spool->out);
    pthread_mutex_destroy(&spool->in.mutex);
    pthread_mutex_destroy(&spool->out.mutex);
    pthread_mutex_destroy(&spool->saying);
    free(spool->identity);
    free(spool->file);
    free(spool);
}

bool spool_went_well(struct spool *spool, enum spool_trouble trouble, const char *why)
{
    static const char *const messages[] = {
        [SPOOL_TAKES_NOTHING] = "the spool cannot take events: they are answered 503",
        [SPOOL_GIVES_NOTHING] = "the spool cannot be drained: its events stay there",
        [SPOOL_NOT_READ] = "the spool cannot be read: events go to the database, past those that may wait",
    };

    pthread_mutex_lock(&spool->saying);
    const char *before = spool->said[trouble];
    spool->said[trouble] = why;
    pthread_mutex_unlock(&spool->saying);
    if (why && why != before)
        log_line(LOG_ERROR, messages[trouble], LOG_TEXT("why", why), LOG_TEXT("dir", spool->path));
    else if (!why && before && trouble == SPOOL_TAKES_NOTHING)
        log_line(LOG_INFO, "the spool takes events again", LOG_TEXT("dir", spool->path));
    return !why;
}

void spool_prepare(struct spool *spool)
{
    if (!*spool->path)
        return;
    const char *why = spool_make_directory(spool);
    if (!why)
        why = spool_take_over(spool);
    if (!why)
        why = spool_problem(spool);
    if (spool_went_well(spool, SPOOL_TAKES_NOTHING, why) && (why = spool_warning(spool)))
        log_line(LOG_WARNING, "the spool is not safe", LOG_TEXT("why", why), LOG_TEXT("dir", spool->path));
}

/* ---- asking */

/* What events and waiting have in common; see statements.def. */
struct key {
    int64_t project, ticket, lone;
};

static struct key key_of(const struct event *event)
{
    struct key key = {event_project(event), event->values[FIELD_ticket_id].number, 0};

    if (event->refusal != OUTCOME_NONE) {
        memcpy(&key.lone, event->id + sizeof(event->id) - sizeof(key.lone), sizeof(key.lone)); /* its random bits */
        key.lone |= 1;
    }
    return key;
}

bool spool_waits(struct spool *spool, struct event *event)
{
    struct spool_side *side = &spool->in;
    struct key key = key_of(event);
    int64_t now = clock_monotonic_us(), waits = 0;
    const char *why = NULL;

    if (event->refusal != OUTCOME_NONE || !*spool->path || now < atomic_load(&spool->empty_until))
        return false;
    bool broken = now < atomic_load(&spool->broken_until);
    if (!broken && spool_begin(spool, side, SPOOL_ASK, &why) == SQLITE_OK) {
        waits = spool_number(SPOOL_SQL(side, WAITS, key.project, key.ticket, key.lone));
        if (waits > 0 && spool_foreign(spool, side))
            waits = 0;
        int code = waits < 0 ? sqlite3_errcode(side->db) : SQLITE_OK;
        if (waits == 0 && spool_number(side->statements[SQL_ANY]) == 0)
            atomic_store(&spool->empty_until, now + SPOOL_LOOK_US); /* before the mutex is free for who appends */
        (void)!spool_end(spool, side, code, &why);
    }
    if (!broken && !spool_went_well(spool, SPOOL_NOT_READ, why)) {
        atomic_store(&spool->broken_until, clock_monotonic_us() + BROKEN_US);
        broken = true;
    }
    event->waited = event->waited || broken;
    return waits > 0;
}

/* ---- in */

static int put(struct spool_side *side, struct event *event, int64_t *added)
{
    struct key key = key_of(event);
    size_t length;
    const char *body = event_received(event, &length);
    const char *coding = event->sent && body == event->allocation ? "" : event->coding; /* it is decompressed */
    const char *reason = event->refusal == OUTCOME_NONE ? NULL : event_reason(event);
    sqlite3_stmt *row = SPOOL_SQL(side, PUT, key.project, key.ticket, key.lone, event->received_at, event->tries);

    sqlite3_bind_blob(row, 6, event->id, sizeof(event->id), SQLITE_STATIC);
    sqlite3_bind_blob64(row, 7, body ? body : "", length, SQLITE_STATIC);
    sqlite3_bind_int(row, 8, outcome_status(event->refusal));
    sqlite3_bind_text(row, 9, reason, -1, SQLITE_STATIC);
    sqlite3_bind_text(row, 10, *event->iv ? event->iv : NULL, -1, SQLITE_STATIC);
    sqlite3_bind_text(row, 11, *coding ? coding : NULL, -1, SQLITE_STATIC);
    int code = spool_run(row);
    sqlite3_clear_bindings(row);
    *added += code == SQLITE_OK ? sqlite3_changes(side->db) : 0;
    return code;
}

/* NULL: all are in, or why not. Where there is no room for all each half is tried alone, so that a large event keeps no
 * small one out. */
static const char *append_all(struct spool *spool, struct event **events, size_t count)
{
    struct spool_side *side = &spool->in;
    int64_t added;
    const char *why;
    int code;

    for (bool again = true;; again = false) { /* once more where a damaged file was moved aside */
        added = 0;
        code = spool_begin(spool, side, SPOOL_MAKE, &why);
        if (code == SQLITE_OK) {
            sqlite3_bind_text(side->statements[SQL_REMEMBER], 1, spool->identity, -1, SQLITE_STATIC);
            /* Not to the disk's last byte: bringing events out again takes some room, too. */
            code = spool_disk_problem(spool) ? SQLITE_FULL : spool_run(side->statements[SQL_REMEMBER]);
            if (code == SQLITE_OK && (why = spool_foreign(spool, side)))
                code = SQLITE_EMPTY;
            for (size_t i = 0; code == SQLITE_OK && i < count; i++)
                if (events[i]->outcome == OUTCOME_NONE)
                    code = put(side, events[i], &added);
            code = spool_end(spool, side, code, &why);
        }
        if (!again || !spool_is_damage(code))
            break;
    }
    if (code == SQLITE_FULL && count > 1) {
        const char *first = append_all(spool, events, count / 2);
        why = append_all(spool, events + count / 2, count - count / 2);
        return why ? why : first;
    }
    for (size_t i = 0; i < count; i++)
        if (events[i]->outcome == OUTCOME_NONE)
            events[i]->outcome = code != SQLITE_OK                    ? OUTCOME_UNAVAILABLE
                                 : events[i]->refusal == OUTCOME_NONE ? OUTCOME_SPOOLED
                                                                      : events[i]->refusal;
    if (code == SQLITE_OK)
        metrics_add(METRIC_SPOOL_EVENTS, added);
    return why;
}

void spool_append(struct spool *spool, struct event **events, size_t count)
{
    size_t open = 0;

    for (size_t i = 0; i < count; i++)
        open += events[i]->outcome == OUTCOME_NONE;
    if (open == 0)
        return;
    const char *why = append_all(spool, events, count);
    if (!*spool->path || !spool_went_well(spool, SPOOL_TAKES_NOTHING, why))
        return;
    if (!atomic_exchange(&spool->spooling, true))
        log_line(LOG_WARNING, "events are spooled until the database takes them", LOG_TEXT("dir", spool->path));
}
