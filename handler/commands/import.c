/* `ticketd import FILE|-`: a file of events → the same decoding and the same store as a request's.
 *
 * The file is read twice. First for its digest, by which the database knows whether its import was begun before and
 * when; from that time, the digest and the number of a line follow the time and the identifier of the line's event,
 * unless the line says its time. So an import that was broken off in any way is given again and goes on: what was
 * applied is recognised. */
#include "base/clock.h"
#include "base/text.h"
#include "commands/bodies.h"
#include "commands/commands.h"
#include "commands/tally.h"
#include "event/digest.h"
#include "event/wrapped.h"
#include "store/replay.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COMPLAINTS 100
#define GRACE_MS   5000 /* after Ctrl-C: for the batch that is under way */
#define DAY_US     INT64_C(86400000000)
#define MONTHS     (136 * 12) /* from 1970 on */
#define MADE       (-1)

struct import {
    const struct conf *conf;
    struct store *store;
    const char *name;
    int fd;
    uint64_t size;
    struct digest *digest;
    uint8_t file_digest[DIGEST_SIZE];
    int64_t began;          /* when this file was first begun */
    struct bodies bodies;   /* the second reading */
    int64_t months[MONTHS]; /* a time in each for which a partition is to be made; MADE; 0: no event was of it */
    struct tally tally;
    uint64_t too_long[COMPLAINTS]; /* numbers of the first that are; told in their turn */
    uint64_t too_long_count, too_long_told;
    uint64_t settled; /* number of the last line, or value, that has its verdict */
    bool ended;       /* the file was read to its end */
};

/* Until when the store may wait. Only a signal changes it, and a signal handler has no other way than a static. */
static _Atomic int64_t stop_at = INT64_MAX;

static void stop_soon(int signal)
{
    (void)signal;
    atomic_store(&stop_at, clock_monotonic_ms() + GRACE_MS);
}

/* The first signal ends the import after the batch under way, the second one kills. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = stop_soon, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static bool complain_of_file(const struct import *import, const char *why)
{
    fprintf(stderr, "ticketd: cannot read %s: %s\n", import->name, why);
    return false;
}

/* A file that has no name any more. -1: errno. */
static int temporary_file(void)
{
    const char *folder = getenv("TMPDIR");
    char *path = NULL;

    if (asprintf(&path, "%s/ticketd-import-XXXXXX", folder && *folder ? folder : "/tmp") < 0)
        return -1;
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    free(path);
    return fd;
}

/* The first reading: size and digest, and a copy of what cannot be read twice, where `copy` is not -1. */
static bool read_first(struct import *import, int copy, uint64_t total)
{
    char buffer[65536];
    struct progress progress;
    ssize_t got;

    progress_start(&progress, total, "reading");
    while ((got = read(import->fd, buffer, sizeof(buffer))) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || (copy >= 0 && !text_write(copy, buffer, (size_t)got)))
            break;
        digest_add(import->digest, buffer, (size_t)got);
        import->size += (uint64_t)got;
        progress_update(&progress, import->size, 0);
    }
    int error = errno;
    progress_end(&progress);
    if (got == 0)
        return digest_end(import->digest, import->file_digest) || complain_of_file(import, "SHA-256 failed");
    return complain_of_file(import, got < 0 ? strerror(error) : "there is no room for a copy in TMPDIR");
}

/* Opens the file, reads it once and makes it ready to be read again. */
static bool open_file(struct import *import)
{
    bool standard_input = strcmp(import->name, "-") == 0;
    struct stat status;

    if (standard_input)
        import->name = "standard input";
    import->fd = standard_input ? dup(STDIN_FILENO) : open(import->name, O_RDONLY | O_CLOEXEC);
    if (import->fd < 0 && errno == EACCES) /* started by root this is the service's user by now */
        return complain_of_file(import, "Permission denied. Whoever may read it can say: ticketd import - <FILE");
    if (import->fd < 0 || fstat(import->fd, &status) != 0)
        return complain_of_file(import, strerror(errno));
    import->digest = digest_new();
    if (!import->digest)
        return complain_of_file(import, "out of memory");
    if (S_ISDIR(status.st_mode))
        return complain_of_file(import, strerror(EISDIR));

    bool regular = S_ISREG(status.st_mode);
    off_t start = regular ? lseek(import->fd, 0, SEEK_CUR) : 0;
    int copy = regular ? -1 : temporary_file();
    if (!regular && copy < 0)
        return complain_of_file(import, "cannot make a temporary file in TMPDIR");
    bool good = read_first(import, copy, status.st_size > start ? (uint64_t)(status.st_size - start) : 0);
    if (copy >= 0) {
        close(import->fd);
        import->fd = copy;
    }
    if (good && lseek(import->fd, start, SEEK_SET) != start)
        return complain_of_file(import, strerror(errno));
    import->bodies.fd = import->fd;
    import->bodies.left = import->size;
    import->bodies.most = (size_t)import->conf->max_body_kb * 1024;
    const char *wrong = good ? bodies_begin(&import->bodies) : NULL;
    return good && (!wrong || complain_of_file(import, wrong));
}

/* Notes that there is an event of that month. */
static void need_month(struct import *import, int64_t time)
{
    time_t seconds = time / 1000000;
    struct tm utc;

    gmtime_r(&seconds, &utc);
    int month = (utc.tm_year - 70) * 12 + utc.tm_mon;
    if (month < MONTHS && import->months[month] == 0)
        import->months[month] = time + 1;
}

/* See struct replay: before the events of these months come, or they would be put into the default partition. */
static void make_months(void *source)
{
    struct import *import = source;

    for (int month = 0; month < MONTHS; month++)
        if (import->months[month] > 0 && store_prepare_month(import->store, import->months[month] - 1))
            import->months[month] = MADE;
}

/* Gives the event of a line its time and its identifier, the same whenever this file is given. Of several of one time
 * the identifiers are in the order of the lines, for that of the last is to count. */
static bool identify(struct import *import, uint64_t number, struct event *event)
{
    uint64_t network = htobe64(number), value[DIGEST_SIZE / sizeof(uint64_t)];
    int64_t time = -1;

    digest_add(import->digest, import->file_digest, sizeof(import->file_digest));
    digest_add(import->digest, &network, sizeof(network));
    if (!digest_end(import->digest, (uint8_t *)value) || !wrapped_open(event, import->began + DAY_US, &time))
        return false;
    if (time >= 0) {
        need_month(import, time);
        value[0] = htobe64((number & UINT32_MAX) << 30 | (be64toh(value[0]) & 0x3fffffff));
    }
    event->number = number;
    event->received_at = time >= 0 ? time : import->began + (int64_t)number;
    clock_uuid_from(event->id, event->received_at, (const uint8_t *)value);
    return true;
}

static bool is_blank(const struct body *line)
{
    return line->length == 0 || strspn(line->bytes, " \t\r") == line->length; /* a NUL is no blank */
}

/* See struct replay. */
static bool next_line(void *source, struct event *event)
{
    struct import *import = source;
    struct body line;

    for (;;) {
        if (atomic_load(&stop_at) != INT64_MAX)
            return false;
        if (!bodies_next(&import->bodies, &line))
            break;
        if (!line.too_long && !is_blank(&line)) {
            event_init(event, line.bytes, line.length);
            return identify(import, line.number, event) || complain_of_file(import, "out of memory, or SHA-256 failed");
        }
        if (line.too_long && import->too_long_count++ < COMPLAINTS)
            import->too_long[import->too_long_count - 1] = line.number;
        free(line.bytes);
    }
    if (import->bodies.error)
        return complain_of_file(import, strerror(import->bodies.error));
    if (import->bodies.left > 0)
        return complain_of_file(import, "it became shorter meanwhile");
    import->ended = true;
    return false;
}

/* What a number counts. */
static const char *unit_of(const struct import *import)
{
    return import->bodies.values ? "event" : "line";
}

static void name_line(const struct import *import, char where[32], uint64_t number)
{
    snprintf(where, 32, "%s %llu", unit_of(import), (unsigned long long)number);
}

/* Those before line `number`. Where there are more than COMPLAINTS their numbers are not shown anyway. */
static void tell_too_long(struct import *import, uint64_t number)
{
    for (; import->too_long_told < import->too_long_count; import->too_long_told++) {
        uint64_t line = import->too_long_told < COMPLAINTS ? import->too_long[import->too_long_told] : 0;
        char where[32];
        if (line >= number)
            break;
        name_line(import, where, line);
        tally_complain(&import->tally, where, "is longer than TICKETD_MAX_BODY_KB: not stored");
    }
}

static void line_settled(void *source, const struct event *event)
{
    struct import *import = source;
    char where[32];

    import->settled = event->number;
    tell_too_long(import, import->settled);
    name_line(import, where, import->settled);
    tally_event(&import->tally, event, where);
    progress_update(&import->tally.progress, import->size - import->bodies.left, import->tally.events);
}

/* Tells the database that the file is imported, and the user if it knew that already. False: *status is that of the
 * process. */
static bool begin_import(struct import *import, struct store *store, int *status)
{
    int64_t now = clock_realtime_us(), ended;
    char when[CLOCK_TEXT];

    if (!store_begin_import(store, import->file_digest, now, &import->began, &ended)) {
        fprintf(stderr, "ticketd: nothing was imported: see ticketd check, then give the same command again\n");
        return false;
    }
    if (ended) {
        clock_text(ended, when);
        fprintf(stderr,
                "ticketd: these very lines were imported to their end before, at %s: nothing to do. Those that were "
                "refused then: see ticketd rejected list\n",
                when);
        *status = EXIT_SUCCESS;
        return false;
    }
    clock_text(import->began, when);
    if (import->began != now)
        fprintf(stderr,
                "ticketd: the import of these very lines was begun before, at %s: it goes on, and nothing is applied "
                "twice\n",
                when);
    return true;
}

/* Remembers an import that is complete. One that left lines out may go on with a larger TICKETD_MAX_BODY_KB. */
static int end_import(struct import *import, struct store *store, bool replayed)
{
    struct tally *tally = &import->tally;
    bool complete = replayed && import->ended;
    bool noted =
        complete && import->too_long_count == 0 && store_end_import(store, import->file_digest, clock_realtime_us());
    uint64_t last = complete ? import->bodies.number : import->settled;

    tell_too_long(import, last + 1);
    if (complete && import->bodies.in_array)
        tally_complain(tally, import->name, "its array does not end: a part of it may be missing");
    tally_end(tally);
    tally_number(import->bodies.values ? "events" : "lines", last);
    tally_numbers(tally, "set aside");
    if (import->too_long_told)
        tally_number("too long", import->too_long_told);
    if (complete && (noted || import->too_long_count > 0))
        return tally->complaints ? EXIT_SOME_LEFT : EXIT_SUCCESS;
    fprintf(stderr, "ticketd: stopped after %s %llu. Give the same command again to go on: nothing is applied twice\n",
            unit_of(import), (unsigned long long)last);
    return EXIT_CANNOT_RUN;
}

int command_import(const struct conf *conf, int argc, char **argv)
{
    (void)argc;
    struct import *import = calloc(1, sizeof(*import));
    struct store *store = store_open(conf, &stop_at, NULL);
    int status = EXIT_CANNOT_RUN;

    if (!import || !store) {
        fprintf(stderr, "ticketd: out of memory\n");
        goto out;
    }
    import->conf = conf;
    import->store = store;
    import->name = argv[0];
    if (!open_file(import) || !begin_import(import, store, &status))
        goto out;
    catch_signals();
    const struct replay replay = {.conf = conf,
                                  .store = store,
                                  .next = next_line,
                                  .before = make_months,
                                  .settled = line_settled,
                                  .source = import};
    tally_start(&import->tally, import->size, "importing", COMPLAINTS);
    bool replayed = replay_run(&replay);
    status = end_import(import, store, replayed);
out:
    if (import) {
        digest_free(import->digest);
        if (import->fd > 0)
            close(import->fd);
    }
    free(import);
    store_close(store);
    return status;
}
