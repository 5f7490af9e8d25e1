/* Names, locks and notes of the spool's directory. */
#include "spool/spool_files.h"
#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_MS        2000 /* how long a lock is waited for */
#define SEGMENT_SUFFIX ".segment"
#define BAD_SUFFIX     ".bad"
#define NOTE_BYTES     256

static const char *const lock_files[] = {
    [SPOOL_APPEND_SHARED] = "append.lock", [SPOOL_APPEND] = "append.lock", [SPOOL_DRAIN] = "drain.lock"};

const char *spool_reason(void)
{
    const char *known = strerrordesc_np(errno);
    return known ? known : "an unknown error";
}

void spool_close_file(int fd)
{
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}

/* ---- the directory */

int spool_directory(const char *path, const char **why)
{
    struct stat stat;
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0 || fstat(directory, &stat) != 0) {
        *why = spool_reason();
        spool_close_file(directory);
        return -1;
    }
    /* Its files are for one user; those that another one made, root too, would be closed to the first. */
    if (stat.st_uid != geteuid()) {
        *why = "it belongs to another user: ticketd must run as the user who owns it";
        close(directory);
        return -1;
    }
    return directory;
}

static void name_of(char name[SPOOL_NAME], uint64_t number, const char *suffix)
{
    snprintf(name, SPOOL_NAME, "%" PRIu64 "%s", number, suffix);
}

void spool_name(char name[SPOOL_NAME], uint64_t number)
{
    name_of(name, number, SEGMENT_SUFFIX);
}

/* False: the name is not NUMBER and the suffix. */
static bool number_of(const char *name, const char *suffix, uint64_t *number)
{
    size_t digits = strspn(name, "0123456789");
    if (digits == 0 || digits > 18 || strcmp(name + digits, suffix) != 0)
        return false;
    *number = strtoull(name, NULL, 10);
    return true;
}

bool spool_is_segment(const char *name, uint64_t *number)
{
    return number_of(name, SEGMENT_SUFFIX, number);
}

/* A stream over the directory, with a descriptor of its own. */
static DIR *open_listing(int directory)
{
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = copy < 0 ? NULL : fdopendir(copy);
    if (!listing)
        spool_close_file(copy);
    return listing;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool add_segment(int directory, const char *name, uint64_t number, struct spool_contents *contents)
{
    struct stat stat;
    uint64_t *segments = realloc(contents->segments, (contents->count + 1) * sizeof(*segments));

    if (!segments)
        return false;
    contents->segments = segments;
    if (fstatat(directory, name, &stat, 0) != 0)
        return errno == ENOENT; /* drained this moment */
    segments[contents->count++] = number;
    contents->bytes += stat.st_size;
    return true;
}

bool spool_list(int directory, struct spool_contents *contents)
{
    DIR *listing = open_listing(directory);
    struct dirent *entry;
    bool good = listing;

    *contents = (struct spool_contents){0};
    while (good && (errno = 0, entry = readdir(listing))) {
        uint64_t number = 0;
        if (spool_is_segment(entry->d_name, &number))
            good = add_segment(directory, entry->d_name, number, contents);
        else if (number_of(entry->d_name, BAD_SUFFIX, &number))
            contents->bad++;
        if (number > contents->highest)
            contents->highest = number;
    }
    good = good && errno == 0;
    int saved = errno;
    if (listing)
        closedir(listing);
    if (contents->count)
        qsort(contents->segments, contents->count, sizeof(*contents->segments), by_number);
    if (!good)
        spool_contents_free(contents);
    errno = saved;
    return good;
}

void spool_contents_free(struct spool_contents *contents)
{
    free(contents->segments);
    *contents = (struct spool_contents){0};
}

int spool_segment(int directory, uint64_t number)
{
    char name[SPOOL_NAME];
    spool_name(name, number);
    return openat(directory, name, O_RDONLY | O_CLOEXEC);
}

bool spool_remove(int directory, uint64_t number, bool aside)
{
    char name[SPOOL_NAME], bad[SPOOL_NAME];

    spool_name(name, number);
    name_of(bad, number, BAD_SUFFIX);
    return aside ? renameat(directory, name, directory, bad) == 0 : unlinkat(directory, name, 0) == 0;
}

/* ---- locks and their notes */

int spool_lock(int directory, enum spool_lock lock)
{
    int operation = lock == SPOOL_APPEND_SHARED ? LOCK_SH : LOCK_EX;
    int64_t until = clock_monotonic_ms() + (lock == SPOOL_DRAIN ? 0 : LOCK_MS);
    int fd = openat(directory, lock_files[lock], O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    /* Not a wait without end: the process that holds it may be stopped. */
    while (fd >= 0 && flock(fd, operation | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || clock_monotonic_ms() >= until) {
            spool_close_file(fd);
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return fd;
}

int spool_note(int directory, enum spool_lock lock)
{
    return openat(directory, lock_files[lock], O_RDONLY | O_CLOEXEC);
}

void spool_read_note(int lock, struct spool_note *note)
{
    char text[NOTE_BYTES + 1] = {0};

    *note = (struct spool_note){0};
    if (pread(lock, text, NOTE_BYTES, 0) > 0)
        sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNd64 " %" SCNd64 " %159[^\n]", &note->events, &note->segment,
               &note->end, &note->error_at, note->error);
    for (size_t end = strlen(note->error); end > 0 && note->error[end - 1] == ' '; end--)
        note->error[end - 1] = '\0';
}

void spool_write_note(int lock, const struct spool_note *note)
{
    char text[NOTE_BYTES + 1];

    int length = snprintf(text, sizeof(text), "%020" PRIu64 " %020" PRIu64 " %020" PRId64 " %020" PRId64 " %s",
                          note->events, note->segment, note->end, note->error_at, note->error);
    memset(text + length, ' ', sizeof(text) - (size_t)length);
    text[NOTE_BYTES - 1] = '\n';
    (void)!pwrite(lock, text, NOTE_BYTES, 0);
}

void spool_note_error(int lock, const char *error)
{
    struct spool_note note;

    spool_read_note(lock, &note);
    note.error_at = clock_realtime_us();
    snprintf(note.error, sizeof(note.error), "%s", error);
    spool_write_note(lock, &note);
}
