/* Beside the path: what waits in the spool, for people and for the metrics, and what they do about it. */
#include "base/log.h"
#include "base/metrics.h"
#include "spool/spool_directory.h"
#include "spool/spool_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define RENEW_BYTES 1048576 /* an empty file this large is removed */
#define WAL_BYTES                                                                                                      \
    16777216              /* so large a -wal is brought into the file: SQLite begins it anew only when nobody reads    \
                           */
#define ROOM_PAGES    16  /* fewer are no room */
#define LOOK_IDENTITY 5   /* the column of it */
#define ADD_EVENTS    256 /* of another file, a commit */
#define ADD_MOST      10000000 /* rows that are looked for in a damaged one, until there is a first, */
#define ADD_GAP       100000   /* … and behind one that was: a page that leads to 340 others takes fewer with it */
#define COLUMN_NO     10       /* of SQL_NEXT, behind EVENT_COLUMNS */

/* Sums up the bytes of its files, and of the -wal alone, and counts those that were kept aside. */
static void look_at_files(const struct spool *spool, int64_t *bytes, int64_t *wal_bytes, int64_t *aside)
{
    DIR *listing = opendir(spool->path);
    struct dirent *entry;
    struct stat file;

    while (listing && (entry = readdir(listing))) {
        size_t length = strlen(entry->d_name);
        *aside += length > 4 && strcmp(entry->d_name + length - 4, ".bad") == 0;
        if (strncmp(entry->d_name, "spool.db", 8) != 0 || fstatat(dirfd(listing), entry->d_name, &file, 0) != 0)
            continue;
        *bytes += file.st_size;
        if (strcmp(entry->d_name, "spool.db-wal") == 0)
            *wal_bytes = file.st_size;
    }
    if (listing)
        closedir(listing);
}

void spool_remove_empty(struct spool *spool)
{
    struct spool_side *side = &spool->out;
    const char *why;

    if (spool_begin(spool, side, SPOOL_CHANGE, &why) != SQLITE_OK)
        return;
    if (flock(side->lock, LOCK_EX | LOCK_NB) == 0 && spool_number(side->statements[SQL_ANY]) == 0)
        (void)!spool_unlink(spool);                    /* then it is used on */
    (void)!spool_end(spool, side, SQLITE_EMPTY, &why); /* nothing was changed in it */
}

/* By the rights that opening it would have, which access(2) does not ask for. */
static bool may_use(const char *path, int mode)
{
    return faccessat(AT_FDCWD, path, mode, AT_EACCESS) == 0;
}

const char *spool_look(struct spool *spool, struct spool_status *status)
{
    int64_t *const numbers[] = {&status->events, &status->tickets, &status->oldest, &status->held, &status->held_since};
    struct spool_side *side = &spool->out;
    int64_t bytes = 0, wal_bytes = 0;
    const char *why;

    *status = (struct spool_status){.max_bytes = spool->max_pages * SPOOL_PAGE};
    status->missing = !may_use(spool->path, F_OK);
    look_at_files(spool, &bytes, &wal_bytes, &status->aside);
    if (spool_begin(spool, side, SPOOL_READ, &why) == SQLITE_OK) {
        sqlite3_stmt *row = side->statements[SQL_LOOK];
        int code = sqlite3_step(row);
        for (int i = 0; code == SQLITE_ROW && i < (int)(sizeof(numbers) / sizeof(numbers[0])); i++)
            *numbers[i] = sqlite3_column_int64(row, i);
        const char *identity = code == SQLITE_ROW ? (const char *)sqlite3_column_text(row, LOOK_IDENTITY) : NULL;
        snprintf(status->identity, sizeof(status->identity), "%s", identity ? identity : "");
        sqlite3_reset(row);
        int64_t pages = spool_number(side->statements[SQL_PAGES]);
        status->bytes = (pages - spool_number(side->statements[SQL_FREE_PAGES])) * SPOOL_PAGE;
        code = code == SQLITE_ROW ? spool_run(side->statements[SQL_COMMIT]) : code;
        if (code == SQLITE_OK && wal_bytes > WAL_BYTES)
            code = spool_run(side->statements[SQL_SHRINK]);
        (void)!spool_end(spool, side, code, &why);
    }
    if (why)
        return why;
    if (status->events == 0 && bytes > RENEW_BYTES)
        spool_remove_empty(spool);
    if (status->events == 0 && atomic_exchange(&spool->spooling, false))
        log_line(LOG_INFO, "the spool is empty", LOG_TEXT("dir", spool->path));
    metrics_set(METRIC_SPOOL_EVENTS, status->events);
    metrics_set(METRIC_SPOOL_BYTES, status->events ? status->bytes : 0);
    metrics_set(METRIC_SPOOL_OLDEST, status->oldest);
    metrics_set(METRIC_SPOOL_TICKETS, status->tickets);
    metrics_set(METRIC_SPOOL_HELD, status->held);
    metrics_set(METRIC_SPOOL_HELD_OLDEST, status->held_since);
    return NULL;
}

const char *spool_problem(struct spool *spool)
{
    struct spool_side *side = &spool->in;
    char parent[PATH_MAX];
    int64_t pages = 0;

    if (!*spool->path)
        return "TICKETD_SPOOL_DIR is not set";
    if (!may_use(spool->path, F_OK)) { /* made when it is needed */
        snprintf(parent, sizeof(parent), "%s", spool->path);
        return may_use(dirname(parent), W_OK | X_OK) ? NULL : spool_reason();
    }
    const char *why = spool_make_directory(spool);
    if (!why && !may_use(spool->path, R_OK | W_OK | X_OK))
        why = spool_reason();
    if (!why && spool_begin(spool, side, SPOOL_READ, &why) == SQLITE_OK) {
        pages = spool_number(side->statements[SQL_PAGES]);
        why = spool_foreign(spool, side);
        (void)!spool_end(spool, side, pages < 0 ? sqlite3_errcode(side->db) : SQLITE_OK, &why);
    }
    if (!why && pages > spool->max_pages - ROOM_PAGES)
        why = spool_is_full;
    return why ? why : spool_disk_problem(spool);
}

const char *spool_warning(const struct spool *spool)
{
    struct statfs volume;

    if (!*spool->path || statfs(spool->path, &volume) != 0 ||
        (volume.f_type != TMPFS_MAGIC && volume.f_type != RAMFS_MAGIC))
        return NULL;
    return "it is in memory (tmpfs): what waits there is lost when the machine stops";
}

size_t spool_tickets(struct spool *spool, const struct spool_ticket *after, struct spool_ticket *tickets, size_t most)
{
    struct spool_side *side = &spool->out;
    const char *why;
    size_t count = 0;

    if (spool_begin(spool, side, SPOOL_READ, &why) == SQLITE_OK) {
        int code = SQLITE_DONE;
        sqlite3_stmt *row = SPOOL_SQL(side, TICKETS, after->project, after->ticket, after->lone, (int64_t)most);
        while (count < most && (code = sqlite3_step(row)) == SQLITE_ROW) {
            struct spool_ticket *ticket = &tickets[count++];
            const char *text = (const char *)sqlite3_column_text(row, 7);
            const void *oldest = sqlite3_column_blob(row, 8);
            *ticket = (struct spool_ticket){.project = sqlite3_column_int64(row, 0),
                                            .ticket = sqlite3_column_int64(row, 1),
                                            .lone = sqlite3_column_int64(row, 2),
                                            .since = sqlite3_column_int64(row, 3),
                                            .next_try = sqlite3_column_int64(row, 4),
                                            .events = sqlite3_column_int64(row, 5),
                                            .tries = (unsigned)sqlite3_column_int64(row, 6)};
            snprintf(ticket->why, sizeof(ticket->why), "%s", text ? text : "");
            if (oldest && sqlite3_column_bytes(row, 8) == sizeof(ticket->oldest))
                memcpy(ticket->oldest, oldest, sizeof(ticket->oldest));
        }
        sqlite3_reset(row);
        (void)!spool_end(spool, side, code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code, &why);
    }
    spool_went_well(spool, SPOOL_GIVES_NOTHING, why);
    return count;
}

bool spool_find(struct spool *spool, const uint8_t id[16], struct event *event)
{
    struct spool_side *side = &spool->out;
    const char *why;
    bool found = false;

    if (spool_begin(spool, side, SPOOL_READ, &why) == SQLITE_OK) {
        sqlite3_stmt *row = spool_sql_of(side, SQL_FIND, id);
        int code = sqlite3_step(row);
        found = code == SQLITE_ROW && spool_read_event(row, event);
        sqlite3_reset(row);
        (void)!spool_end(spool, side, code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code, &why);
    }
    spool_went_well(spool, SPOOL_GIVES_NOTHING, why);
    return found;
}

/* ---- the database that the events are meant for */

void spool_is_for(struct spool *spool, const char *identity)
{
    pthread_mutex_lock(&spool->in.mutex);
    if (!spool->identity || strcmp(spool->identity, identity) != 0) {
        pthread_mutex_lock(&spool->out.mutex);
        free(spool->identity);
        spool->identity = strdup(identity);
        pthread_mutex_unlock(&spool->out.mutex);
    }
    pthread_mutex_unlock(&spool->in.mutex);
}

bool spool_adopt(struct spool *spool)
{
    struct spool_side *side = &spool->in;
    const char *why;

    if (spool_begin(spool, side, SPOOL_CHANGE, &why) == SQLITE_OK) {
        sqlite3_bind_text(side->statements[SQL_ADOPT], 1, spool->identity, -1, SQLITE_STATIC);
        (void)!spool_end(spool, side, spool_run(side->statements[SQL_ADOPT]), &why);
    }
    return spool_went_well(spool, SPOOL_GIVES_NOTHING, why);
}

/* ---- another spool's file */

/* Where the reading of a file is. A whole one is read in order. In a damaged one each number is looked for, so that a
 * damaged page takes no more than its own with it: what it says of the next is not to be believed. */
struct reading {
    sqlite3_stmt *row; /* SQL_ROW or SQL_NEXT */
    bool damaged;
    int64_t no, last; /* the next number, and the last that is looked for */
    size_t lost;
};

static bool is_whole(sqlite3 *db)
{
    sqlite3_stmt *row = NULL;
    bool whole = sqlite3_prepare_v2(db, "PRAGMA integrity_check(events)", -1, &row, NULL) == SQLITE_OK &&
                 sqlite3_step(row) == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(row, 0), "ok") == 0;

    sqlite3_finalize(row);
    return whole;
}

/* Returns how many it read. */
static size_t read_some(struct reading *reading, struct event *events)
{
    size_t count = 0;

    while (reading->no <= reading->last && count < ADD_EVENTS) {
        sqlite3_bind_int64(reading->row, 1, reading->no);
        int code = sqlite3_step(reading->row);
        bool good = code == SQLITE_ROW && spool_read_event(reading->row, &events[count]);
        int64_t no =
            code == SQLITE_ROW && !reading->damaged ? sqlite3_column_int64(reading->row, COLUMN_NO) : reading->no;
        sqlite3_reset(reading->row);
        count += good;
        reading->lost += !good && code != SQLITE_DONE;
        if (reading->damaged && good)
            reading->last = no + ADD_GAP;
        if ((!reading->damaged && code != SQLITE_ROW) || no == INT64_MAX)
            reading->last = -1; /* the end */
        else
            reading->no = no + 1;
    }
    return count;
}

bool spool_add(struct spool *spool, const char *file, uint64_t *added)
{
    struct event events[ADD_EVENTS], *pointers[ADD_EVENTS];
    sqlite3 *db = NULL;

    *added = 0;
    int code = sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, NULL);
    bool damaged = code == SQLITE_OK && !is_whole(db);
    struct reading reading = {NULL, damaged, 0, damaged ? ADD_MOST : INT64_MAX, damaged};
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(db, spool_statement(damaged ? SQL_ROW : SQL_NEXT), -1, &reading.row, NULL);
    const char *why = code == SQLITE_OK ? NULL : sqlite3_errstr(code);
    while (!why && reading.no <= reading.last) {
        size_t count = read_some(&reading, events);
        for (size_t i = 0; i < count; i++)
            pointers[i] = &events[i];
        spool_append(spool, pointers, count);
        for (size_t i = 0; i < count; i++) {
            if (events[i].outcome == OUTCOME_UNAVAILABLE)
                why = "the spool did not take them";
            *added += events[i].outcome != OUTCOME_UNAVAILABLE;
            event_free(&events[i]);
        }
    }
    if (!why && reading.lost)
        why = "it is damaged";
    if (why)
        log_line(LOG_ERROR, "not all events of the file could be added", LOG_TEXT("file", file), LOG_TEXT("why", why),
                 LOG_NUMBER("added", (int64_t)*added));
    sqlite3_finalize(reading.row);
    sqlite3_close(db);
    return !why;
}
