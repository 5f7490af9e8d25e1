/* Beside the path: what waits in the spool, for people and for the metrics, and what they do about it. */
#include "base/log.h"
#include "base/metrics.h"
#include "spool/spool_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RENEW_BYTES 1048576 /* an empty file this large is removed */

#define ROOM_PAGES 16       /* fewer are no room */
#define ADD_EVENTS 256      /* of another file, a commit */
#define ADD_MOST   10000000 /* rows that are looked for where the last cannot be found */

/* As it is now, read by one of the connections. NULL, or why not. */
static const char *read_status(struct spool *spool, struct spool_side *side, struct spool_status *status)
{
    int64_t *const numbers[] = {&status->events, &status->tickets, &status->oldest, &status->held, &status->held_since};
    const char *why;
    int code = spool_begin(spool, side, SPOOL_READ, &why);

    *status = (struct spool_status){.max_bytes = spool->max_pages * SPOOL_PAGE};
    if (code == SQLITE_OK) {
        sqlite3_stmt *row = side->statements[SQL_LOOK];
        code = sqlite3_step(row);
        for (int i = 0; code == SQLITE_ROW && i < (int)(sizeof(numbers) / sizeof(numbers[0])); i++)
            *numbers[i] = sqlite3_column_int64(row, i);
        sqlite3_reset(row);
        int64_t pages = spool_number(side->statements[SQL_PAGES]);
        status->bytes = (pages - spool_number(side->statements[SQL_FREE_PAGES])) * SPOOL_PAGE;
        (void)!spool_end(spool, side, code == SQLITE_ROW ? SQLITE_OK : code, &why);
    }
    return why;
}

static void look_at_files(const struct spool *spool, struct spool_status *status)
{
    DIR *listing = opendir(spool->path);
    struct dirent *entry;
    struct stat file;

    while (listing && (entry = readdir(listing))) {
        size_t length = strlen(entry->d_name);
        status->aside += length > 4 && strcmp(entry->d_name + length - 4, ".bad") == 0;
        if (strncmp(entry->d_name, "spool.db", 8) == 0 && fstatat(dirfd(listing), entry->d_name, &file, 0) == 0)
            status->file_bytes += file.st_size;
    }
    if (listing)
        closedir(listing);
}

const char *spool_look(struct spool *spool, struct spool_status *status)
{
    const char *why = read_status(spool, &spool->out, status);

    if (!why && *spool->path)
        spool_tidy(spool, status->events == 0, RENEW_BYTES);
    look_at_files(spool, status);
    if (!why && status->events == 0)
        spool_say_empty(spool);
    if (!why) {
        metrics_set(METRIC_SPOOL_EVENTS, status->events);
        metrics_set(METRIC_SPOOL_BYTES, status->events ? status->bytes : 0);
        metrics_set(METRIC_SPOOL_OLDEST, status->oldest);
        metrics_set(METRIC_SPOOL_TICKETS, status->tickets);
        metrics_set(METRIC_SPOOL_HELD, status->held);
        metrics_set(METRIC_SPOOL_HELD_OLDEST, status->held ? status->held_since : 0);
    }
    return why;
}

const char *spool_problem(struct spool *spool)
{
    struct spool_status status;
    char parent[PATH_MAX];

    if (!*spool->path)
        return "TICKETD_SPOOL_DIR is not set";
    if (access(spool->path, F_OK) != 0) { /* made when it is needed */
        snprintf(parent, sizeof(parent), "%s", spool->path);
        return access(dirname(parent), W_OK | X_OK) == 0 ? NULL : spool_reason();
    }
    const char *why = spool_make_directory(spool);
    if (!why && faccessat(AT_FDCWD, spool->path, R_OK | W_OK | X_OK, AT_EACCESS) != 0)
        why = spool_reason();
    if (!why)
        why = read_status(spool, &spool->in, &status);
    if (!why && status.bytes > (spool->max_pages - ROOM_PAGES) * SPOOL_PAGE)
        why = spool_is_full;
    if (!why && !spool_has_disk(spool))
        why = spool_disk_full;
    return why;
}

size_t spool_tickets(struct spool *spool, const struct spool_ticket *after, struct spool_ticket *tickets, size_t most)
{
    struct spool_side *side = &spool->out;
    const char *why;
    size_t count = 0;
    int code = spool_begin(spool, side, SPOOL_READ, &why);

    if (code == SQLITE_OK) {
        sqlite3_stmt *row = SPOOL_SQL(side, TICKETS, after->project, after->ticket, after->lone, (int64_t)most);
        while (count < most && (code = sqlite3_step(row)) == SQLITE_ROW) {
            struct spool_ticket *ticket = &tickets[count++];
            const char *text = (const char *)sqlite3_column_text(row, 6);
            const void *oldest = sqlite3_column_blob(row, 8);
            *ticket = (struct spool_ticket){sqlite3_column_int64(row, 0),
                                            sqlite3_column_int64(row, 1),
                                            sqlite3_column_int64(row, 2),
                                            sqlite3_column_int64(row, 3),
                                            sqlite3_column_int64(row, 4),
                                            sqlite3_column_int64(row, 7),
                                            (unsigned)sqlite3_column_int64(row, 5),
                                            {0},
                                            {0}};
            snprintf(ticket->why, sizeof(ticket->why), "%s", text ? text : "");
            if (oldest && sqlite3_column_bytes(row, 8) == sizeof(ticket->oldest))
                memcpy(ticket->oldest, oldest, sizeof(ticket->oldest));
        }
        sqlite3_reset(row);
        code = spool_end(spool, side, code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code, &why);
    }
    spool_went_well(spool, code, why);
    return count;
}

bool spool_find(struct spool *spool, const uint8_t id[16], struct event *event)
{
    struct spool_side *side = &spool->out;
    const char *why;
    bool found = false;
    int code = spool_begin(spool, side, SPOOL_READ, &why);

    if (code == SQLITE_OK) {
        sqlite3_stmt *row = side->statements[SQL_FIND];
        sqlite3_bind_blob(row, 1, id, sizeof(event->id), SQLITE_STATIC);
        code = sqlite3_step(row);
        found = code == SQLITE_ROW && spool_read_event(row, event);
        sqlite3_reset(row);
        code = spool_end(spool, side, code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code, &why);
    }
    spool_went_well(spool, code, why);
    return found;
}

/* ---- the database that the events are meant for */

/* An append that begins the file finds it here. */
static void keep_identity(struct spool *spool, const char *identity)
{
    pthread_mutex_lock(&spool->in.mutex);
    if (!spool->identity || strcmp(spool->identity, identity) != 0) {
        free(spool->identity);
        spool->identity = strdup(identity);
    }
    pthread_mutex_unlock(&spool->in.mutex);
}

/* Remembers it by this statement. False: another one is remembered then, or it is not known. */
static bool remember(struct spool *spool, enum spool_statement how, const char *identity)
{
    struct spool_side *side = &spool->out;
    bool belongs = true;
    const char *why;

    keep_identity(spool, identity);
    int code = spool_begin(spool, side, SPOOL_CHANGE, &why);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(side->statements[how], 1, identity, -1, SQLITE_STATIC);
        code = spool_run(side->statements[how]);
        sqlite3_bind_text(side->statements[SQL_BELONGS], 1, identity, -1, SQLITE_STATIC);
        belongs = spool_number(side->statements[SQL_BELONGS]) == 1;
        code = spool_end(spool, side, code, &why);
    }
    return spool_went_well(spool, code, why) && belongs;
}

bool spool_belongs(struct spool *spool, const char *identity)
{
    return remember(spool, SQL_REMEMBER, identity);
}

bool spool_adopt(struct spool *spool, const char *identity)
{
    return remember(spool, SQL_ADOPT, identity);
}

/* ---- a recovered file */

/* Each row by itself, so that a damaged page takes no more than its own with it. Returns how many it read. */
static size_t read_some(sqlite3_stmt *row, int64_t *no, int64_t last, struct event *events, size_t *lost)
{
    size_t count = 0;

    for (; *no <= last && count < ADD_EVENTS; ++*no) {
        sqlite3_bind_int64(row, 1, *no);
        int code = sqlite3_step(row);
        bool good = code == SQLITE_ROW && spool_read_event(row, &events[count]);
        count += good;
        *lost += !good && code != SQLITE_DONE;
        sqlite3_reset(row);
    }
    return count;
}

bool spool_add(struct spool *spool, const char *file, uint64_t *added)
{
    struct event events[ADD_EVENTS], *pointers[ADD_EVENTS];
    sqlite3_stmt *row = NULL, *first = NULL, *last = NULL;
    sqlite3 *db = NULL;
    size_t lost = 0;
    const char *why = NULL;

    *added = 0;
    if (sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, spool_statement(SQL_ROW), -1, &row, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, spool_statement(SQL_FIRST), -1, &first, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, spool_statement(SQL_LAST), -1, &last, NULL) != SQLITE_OK) {
        why = sqlite3_errstr(sqlite3_errcode(db));
    } else {
        int64_t no = spool_number(first), end = spool_number(last);
        no = no < 0 ? 1 : no;
        if (end < 0 && sqlite3_errcode(db) != SQLITE_DONE) /* its last page is damaged */
            end = no + ADD_MOST;
        for (size_t count; !why && (count = read_some(row, &no, end, events, &lost)) > 0;) {
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
    }
    if (why || lost)
        log_line(LOG_ERROR, "not all events of the file could be added", LOG_TEXT("file", file),
                 LOG_TEXT("why", why ? why : "it is damaged"), LOG_NUMBER("added", (int64_t)*added));
    sqlite3_finalize(row);
    sqlite3_finalize(first);
    sqlite3_finalize(last);
    sqlite3_close(db);
    return !why && !lost;
}
