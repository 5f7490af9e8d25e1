/* The spool's database as a file: opened, shared with other processes, moved aside. For the files of this folder;
 * spool.h says what it is for. */
#ifndef TICKETD_SPOOL_FILE_H
#define TICKETD_SPOOL_FILE_H

#include "spool/spool.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>

#define SPOOL_PAGE    4096    /* bytes */
#define SPOOL_WAL     8388608 /* bytes that the -wal may have before it is brought into the file */
#define SPOOL_LOOK_US 10000   /* how long it counts what was seen of a file that others may change */

enum spool_statement {
#define STATEMENT(name, sql) SQL_##name,
#include "spool/statements.def"
#undef STATEMENT
    SQL_COUNT_OF
};

/* A connection, for who holds the mutex. */
struct spool_side {
    pthread_mutex_t mutex;
    bool drains; /* deleting needs some pages more */
    sqlite3 *db; /* NULL: not open */
    sqlite3_stmt *statements[SQL_COUNT_OF];
    dev_t device; /* of the file that it has open */
    ino_t inode;
    int64_t looked_until; /* monotonic microseconds: until when that counts as the file that has the name */
    int lock;             /* spool.lock while it is in use */
};

/* What is logged once for each cause. */
enum spool_trouble { SPOOL_TAKES_NOTHING, SPOOL_GIVES_NOTHING, SPOOL_NOT_READ, SPOOL_TROUBLES };

struct spool {
    const char *path;
    char *file; /* spool.db */
    int64_t max_pages;
    struct spool_side in, out;    /* for those who put in and ask, and those who take out */
    _Atomic int64_t empty_until;  /* monotonic microseconds: until when it counts that nothing waits, */
    _Atomic int64_t broken_until; /* … and that it cannot be read */
    int drain_lock;               /* below 0: another process drains, or nobody; by out.mutex */
    char *identity;               /* of our database, NULL: not known; changed by who has both mutexes */
    pthread_mutex_t saying;
    const char *said[SPOOL_TROUBLES]; /* NULL: there is none; by `saying` */
    atomic_bool spooling;             /* that events are spooled was said, since it was last empty */
};

enum spool_use {
    SPOOL_ASK, /* one statement that reads; the file was looked at within SPOOL_LOOK_US */
    SPOOL_READ,
    SPOOL_CHANGE,
    SPOOL_MAKE /* as SPOOL_CHANGE, and makes the file if it is missing */
};

/* Takes the mutex, opens the file that now has the name and begins a transaction. SQLITE_OK: spool_end must follow.
 * Else it is over: *why says why, a static string. SQLITE_EMPTY, with no reason: there is no file, or no spool at all.
 */
int spool_begin(struct spool *spool, struct spool_side *side, enum spool_use use, const char **why) MUST_USE;

/* Commits where `code` is SQLITE_OK; else, or where that fails, undoes all and sets *why. Moves a damaged file aside:
 * what is done next is done on a new one. Returns what came of it, a primary result code. */
int spool_end(struct spool *spool, struct spool_side *side, int code, const char **why) MUST_USE;

/* Whether the code of a failure says that the file is damaged: nothing that waiting or mending would help. */
bool spool_is_damage(int code);

/* Logs a trouble where it is new. True: there is none. */
bool spool_went_well(struct spool *spool, enum spool_trouble trouble, const char *why);

/* A statement, with its first parameters. */
sqlite3_stmt *spool_sql(struct spool_side *side, enum spool_statement which, size_t count, const int64_t *numbers);
#define SPOOL_SQL(side, which, ...)                                                                                    \
    spool_sql(side, SQL_##which, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (const int64_t[]){__VA_ARGS__})

/* The same, where the first parameter is an event's identifier. */
sqlite3_stmt *spool_sql_of(struct spool_side *side, enum spool_statement which, const uint8_t id[16]);

const char *spool_statement(enum spool_statement which);

/* Runs one whose rows are of no interest. */
int spool_run(sqlite3_stmt *statement) MUST_USE;

/* The number that its first row begins with; below 0: there is none. */
int64_t spool_number(sqlite3_stmt *statement);

/* NULL, or that the file belongs to another database. For a transaction. */
const char *spool_foreign(struct spool *spool, struct spool_side *side);

void spool_close_side(struct spool_side *side);

/* Makes an event of a row of EVENT_COLUMNS. False: no memory, or it is none. */
bool spool_read_event(sqlite3_stmt *row, struct event *event) MUST_USE;

extern const char spool_is_full[];

/* Takes over the segments of ticketd 0.1.0. NULL, or what went wrong, a static string. */
const char *spool_take_over(struct spool *spool);

#endif
