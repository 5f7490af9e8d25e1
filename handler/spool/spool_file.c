/* SQLite's file: one connection for those who put in and ask, one for those who take out. */
#include "spool/spool_file.h"
#include "base/clock.h"
#include "base/log.h"
#include "spool/spool_directory.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS    2000 /* for another process */
#define MORE_PAGES 4096 /* for those who take out: deleting needs space, too */
#define VERSION_1  1    /* of the tables: PRAGMA user_version */

/* A ticket waits as long as it has events; when one left it is the turn of its next, behind that of other tickets.
 * Until it is put off, next_try is the number of an event, which is less than any time: whose turn it is, whatever the
 * clock says. Two processes may come upon a file without tables: one that was killed left it so. */
static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS events (no INTEGER PRIMARY KEY, project INTEGER NOT NULL, ticket INTEGER NOT NULL,"
    " lone INTEGER NOT NULL, received_at INTEGER NOT NULL, tries INTEGER NOT NULL, id BLOB NOT NULL UNIQUE,"
    " refusal INTEGER NOT NULL, reason TEXT, iv TEXT, coding TEXT, body BLOB NOT NULL);"
    "CREATE INDEX IF NOT EXISTS events_of_ticket ON events (project, ticket, lone);"
    "CREATE TABLE IF NOT EXISTS waiting (project INTEGER, ticket INTEGER, lone INTEGER, since INTEGER NOT NULL,"
    " next_try INTEGER NOT NULL, events INTEGER NOT NULL DEFAULT 1, tries INTEGER NOT NULL DEFAULT 0,"
    " why TEXT, PRIMARY KEY (project, ticket, lone)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS waiting_due ON waiting (next_try);"
    "CREATE INDEX IF NOT EXISTS waiting_held ON waiting (since) WHERE tries > 0;"
    "CREATE TRIGGER IF NOT EXISTS event_came AFTER INSERT ON events BEGIN"
    " INSERT INTO waiting (project, ticket, lone, since, next_try)"
    "  VALUES (new.project, new.ticket, new.lone, new.received_at, new.no)"
    "  ON CONFLICT DO UPDATE SET events = events + 1;"
    "END;"
    "CREATE TRIGGER IF NOT EXISTS event_left AFTER DELETE ON events BEGIN"
    " UPDATE waiting SET events = events - 1, tries = 0, why = NULL,"
    "  next_try = (SELECT coalesce(max(no), 0) + 1 FROM events)"
    "  WHERE project = old.project AND ticket = old.ticket AND lone = old.lone;"
    " DELETE FROM waiting WHERE project = old.project AND ticket = old.ticket AND lone = old.lone AND events = 0;"
    "END;"
    "CREATE TABLE IF NOT EXISTS spool (identity TEXT);"
    "INSERT INTO spool SELECT NULL WHERE NOT EXISTS (SELECT 1 FROM spool);"
    "PRAGMA user_version = 1;"
    "COMMIT";

static const char *const statements[] = {
#define STATEMENT(name, sql) [SQL_##name] = sql,
#include "spool/statements.def"
#undef STATEMENT
};

const char spool_is_full[] = "it is full: TICKETD_SPOOL_MAX_MB is reached";
static const char is_busy[] = "another process holds it and does not go on";

/* ---- statements and their result codes */

bool spool_is_damage(int code)
{
    return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

static const char *explain(const struct spool *spool, const struct spool_side *side, int code)
{
    int error = side->db ? sqlite3_system_errno(side->db) : 0;
    const char *disk;

    switch (code) {
    case SQLITE_FULL:
        disk = spool_disk_problem(spool);
        return disk ? disk : spool_is_full;
    case SQLITE_BUSY:
        return is_busy;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        if (error && strerrordesc_np(error))
            return strerrordesc_np(error);
    }
    return sqlite3_errstr(code);
}

sqlite3_stmt *spool_sql(struct spool_side *side, enum spool_statement which, size_t count, const int64_t *numbers)
{
    for (size_t i = 0; i < count; i++)
        sqlite3_bind_int64(side->statements[which], (int)i + 1, numbers[i]);
    return side->statements[which];
}

sqlite3_stmt *spool_sql_of(struct spool_side *side, enum spool_statement which, const uint8_t id[16])
{
    sqlite3_bind_blob(side->statements[which], 1, id, 16, SQLITE_TRANSIENT);
    return side->statements[which];
}

const char *spool_statement(enum spool_statement which)
{
    return statements[which];
}

int spool_run(sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);
    sqlite3_reset(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code & 0xff;
}

int64_t spool_number(sqlite3_stmt *statement)
{
    int64_t number = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
    sqlite3_reset(statement);
    return number;
}

const char *spool_foreign(struct spool *spool, struct spool_side *side)
{
    sqlite3_bind_text(side->statements[SQL_FOREIGN], 1, spool->identity, -1, SQLITE_STATIC);
    return spool_number(side->statements[SQL_FOREIGN]) == 1 ? "it belongs to another database: see ticketd spool status"
                                                            : NULL;
}

/* ---- a connection */

void spool_close_side(struct spool_side *side)
{
    for (int i = 0; i < SQL_COUNT_OF; i++)
        sqlite3_finalize(side->statements[i]);
    memset(side->statements, 0, sizeof(side->statements));
    sqlite3_close(side->db);
    side->db = NULL;
}

/* SQLite's own would sleep up to 100 ms, and find others at it each time. */
static int wait_for_others(void *ignored, int times)
{
    (void)ignored;
    clock_sleep_ms(1);
    return times < WAIT_MS;
}

/* Makes the tables where there are none. */
static int open_side(struct spool *spool, struct spool_side *side, const char **why)
{
    char settings[500];
    sqlite3_stmt *row = NULL;
    int64_t version = 0;

    snprintf(settings, sizeof(settings),
             "PRAGMA page_size = %d; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
             "PRAGMA temp_store = MEMORY; PRAGMA secure_delete = FAST; PRAGMA wal_autocheckpoint = %d;"
             "PRAGMA journal_size_limit = %d; PRAGMA max_page_count = %lld",
             SPOOL_PAGE, SPOOL_WAL / SPOOL_PAGE, SPOOL_WAL,
             (long long)(spool->max_pages + (side->drains ? MORE_PAGES : 0)));
    int code = sqlite3_open_v2(spool->file, &side->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        sqlite3_busy_handler(side->db, wait_for_others, NULL);
        /* Who closes last would remove the -wal by its name, which may be that of a new file by then. */
        sqlite3_db_config(side->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        code = sqlite3_exec(side->db, settings, NULL, NULL, NULL);
    }
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(side->db, "PRAGMA user_version", -1, &row, NULL);
    if (code == SQLITE_OK && (version = spool_number(row)) < 0)
        code = sqlite3_errcode(side->db);
    sqlite3_finalize(row);
    if (code == SQLITE_OK && version == 0)
        code = sqlite3_exec(side->db, schema, NULL, NULL, NULL);
    if (code == SQLITE_OK && version > VERSION_1)
        *why = "it was made by a newer ticketd";
    for (int i = 0; code == SQLITE_OK && !*why && i < SQL_COUNT_OF; i++)
        code = sqlite3_prepare_v3(side->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &side->statements[i], NULL);
    if (code == SQLITE_ERROR && !*why)
        *why = "its tables are not those of a spool";
    return *why ? SQLITE_CANTOPEN : code & 0xff;
}

static int refuse(const char **why)
{
    *why = errno == EWOULDBLOCK ? is_busy : spool_reason();
    return errno == EWOULDBLOCK ? SQLITE_BUSY : SQLITE_CANTOPEN;
}

/* Takes the lock, shared, and opens the file that now has the name. SQLITE_EMPTY: none has. */
static int enter(struct spool *spool, struct spool_side *side, enum spool_use use, const char **why)
{
    struct stat now;
    int64_t time = clock_monotonic_us();
    bool there = stat(spool->file, &now) == 0;

    if (!there && errno != ENOENT && errno != ENOTDIR)
        return refuse(why);
    if (!there && use != SPOOL_MAKE) {
        spool_close_side(side);
        atomic_store(&spool->empty_until, time + SPOOL_LOOK_US);
        return SQLITE_EMPTY;
    }
    if (!side->db && (*why = spool_make_directory(spool)))
        return SQLITE_CANTOPEN;
    side->lock = spool_lock(spool, "spool.lock", LOCK_SH, WAIT_MS);
    if (side->lock < 0)
        return refuse(why);
    there = stat(spool->file, &now) == 0;
    if (!side->db || !there || now.st_ino != side->inode || now.st_dev != side->device) {
        spool_close_side(side);
        if (!there && use != SPOOL_MAKE)
            return SQLITE_EMPTY;
        if ((!there || now.st_size == 0) &&
            (!clock_lock_within(side->lock, LOCK_EX, WAIT_MS) ||
             (stat(spool->file, &now) != 0 && !spool_make_file(spool)) || stat(spool->file, &now) != 0))
            return refuse(why);
        side->device = now.st_dev;
        side->inode = now.st_ino;
        int code = open_side(spool, side, why);
        if (code != SQLITE_OK) {
            *why = *why ? *why : explain(spool, side, code);
            spool_close_side(side);
            return code;
        }
    }
    side->looked_until = time + SPOOL_LOOK_US;
    return SQLITE_OK;
}

/* What integrity_check says where it did not get a page: "unable to get the page", "failed to get page". */
#define NOT_READ " to get "

/* Looks again, with a connection of its own: a read that failed is no damage. */
static bool is_damaged(const struct spool *spool)
{
    sqlite3_stmt *row = NULL;
    sqlite3 *db = NULL;
    int code = sqlite3_open_v2(spool->file, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);

    if (code == SQLITE_OK)
        code = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &row, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(row);
    const char *said = code == SQLITE_ROW ? (const char *)sqlite3_column_text(row, 0) : NULL;
    bool damaged = said ? strcmp(said, "ok") != 0 && !strstr(said, NOT_READ) : spool_is_damage(code & 0xff);
    sqlite3_finalize(row);
    sqlite3_close(db);
    return damaged;
}

/* Keeps the damaged file as it is, for people. Others see that it is gone when they next come. */
static void move_aside(struct spool *spool, struct spool_side *side)
{
    char bad[PATH_MAX], recover[PATH_MAX + 32] = "";
    struct stat now;
    int lock = spool_lock(spool, "spool.lock", LOCK_EX, WAIT_MS);

    /* Another process may have done it. */
    if (lock >= 0 && stat(spool->file, &now) == 0 && now.st_ino == side->inode && is_damaged(spool)) {
        bool good = spool_keep_aside(spool, bad);
        if (good)
            snprintf(recover, sizeof(recover), "ticketd spool add '%s'", bad);
        log_line(LOG_ERROR,
                 good ? "the spool is damaged: it is kept aside and a new one begun; its events come back by hand"
                      : "the spool is damaged and cannot be kept aside",
                 LOG_TEXT("file", bad), LOG_TEXT("recover", recover));
    }
    if (lock >= 0)
        close(lock);
}

int spool_begin(struct spool *spool, struct spool_side *side, enum spool_use use, const char **why)
{
    static const enum spool_statement begin[] = {
        [SPOOL_READ] = SQL_READ, [SPOOL_CHANGE] = SQL_WRITE, [SPOOL_MAKE] = SQL_WRITE};
    int code = SQLITE_EMPTY;

    pthread_mutex_lock(&side->mutex);
    *why = NULL;
    side->lock = -1;
    if (use == SPOOL_ASK && side->db && clock_monotonic_us() < side->looked_until)
        return SQLITE_OK;
    if (*spool->path)
        code = enter(spool, side, use, why);
    if (code == SQLITE_OK && use != SPOOL_ASK)
        code = spool_run(side->statements[begin[use]]);
    if (code == SQLITE_OK && use == SPOOL_MAKE)
        atomic_store(&spool->empty_until, 0);
    return code == SQLITE_OK ? code : spool_end(spool, side, code, why);
}

int spool_end(struct spool *spool, struct spool_side *side, int code, const char **why)
{
    bool begun = side->db && !sqlite3_get_autocommit(side->db);

    if (code == SQLITE_OK && begun)
        code = spool_run(side->statements[SQL_COMMIT]);
    code &= 0xff;
    if (code != SQLITE_OK && begun && !sqlite3_get_autocommit(side->db))
        (void)!spool_run(side->statements[SQL_ROLLBACK]);
    if (!*why && code != SQLITE_OK && code != SQLITE_EMPTY)
        *why = explain(spool, side, code);
    /* SQLite goes on read-only where a file could not be opened for writing once. Not after SQLITE_IOERR: what was not
     * synchronised would be found again. */
    if (spool_is_damage(code) || code == SQLITE_CANTOPEN || code == SQLITE_READONLY || code == SQLITE_PROTOCOL)
        spool_close_side(side);
    if (side->lock >= 0)
        close(side->lock);
    if (spool_is_damage(code))
        move_aside(spool, side);
    pthread_mutex_unlock(&side->mutex);
    return code;
}
