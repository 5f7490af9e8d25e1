/* SQLite's file: one connection for those who put in and ask, one for those who take out. */
#include "spool/spool_file.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS    2000     /* for another process */
#define DISK_ROOM  8388608  /* bytes: a disk with less is full; the -wal takes 4 MiB */
#define WAL_BYTES  16777216 /* so large a -wal is brought into the file, though others keep coming */
#define MORE_PAGES 4096     /* for those who take out: deleting needs space, too */
#define VERSION_1  1        /* of the tables: PRAGMA user_version */

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE events (no INTEGER PRIMARY KEY, project INTEGER NOT NULL, ticket INTEGER NOT NULL,"
    " lone INTEGER NOT NULL, received_at INTEGER NOT NULL, tries INTEGER NOT NULL, id BLOB NOT NULL UNIQUE,"
    " action TEXT NOT NULL, refusal INTEGER NOT NULL, reason TEXT, iv TEXT, coding TEXT, body BLOB NOT NULL);"
    "CREATE INDEX events_of_ticket ON events (project, ticket, lone);"
    "CREATE TABLE waiting (project INTEGER, ticket INTEGER, lone INTEGER, since INTEGER NOT NULL,"
    " next_try INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, why TEXT,"
    " PRIMARY KEY (project, ticket, lone)) WITHOUT ROWID;"
    "CREATE INDEX waiting_due ON waiting (next_try);"
    "CREATE INDEX waiting_held ON waiting (since) WHERE tries > 0;"
    "CREATE TABLE spool (events INTEGER NOT NULL, tickets INTEGER NOT NULL, identity TEXT);"
    "INSERT INTO spool VALUES (0, 0, NULL);"
    "PRAGMA user_version = 1;"
    "COMMIT";

static const char *const statements[] = {
#define STATEMENT(name, sql) [SQL_##name] = sql,
#include "spool/statements.def"
#undef STATEMENT
};

const char spool_is_full[] = "it is full: TICKETD_SPOOL_MAX_MB is reached";
const char spool_disk_full[] = "there is no room on the disk";
static const char is_busy[] = "another process holds it and does not go on";

const char *spool_reason(void)
{
    const char *known = strerrordesc_np(errno);
    return known ? known : "an unknown error";
}

const char *spool_name(const struct spool *spool, char *path, const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", spool->path, name);
    return path;
}

/* ---- the directory and its locks */

/* After a file was made or renamed in it. */
static bool sync_directory(const char *path)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = directory >= 0 && fsync(directory) == 0;
    int saved = errno;
    if (directory >= 0)
        close(directory);
    errno = saved;
    return good;
}

const char *spool_make_directory(const struct spool *spool)
{
    struct stat stat;
    char parent[PATH_MAX];

    if (mkdir(spool->path, 0700) == 0) {
        snprintf(parent, sizeof(parent), "%s", spool->path);
        if (!sync_directory(dirname(parent))) {
            const char *why = spool_reason();
            rmdir(spool->path);
            return why;
        }
    } else if (errno != EEXIST) {
        return spool_reason();
    }
    int directory = open(spool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *why = directory < 0 || fstat(directory, &stat) != 0 ? spool_reason() : NULL;
    /* Its files are for one user; those that another one made, root too, would be closed to the first. */
    if (!why && stat.st_uid != geteuid())
        why = "it belongs to another user: ticketd must run as the user who owns it";
    if (directory >= 0)
        close(directory);
    return why;
}

/* Not a wait without end: the process that holds it may be stopped. False: errno. */
static bool lock_within(int fd, int operation, int wait_ms)
{
    int64_t until = clock_monotonic_ms() + wait_ms;

    while (flock(fd, operation | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || clock_monotonic_ms() >= until)
            return false;
        clock_sleep_ms(1);
    }
    return true;
}

int spool_lock(const struct spool *spool, const char *name, int operation, int wait_ms)
{
    char path[PATH_MAX];
    int fd = open(spool_name(spool, path, name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0 && !lock_within(fd, operation, wait_ms)) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* ---- SQLite's result codes */

/* Nothing that waiting or mending would help. */
bool spool_is_damage(int code)
{
    return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

bool spool_has_disk(const struct spool *spool)
{
    struct statvfs volume;
    return statvfs(spool->path, &volume) != 0 || volume.f_bavail * volume.f_frsize >= DISK_ROOM;
}

static const char *explain(const struct spool *spool, const struct spool_side *side, int code)
{
    int error = side->db ? sqlite3_system_errno(side->db) : 0;

    switch (code) {
    case SQLITE_FULL:
        return spool_has_disk(spool) ? spool_is_full : spool_disk_full;
    case SQLITE_BUSY:
        return is_busy;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        if (error && strerrordesc_np(error))
            return strerrordesc_np(error);
        break;
    }
    return sqlite3_errstr(code);
}

sqlite3_stmt *spool_sql(struct spool_side *side, enum spool_statement which, size_t count, const int64_t *numbers)
{
    for (size_t i = 0; i < count; i++)
        sqlite3_bind_int64(side->statements[which], (int)i + 1, numbers[i]);
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

/* Makes the tables where there are none. Only who has the lock to himself meets a file without. */
static int open_side(struct spool *spool, struct spool_side *side, const char **why)
{
    char settings[300];
    sqlite3_stmt *row = NULL;
    int64_t version = 0;

    snprintf(settings, sizeof(settings),
             "PRAGMA page_size = %d; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;"
             "PRAGMA journal_size_limit = 4194304; PRAGMA wal_autocheckpoint = 1000; PRAGMA secure_delete = FAST; "
             "PRAGMA max_page_count = %lld",
             SPOOL_PAGE, (long long)(spool->max_pages + (side->drains ? MORE_PAGES : 0)));
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
    if (code == SQLITE_OK && version > VERSION_1) {
        *why = "it was made by a newer ticketd";
        return SQLITE_CANTOPEN;
    }
    for (int i = 0; code == SQLITE_OK && i < SQL_COUNT_OF; i++)
        code = sqlite3_prepare_v3(side->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &side->statements[i], NULL);
    return code == SQLITE_ERROR ? SQLITE_NOTADB : code; /* it has other tables */
}

/* For this user alone, whatever the umask, and durable. The -wal and -shm get its permissions. */
static bool make_file(const struct spool *spool)
{
    int fd = open(spool->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd >= 0 && close(fd) == 0 && sync_directory(spool->path);
}

static int refuse(const char **why)
{
    *why = errno == EWOULDBLOCK ? is_busy : spool_reason();
    return errno == EWOULDBLOCK ? SQLITE_BUSY : SQLITE_CANTOPEN;
}

static bool is_missing(void)
{
    return errno == ENOENT || errno == ENOTDIR;
}

/* Takes the lock, shared, and opens the file that now has the name. SQLITE_EMPTY: none has. */
static int enter(struct spool *spool, struct spool_side *side, enum spool_use use, const char **why)
{
    struct stat now;
    bool there = stat(spool->file, &now) == 0;

    if (!there && !is_missing())
        return refuse(why);
    if (!there && use != SPOOL_MAKE) {
        spool_close_side(side);
        return SQLITE_EMPTY;
    }
    if (!there || !side->db) {
        *why = spool_make_directory(spool);
        if (*why)
            return SQLITE_CANTOPEN;
    }
    side->lock = spool_lock(spool, "spool.lock", LOCK_SH, WAIT_MS);
    if (side->lock < 0)
        return refuse(why);
    there = stat(spool->file, &now) == 0;
    if (side->db && there && now.st_ino == side->inode && now.st_dev == side->device)
        return SQLITE_OK;
    spool_close_side(side);
    if (!there && use != SPOOL_MAKE)
        return SQLITE_EMPTY;
    if (!there || now.st_size == 0) {
        if (!lock_within(side->lock, LOCK_EX, WAIT_MS) || (stat(spool->file, &now) != 0 && !make_file(spool)))
            return refuse(why);
        if (stat(spool->file, &now) != 0)
            return refuse(why);
    }
    side->device = now.st_dev;
    side->inode = now.st_ino;
    int code = open_side(spool, side, why);
    if (code != SQLITE_OK) {
        *why = *why ? *why : explain(spool, side, code & 0xff);
        spool_close_side(side);
    }
    return code;
}

/* Looks again, with a connection of its own: a read that failed once is no damage. */
static bool is_damaged(const struct spool *spool)
{
    static const char *const questions[] = {
        "PRAGMA integrity_check(1)",
        /* Nothing was made in it yet, or all is there. */
        "SELECT CASE WHEN (SELECT user_version FROM pragma_user_version) = 0 OR (SELECT count(*) FROM sqlite_master"
        " WHERE name IN ('events', 'waiting', 'spool')) = 3 THEN 'ok' ELSE 'no' END",
    };
    sqlite3 *db = NULL;
    bool sound = sqlite3_open_v2(spool->file, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK;

    if (sound)
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    for (size_t i = 0; sound && i < sizeof(questions) / sizeof(questions[0]); i++) {
        sqlite3_stmt *row = NULL;
        sound = sqlite3_prepare_v2(db, questions[i], -1, &row, NULL) == SQLITE_OK;
        int code = sound ? sqlite3_step(row) : SQLITE_ERROR;
        sound = code == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(row, 0), "ok") == 0;
        sqlite3_finalize(row);
    }
    sqlite3_close(db);
    return !sound;
}

/* Keeps the damaged file as it is, for people. Others see that it is gone when they next come. */
static void move_aside(struct spool *spool, struct spool_side *side)
{
    char name[64], bad[PATH_MAX], from[PATH_MAX + 8], to[PATH_MAX + 8], recover[PATH_MAX + 32];
    static const char *const suffixes[] = {"-wal", "-shm", ""};
    struct stat now;
    struct tm utc;
    int lock = spool_lock(spool, "spool.lock", LOCK_EX, WAIT_MS);
    bool good = lock >= 0;

    /* Another process may have done it. */
    if (good && stat(spool->file, &now) == 0 && now.st_ino == side->inode && is_damaged(spool)) {
        do {
            time_t seconds = time(NULL);
            strftime(name, sizeof(name), "spool-%Y%m%dT%H%M%SZ.bad", gmtime_r(&seconds, &utc));
        } while (access(spool_name(spool, bad, name), F_OK) == 0 && (clock_sleep_ms(100), true));
        for (size_t i = 0; good && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
            snprintf(from, sizeof(from), "%s%s", spool->file, suffixes[i]);
            snprintf(to, sizeof(to), "%s%s", bad, suffixes[i]);
            good = rename(from, to) == 0 || (errno == ENOENT && *suffixes[i]);
        }
        good = good && sync_directory(spool->path);
        snprintf(recover, sizeof(recover), "ticketd spool add '%s'", bad);
        log_line(LOG_ERROR,
                 good ? "the spool is damaged: it is kept aside and a new one begun; its events come back by hand"
                      : "the spool is damaged and cannot be kept aside",
                 LOG_TEXT("file", bad), LOG_TEXT("recover", good ? recover : ""));
    }
    if (lock >= 0)
        close(lock);
}

int spool_begin(struct spool *spool, struct spool_side *side, enum spool_use use, const char **why)
{
    pthread_mutex_lock(&side->mutex);
    *why = NULL;
    side->lock = -1;
    int code = *spool->path ? enter(spool, side, use, why) : SQLITE_EMPTY;
    if (code == SQLITE_OK)
        code = spool_run(side->statements[use == SPOOL_READ ? SQL_READ : SQL_WRITE]);
    return code == SQLITE_OK ? code : spool_end(spool, side, code, why);
}

int spool_end(struct spool *spool, struct spool_side *side, int code, const char **why)
{
    if (code == SQLITE_OK)
        code = spool_run(side->statements[SQL_COMMIT]);
    code &= 0xff;
    if (code != SQLITE_OK && side->db && !sqlite3_get_autocommit(side->db))
        (void)!spool_run(side->statements[SQL_ROLLBACK]);
    if (!*why && code != SQLITE_OK && code != SQLITE_EMPTY)
        *why = explain(spool, side, code);
    if (spool_is_damage(code) || code == SQLITE_CANTOPEN)
        spool_close_side(side);
    if (side->lock >= 0)
        close(side->lock);
    if (spool_is_damage(code))
        move_aside(spool, side);
    pthread_mutex_unlock(&side->mutex);
    return code;
}

bool spool_went_well(struct spool *spool, int code, const char *why)
{
    pthread_mutex_lock(&spool->saying);
    bool new = why != spool->drain_problem;
    spool->drain_problem = why;
    pthread_mutex_unlock(&spool->saying);
    if (why && new)
        log_line(LOG_ERROR, "the spool cannot be drained: its events stay there", LOG_TEXT("why", why),
                 LOG_TEXT("dir", spool->path));
    return code == SQLITE_OK || code == SQLITE_EMPTY;
}

void spool_tidy(struct spool *spool, bool empty, int64_t renew_bytes)
{
    struct spool_side *side = &spool->out;
    struct stat file, wal = {0};
    char wal_path[PATH_MAX + 8], shm_path[PATH_MAX + 8];

    pthread_mutex_lock(&side->mutex);
    int lock = spool_lock(spool, "spool.lock", empty ? LOCK_EX : LOCK_SH, 0);
    snprintf(wal_path, sizeof(wal_path), "%s-wal", spool->file);
    snprintf(shm_path, sizeof(shm_path), "%s-shm", spool->file);
    (void)!stat(wal_path, &wal);
    /* Behind a checkpoint that came to its end nobody reads, and the -wal holds nothing. */
    if (lock >= 0 && side->db && stat(spool->file, &file) == 0 && file.st_ino == side->inode &&
        (empty ? file.st_size + wal.st_size > renew_bytes : wal.st_size > WAL_BYTES) &&
        spool_number(side->statements[SQL_SHRINK]) == 0 && empty && spool_number(side->statements[SQL_ANY]) == 0) {
        spool_close_side(side);
        unlink(spool->file);
        unlink(wal_path);
        unlink(shm_path);
    }
    if (lock >= 0)
        close(lock);
    pthread_mutex_unlock(&side->mutex);
}
