/* Beside the store at the end of the path: where events go that it cannot take now, and where they come back from. */
#include "spool/spool.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "spool/spool_file.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_US    10000   /* how long it counts that nothing waits, in other processes */
#define FAILURE_US 1000000 /* how long nobody asks a file again that could not be read */

bool spool_valid_directory(const struct conf *conf)
{
    char parent[PATH_MAX];

    snprintf(parent, sizeof(parent), "%s", conf->spool_dir);
    if (!*parent || access(dirname(parent), F_OK) == 0)
        return true;
    log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", "TICKETD_SPOOL_DIR"), LOG_TEXT("value", conf->spool_dir),
             LOG_TEXT("expected", "a directory, or one that can be made in its parent"));
    return false;
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

void spool_remove_empty(struct spool *spool)
{
    spool_tidy(spool, true, 0);
}

/* Says a change, and nothing where there is none. */
static void say_problem(struct spool *spool, const char *problem)
{
    pthread_mutex_lock(&spool->saying);
    if (problem && spool->problem != problem)
        log_line(LOG_ERROR, "the spool cannot take events: they are answered 503", LOG_TEXT("why", problem),
                 LOG_TEXT("dir", spool->path));
    else if (!problem && spool->problem)
        log_line(LOG_INFO, "the spool takes events again", LOG_TEXT("dir", spool->path));
    else if (!problem && !atomic_load(&spool->spooling))
        log_line(LOG_WARNING, "events are spooled until the database takes them", LOG_TEXT("dir", spool->path));
    spool->problem = problem;
    atomic_store(&spool->spooling, !problem);
    pthread_mutex_unlock(&spool->saying);
}

void spool_say_empty(struct spool *spool)
{
    if (atomic_exchange(&spool->spooling, false))
        log_line(LOG_INFO, "the spool is empty", LOG_TEXT("dir", spool->path));
}

void spool_prepare(struct spool *spool)
{
    const char *why = NULL;

    if (!*spool->path)
        return;
    why = spool_make_directory(spool);
    if (!why)
        why = spool_take_over(spool);
    if (!why)
        why = spool_problem(spool);
    if (why)
        say_problem(spool, why);
}

/* ---- asking */

static struct spool_key key_of(const struct event *event)
{
    struct spool_key key = {event_project(event), event->values[FIELD_ticket_id].number, 0};

    if (event->refusal != OUTCOME_NONE) {
        key.ticket = 0;
        memcpy(&key.lone, event->id + sizeof(event->id) - sizeof(key.lone), sizeof(key.lone)); /* its random bits */
        key.lone |= 1;
    }
    return key;
}

/* What spool->known says, and until when: monotonic microseconds times four. */
enum known { ASK, EMPTY, SOME, UNKNOWN };

static int64_t pack(enum known known, int64_t for_us)
{
    return (clock_monotonic_us() + for_us) * 4 + known;
}

/* Looks whether it is another file by now, and whether there is anything in it. */
static enum known look_again(struct spool *spool, int64_t before)
{
    const char *why;
    int64_t any = 0;
    int code = spool_begin(spool, &spool->in, SPOOL_READ, &why);
    if (code == SQLITE_OK) {
        any = spool_number(spool->in.statements[SQL_ANY]);
        code = spool_end(spool, &spool->in, any < 0 ? sqlite3_errcode(spool->in.db) : SQLITE_OK, &why);
    }
    enum known known = why ? UNKNOWN : any > 0 ? SOME : EMPTY;

    /* What was appended in the meantime is not overlooked. */
    if (!atomic_compare_exchange_strong(&spool->known, &before, pack(known, known == UNKNOWN ? FAILURE_US : LOOK_US)))
        return ASK;
    if (known == EMPTY)
        spool_say_empty(spool);
    if (known == UNKNOWN)
        log_line(LOG_ERROR, "the spool cannot be read: events go to the database, past those that may wait",
                 LOG_TEXT("why", why), LOG_TEXT("dir", spool->path));
    return known;
}

/* One statement, on the file that is open. False: not on any. */
static bool ask_quickly(struct spool *spool, const struct spool_key *key, bool *waits)
{
    struct spool_side *side = &spool->in;
    int code = SQLITE_ERROR;

    pthread_mutex_lock(&side->mutex);
    if (side->db) {
        sqlite3_stmt *statement = SPOOL_SQL(side, WAITS, key->project, key->ticket, key->lone);
        code = sqlite3_step(statement);
        sqlite3_reset(statement);
    }
    pthread_mutex_unlock(&side->mutex);
    *waits = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE;
}

bool spool_waits(struct spool *spool, struct event *event)
{
    struct spool_key key = key_of(event);
    bool waits = false;

    if (event->refusal != OUTCOME_NONE)
        return false;
    for (int tries = 0; *spool->path && tries < 3; tries++) {
        int64_t packed = atomic_load(&spool->known);
        enum known known = clock_monotonic_us() < packed / 4 ? (enum known)(packed % 4) : ASK;
        if (known == ASK)
            known = look_again(spool, packed);
        if (known == EMPTY || (known == SOME && ask_quickly(spool, &key, &waits)))
            return waits;
        if (known == UNKNOWN)
            break;
        if (known == SOME) /* but it could not be asked: look first */
            atomic_compare_exchange_strong(&spool->known, &packed, pack(ASK, 0));
    }
    event->waited = *spool->path != '\0';
    return false;
}

/* ---- in */

int spool_put(struct spool_side *side, struct event *event, struct spool_counts *counts)
{
    struct spool_key key = key_of(event);
    size_t length;
    const char *body = event_received(event, &length);
    sqlite3_stmt *put = SPOOL_SQL(side, PUT, key.project, key.ticket, key.lone, event->received_at, event->tries);

    sqlite3_bind_blob(put, 6, event->id, sizeof(event->id), SQLITE_STATIC);
    sqlite3_bind_text(put, 7, action_name(event->action), -1, SQLITE_STATIC);
    sqlite3_bind_blob64(put, 8, body ? body : "", length, SQLITE_STATIC);
    sqlite3_bind_int(put, 9, outcome_status(event->refusal));
    sqlite3_bind_text(put, 10, event->refusal == OUTCOME_NONE ? NULL : event_reason(event), -1, SQLITE_STATIC);
    sqlite3_bind_text(put, 11, *event->iv ? event->iv : NULL, -1, SQLITE_STATIC);
    sqlite3_bind_text(put, 12, *event->coding ? event->coding : NULL, -1, SQLITE_STATIC);
    int code = spool_run(put);
    sqlite3_clear_bindings(put);
    if (code != SQLITE_OK || sqlite3_changes(side->db) == 0)
        return code;
    counts->events++;
    code = spool_run(SPOOL_SQL(side, WAIT, key.project, key.ticket, key.lone, event->received_at, clock_realtime_us()));
    counts->tickets += code == SQLITE_OK ? sqlite3_changes(side->db) : 0;
    return code;
}

int spool_count(struct spool_side *side, const struct spool_counts *counts, const char *identity)
{
    sqlite3_stmt *count = SPOOL_SQL(side, COUNT, counts->events, counts->tickets);
    sqlite3_bind_text(count, 3, identity, -1, SQLITE_STATIC);
    return spool_run(count);
}

/* NULL: all are in, or why not. Where there is no room for all each half is tried alone, so that a large event keeps no
 * small one out. */
static const char *append_all(struct spool *spool, struct event **events, size_t count)
{
    struct spool_counts added;
    const char *why;
    int code;

    for (bool again = true;; again = false) { /* once more where a damaged file was moved aside */
        added = (struct spool_counts){0, 0};
        code = spool_begin(spool, &spool->in, SPOOL_MAKE, &why);
        if (code == SQLITE_OK) {
            atomic_store(&spool->known, pack(ASK, 0));
            /* Not to the disk's last byte: bringing events out again takes some room, too. */
            code = spool_has_disk(spool) ? SQLITE_OK : SQLITE_FULL;
            for (size_t i = 0; code == SQLITE_OK && i < count; i++)
                if (events[i]->outcome == OUTCOME_NONE)
                    code = spool_put(&spool->in, events[i], &added);
            if (code == SQLITE_OK)
                code = spool_count(&spool->in, &added, spool->identity);
            code = spool_end(spool, &spool->in, code, &why);
        }
        if (!again || !spool_is_damage(code))
            break;
    }
    if (code == SQLITE_FULL && count > 1) {
        const char *first = append_all(spool, events, count / 2);
        why = append_all(spool, events + count / 2, count - count / 2);
        return why ? why : first;
    }
    for (size_t i = 0; i < count; i++) {
        struct event *event = events[i];
        if (event->outcome == OUTCOME_NONE && code != SQLITE_OK)
            event->outcome = OUTCOME_UNAVAILABLE;
        else if (event->outcome == OUTCOME_NONE)
            event->outcome = event->refusal == OUTCOME_NONE ? OUTCOME_SPOOLED : event->refusal;
    }
    if (code == SQLITE_OK)
        metrics_add(METRIC_SPOOL_EVENTS, added.events);
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
    if (*spool->path)
        say_problem(spool, why);
}
