/* Beside the store at the end of the path: where events go while the database is away. drain.c brings them back. */
#include "spool/spool.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "spool/segment.h"
#include "spool/spool_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SEGMENT_BYTES 4194304 /* a segment this long gets no more */
#define GIVE_WAY_MS   500     /* how long the drain may keep an appender waiting */
#define ROOM_BYTES    1048576 /* of free disk space, for readiness */

enum known { NOTHING_KNOWN, EMPTY, HOLDS };

struct spool {
    const char *path;
    int64_t max_bytes;
    _Atomic int known;        /* enum known: as of the last look that succeeded */
    _Atomic uint64_t retired; /* segments up to this number get nothing more: their fsync failed */
    _Atomic uint64_t drained; /* by whichever process, when an appender last looked */
    _Atomic int64_t moved_at; /* monotonic milliseconds: when that was last seen to grow */
    pthread_mutex_t lock;     /* for what was said */
    atomic_bool spooling;     /* that events are spooled was said */
    const char *problem;      /* that they cannot be, and why, was said */
};

static const char is_full[] = "it is full: TICKETD_SPOOL_MAX_MB is reached";

bool spool_holds(struct spool *spool)
{
    struct dirent *entry;
    bool found = false;
    uint64_t number;

    if (!*spool->path)
        return false;
    DIR *listing = opendir(spool->path);
    if (listing)
        errno = 0;
    while (listing && !found && (entry = readdir(listing)))
        found = spool_is_segment(entry->d_name, &number);
    int error = found ? 0 : errno;
    if (listing)
        closedir(listing);

    if (error == 0 || error == ENOENT || error == ENOTDIR)
        atomic_store(&spool->known, found ? HOLDS : EMPTY);
    int known = atomic_load(&spool->known);
    if (known == EMPTY)
        atomic_store(&spool->spooling, false);
    /* A directory that was never open to us is no reason to turn events away; one that cannot be read for the moment,
     * at a start, may hold some. */
    return known == HOLDS || (known == NOTHING_KNOWN && error != EACCES);
}

/* Whether `access` is allowed in the directory above. */
static bool parent_allows(const char *path, int access_mode)
{
    char *copy = strdup(path);
    bool allowed = copy && faccessat(AT_FDCWD, dirname(copy), access_mode, AT_EACCESS) == 0;
    free(copy);
    return allowed;
}

/* Makes the directory if it is missing, durable in the one above like all that will be in it. */
static bool make_directory(const char *path)
{
    if (mkdir(path, 0700) != 0)
        return errno == EEXIST;
    char *copy = strdup(path);
    int parent = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool good = parent >= 0 && fsync(parent) == 0;
    int saved = errno;
    if (!good)
        rmdir(path);
    errno = saved;
    spool_close_file(parent);
    free(copy);
    return good;
}

/* A segment that events are appended to. */
struct tail {
    int fd;
    uint64_t number;
    int64_t size;
    bool is_new; /* made by this append */
    uint8_t marker[SEGMENT_MARKER];
};

/* One append, under way. */
struct append {
    struct spool *spool;
    struct event **events;
    size_t count;
    int directory, lock;
    struct tail tail;
    const char *why; /* it did not work */
};

/* Makes the next segment, durable with its name before anything goes into it. */
static bool create_segment(int directory, uint64_t highest, struct tail *tail)
{
    struct text head = {0};
    char name[SPOOL_NAME];
    uint64_t now = (uint64_t)clock_realtime_us();

    /* The time, so that a number is never used again, not even when the directory was emptied in between. */
    tail->number = now > highest ? now : highest + 1;
    tail->size = SEGMENT_HEAD;
    tail->is_new = true;
    spool_name(name, tail->number);
    segment_begin(&head, tail->marker);
    tail->fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    bool good = tail->fd >= 0;
    if (good && head.failed)
        errno = ENOMEM;
    good = good && !head.failed && text_write(tail->fd, head.bytes, head.length) && fdatasync(tail->fd) == 0 &&
           fsync(directory) == 0;
    if (!good && tail->fd >= 0) {
        int saved = errno;
        unlinkat(directory, name, 0);
        close(tail->fd);
        tail->fd = -1;
        errno = saved;
    }
    text_free(&head);
    return good;
}

/* Whether the last append to the segment came to its end: who was killed in the middle left half a record there. */
static bool is_whole(int lock, uint64_t number, int64_t size)
{
    struct spool_note note;
    spool_read_note(lock, &note);
    return note.segment != number || note.end == size;
}

/* Opens the newest segment. False: it gets nothing more. */
static bool open_tail(struct append *append, uint64_t number)
{
    struct tail *tail = &append->tail;
    struct segment_reader reader;
    struct stat stat;
    char name[SPOOL_NAME];

    spool_name(name, number);
    if (number <= atomic_load(&append->spool->retired))
        return false;
    tail->fd = openat(append->directory, name, O_RDWR | O_APPEND | O_CLOEXEC);
    if (tail->fd >= 0 && fstat(tail->fd, &stat) == 0 && stat.st_size < SEGMENT_BYTES &&
        is_whole(append->lock, number, stat.st_size) && segment_open(&reader, tail->fd, stat.st_size) == SEGMENT_END) {
        tail->number = number;
        tail->size = stat.st_size;
        memcpy(tail->marker, reader.marker, sizeof(tail->marker));
        return true;
    }
    spool_close_file(tail->fd);
    tail->fd = -1;
    return false;
}

static void retire(struct spool *spool, uint64_t number)
{
    uint64_t before = atomic_load(&spool->retired);
    while (before < number && !atomic_compare_exchange_weak(&spool->retired, &before, number))
        ;
}

/* Takes back what was written in part, so that nothing unfinished stands before what others append. An empty segment
 * of another append stays: it may keep others from one whose fsync failed. */
static void take_back(struct append *append)
{
    const struct tail *tail = &append->tail;
    int saved = errno;
    if (tail->is_new ? !spool_remove(append->directory, tail->number, false) : ftruncate(tail->fd, tail->size) != 0)
        retire(append->spool, tail->number);
    errno = saved;
}

static void note_end(const struct append *append, int64_t end)
{
    struct spool_note note;
    spool_read_note(append->lock, &note);
    note.segment = append->tail.number;
    note.end = end;
    spool_write_note(append->lock, &note);
}

/* Under the lock: finds or makes the segment and writes. False: nothing was written. */
static bool write_records(struct append *append)
{
    struct spool_contents contents;
    struct text records = {0};
    bool good = spool_list(append->directory, &contents);

    good = good && ((contents.count && open_tail(append, contents.segments[contents.count - 1])) ||
                    create_segment(append->directory, contents.highest, &append->tail));
    if (!good)
        goto out;
    for (size_t i = 0; i < append->count; i++)
        if (append->events[i]->outcome == OUTCOME_NONE)
            segment_append(&records, append->tail.marker, append->events[i]);
    good = !records.failed && contents.bytes + (int64_t)records.length <= append->spool->max_bytes;
    if (!good)
        append->why = records.failed ? "out of memory" : is_full;
    note_end(append, append->tail.size);
    good = good && text_write(append->tail.fd, records.bytes, records.length);
    if (good)
        note_end(append, append->tail.size + (int64_t)records.length);
    else
        take_back(append);
out:
    if (!good && !append->why)
        append->why = spool_reason();
    text_free(&records);
    spool_contents_free(&contents);
    return good;
}

/* After a failed fsync the kernel takes the pages for clean, and the next fsync would succeed without them: the file
 * gets nothing more, from no process. */
static void retire_segment(struct append *append)
{
    struct spool_contents contents;
    uint64_t number = append->tail.number;
    struct tail next;
    int lock = spool_lock(append->directory, SPOOL_APPEND);

    retire(append->spool, number);
    if (lock >= 0 && spool_list(append->directory, &contents)) {
        if (contents.highest == number && create_segment(append->directory, number, &next))
            close(next.fd);
        spool_contents_free(&contents);
    }
    spool_close_file(lock);
}

/* Brings the records to the disk. False: append->why. */
static bool append_durably(struct append *append)
{
    bool good = false;

    append->directory = append->tail.fd = -1;
    if (make_directory(append->spool->path))
        append->directory = spool_directory(append->spool->path, &append->why);
    else
        append->why = spool_reason();
    if (append->directory < 0)
        return false;
    append->lock = spool_lock(append->directory, SPOOL_APPEND);
    if (append->lock < 0)
        append->why = errno == EWOULDBLOCK ? "another process holds append.lock and does not go on" : spool_reason();
    else if (!(good = write_records(append)))
        spool_note_error(append->lock, append->why);
    spool_close_file(
        append->lock); /* others write while we wait for the disk; it syncs their records along with ours */
    if (good && fdatasync(append->tail.fd) != 0) {
        append->why = spool_reason();
        good = false;
        retire_segment(append);
    }
    spool_close_file(append->tail.fd);
    close(append->directory);
    return good;
}

/* Says a change, and nothing where there is none. */
static void say_problem(struct spool *spool, const char *problem)
{
    pthread_mutex_lock(&spool->lock);
    if (problem && spool->problem != problem)
        log_line(LOG_ERROR, "the spool cannot take events: they are answered 503", LOG_TEXT("why", problem),
                 LOG_TEXT("dir", spool->path));
    else if (!problem && spool->problem)
        log_line(LOG_INFO, "the spool takes events again", LOG_TEXT("dir", spool->path));
    else if (!problem && !atomic_load(&spool->spooling))
        log_line(LOG_WARNING, "events are spooled until the database takes them", LOG_TEXT("dir", spool->path));
    spool->problem = problem;
    atomic_store(&spool->spooling, !problem);
    pthread_mutex_unlock(&spool->lock);
}

static uint64_t drained(struct spool *spool)
{
    struct spool_note note = {0};
    const char *ignored;
    int directory = spool_directory(spool->path, &ignored);
    int lock = directory < 0 ? -1 : spool_note(directory, SPOOL_DRAIN);

    if (lock >= 0)
        spool_read_note(lock, &note);
    spool_close_file(lock);
    spool_close_file(directory);
    return note.events;
}

/* A drain that was seen to move is at work, and must not be outrun. */
static void give_way(struct spool *spool, size_t count)
{
    int64_t start = clock_monotonic_ms();
    uint64_t now = drained(spool), enough = now + 2 * count;

    if (atomic_exchange(&spool->drained, now) != now)
        atomic_store(&spool->moved_at, start);
    if (start - atomic_load(&spool->moved_at) > GIVE_WAY_MS)
        return;
    while (now < enough && clock_monotonic_ms() - start < GIVE_WAY_MS && spool_holds(spool)) {
        clock_sleep_ms(2);
        now = drained(spool);
    }
}

void spool_append(struct spool *spool, struct event **events, size_t count)
{
    struct append append = {.spool = spool, .events = events, .count = count};
    size_t spooled = 0;

    for (size_t i = 0; i < count; i++)
        spooled += events[i]->outcome == OUTCOME_NONE;
    if (spooled == 0)
        return;
    bool good = *spool->path && append_durably(&append);
    for (size_t i = 0; i < count; i++) {
        struct event *event = events[i];
        if (event->outcome == OUTCOME_NONE && !good)
            event->outcome = OUTCOME_UNAVAILABLE;
        else if (event->outcome == OUTCOME_NONE)
            event->outcome = event->refusal == OUTCOME_NONE ? OUTCOME_SPOOLED : event->refusal;
    }
    if (*spool->path)
        say_problem(spool, append.why);
    if (good) {
        metrics_add(METRIC_SPOOL_EVENTS, (int64_t)spooled);
        atomic_store(&spool->known, HOLDS);
        give_way(spool, spooled);
    }
}

/* ---- the whole */

void spool_prepare(struct spool *spool)
{
    if (!*spool->path)
        return;
    const char *why = make_directory(spool->path) ? spool_problem(spool) : spool_reason();
    if (why)
        say_problem(spool, why);
}

static const char *problem_inside(struct spool *spool, int directory)
{
    struct spool_contents contents;
    struct statvfs volume;

    if (faccessat(directory, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0 || !spool_list(directory, &contents))
        return spool_reason();
    bool full = contents.bytes >= spool->max_bytes;
    spool_contents_free(&contents);
    if (full)
        return is_full;
    if (fstatvfs(directory, &volume) == 0 && volume.f_bavail < ROOM_BYTES / volume.f_frsize)
        return "there is no room on the disk";
    return NULL;
}

const char *spool_problem(struct spool *spool)
{
    const char *why = NULL;

    if (!*spool->path)
        return "TICKETD_SPOOL_DIR is not set";
    int directory = spool_directory(spool->path, &why);
    if (directory < 0) /* made when it is needed */
        return access(spool->path, F_OK) != 0 && parent_allows(spool->path, W_OK | X_OK) ? NULL : why;
    why = problem_inside(spool, directory);
    close(directory);
    return why;
}

bool spool_valid_directory(const struct conf *conf)
{
    if (!*conf->spool_dir || parent_allows(conf->spool_dir, F_OK))
        return true;
    log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", "TICKETD_SPOOL_DIR"), LOG_TEXT("value", conf->spool_dir),
             LOG_TEXT("expected", "a directory, or one that can be made in its parent"));
    return false;
}

struct spool *spool_open(const struct conf *conf)
{
    struct spool *spool = calloc(1, sizeof(*spool));
    if (!spool)
        return NULL;
    spool->path = conf->spool_dir;
    spool->max_bytes = (int64_t)conf->spool_max_mb * 1024 * 1024;
    metrics_set(METRIC_SPOOL_MAX, *spool->path ? spool->max_bytes : 0);
    pthread_mutex_init(&spool->lock, NULL);
    atomic_store(&spool->drained, *spool->path ? drained(spool) : 0);
    atomic_store(&spool->moved_at, INT64_MIN / 2);
    return spool;
}

void spool_close(struct spool *spool)
{
    if (!spool)
        return;
    pthread_mutex_destroy(&spool->lock);
    free(spool);
}
