/* `ticketd import FILE|-`: a file with one event a line → the same decoding and the same store as a request's.
 *
 * The file is read twice. First for its digest, by which the database knows whether its import was begun before and
 * when; from that time, the digest and the number of a line follow the time and the identifier of the line's event.
 * So an import that was broken off in any way is given again and goes on: what was applied is recognised. */
#include "base/clock.h"
#include "base/text.h"
#include "commands/commands.h"
#include "commands/lines.h"
#include "commands/report.h"
#include "event/digest.h"
#include "store/replay.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMPLAINTS 100
#define GRACE_MS   5000 /* after Ctrl-C: for the batch that is under way */

struct import {
    const struct conf *conf;
    const char *name;
    int fd;
    uint64_t size;
    struct digest *digest;
    uint8_t file_digest[DIGEST_SIZE];
    int64_t began;      /* when this file was first begun */
    struct lines lines; /* the second reading */
    struct report report;
    uint64_t too_long[COMPLAINTS]; /* numbers of the first lines that are; told in their turn */
    uint64_t too_long_count, too_long_told;
    uint64_t done;    /* bytes of it, about */
    uint64_t settled; /* number of the last line that has its verdict */
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

static bool complain(const struct import *import, const char *why)
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
        return digest_end(import->digest, import->file_digest) || complain(import, "SHA-256 failed");
    return complain(import, got < 0 ? strerror(error) : "there is no room for a copy in TMPDIR");
}

/* Opens the file, reads it once and makes it ready to be read again. */
static bool open_file(struct import *import)
{
    bool standard_input = strcmp(import->name, "-") == 0;
    struct stat status;

    if (standard_input)
        import->name = "standard input";
    import->fd = standard_input ? dup(STDIN_FILENO) : open(import->name, O_RDONLY | O_CLOEXEC);
    if (import->fd < 0 || fstat(import->fd, &status) != 0)
        return complain(import, strerror(errno));
    import->digest = digest_new();
    if (!import->digest)
        return complain(import, "out of memory");
    if (S_ISDIR(status.st_mode))
        return complain(import, strerror(EISDIR));

    bool regular = S_ISREG(status.st_mode);
    off_t start = regular ? lseek(import->fd, 0, SEEK_CUR) : 0;
    int copy = regular ? -1 : temporary_file();
    if (!regular && copy < 0)
        return complain(import, "cannot make a temporary file in TMPDIR");
    bool good = read_first(import, copy, status.st_size > start ? (uint64_t)(status.st_size - start) : 0);
    if (copy >= 0) {
        close(import->fd);
        import->fd = copy;
    }
    if (good && lseek(import->fd, start, SEEK_SET) != start)
        return complain(import, strerror(errno));
    import->lines.fd = import->fd;
    import->lines.left = import->size;
    import->lines.most = (size_t)import->conf->max_body_kb * 1024;
    return good;
}

/* Gives the event of a line its time and its identifier, the same whenever this file is given. */
static bool identify(struct import *import, uint64_t number, struct event *event)
{
    uint64_t network = htobe64(number);
    uint8_t value[DIGEST_SIZE];

    digest_add(import->digest, import->file_digest, sizeof(import->file_digest));
    digest_add(import->digest, &network, sizeof(network));
    event->received_at = import->began + (int64_t)number;
    if (!digest_end(import->digest, value))
        return false;
    clock_uuid_from(event->id, event->received_at, value);
    return true;
}

static bool is_blank(const struct line *line)
{
    return line->length == 0 || line->bytes[strspn(line->bytes, " \t\r")] == '\0';
}

/* See struct replay. */
static bool next(void *source, struct event *event)
{
    struct import *import = source;
    struct line line;

    for (;;) {
        if (atomic_load(&stop_at) != INT64_MAX)
            return false;
        if (!lines_next(&import->lines, &line))
            break;
        if (!line.too_long && !is_blank(&line)) {
            event_init(event, line.bytes, line.length);
            return identify(import, line.number, event) || complain(import, "SHA-256 failed");
        }
        if (line.too_long && import->too_long_count++ < COMPLAINTS)
            import->too_long[import->too_long_count - 1] = line.number;
        import->done += line.size;
        free(line.bytes);
    }
    if (import->lines.error)
        return complain(import, strerror(import->lines.error));
    if (import->lines.left > 0)
        return complain(import, "it became shorter meanwhile");
    import->ended = true;
    return false;
}

static void name_line(char where[32], uint64_t number)
{
    snprintf(where, 32, "line %llu", (unsigned long long)number);
}

/* Those before line `number`. Where there are more than COMPLAINTS their numbers are not shown anyway. */
static void tell_too_long(struct import *import, uint64_t number)
{
    for (; import->too_long_told < import->too_long_count; import->too_long_told++) {
        uint64_t line = import->too_long_told < COMPLAINTS ? import->too_long[import->too_long_told] : 0;
        char where[32];
        if (line >= number)
            break;
        name_line(where, line);
        report_complain(&import->report, where, "is longer than TICKETD_MAX_BODY_KB: not stored");
    }
}

static void settled(void *source, const struct event *event)
{
    struct import *import = source;
    char where[32];

    import->settled = (uint64_t)(event->received_at - import->began);
    import->done += event->length + 1;
    tell_too_long(import, import->settled);
    name_line(where, import->settled);
    report_event(&import->report, event, where);
    progress_update(&import->report.progress, import->done, import->report.events);
}

/* Tells the database that the file is imported, and the user if it knew that already. */
static bool begin(struct import *import, struct store *store)
{
    int64_t now = clock_realtime_us();
    char when[CLOCK_TEXT];

    if (!store_begin_import(store, import->file_digest, now, &import->began)) {
        fprintf(stderr, "ticketd: nothing was imported: the database did not take it\n");
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

static int finish(struct import *import, bool replayed)
{
    struct report *report = &import->report;
    bool complete = replayed && import->ended;
    uint64_t last = complete ? import->lines.number : import->settled;

    tell_too_long(import, last + 1);
    report_end(report);
    report_number("lines", last);
    report_numbers(report, "set aside");
    if (import->too_long_told)
        report_number("too long", import->too_long_told);
    if (complete)
        return report->complaints ? EXIT_SOME_LEFT : EXIT_SUCCESS;
    fprintf(stderr,
            "ticketd: stopped after line %llu. Give the same command again to go on: nothing is applied twice\n",
            (unsigned long long)last);
    return EXIT_CANNOT_RUN;
}

int command_import(const struct conf *conf, int argc, char **argv)
{
    (void)argc;
    struct import *import = calloc(1, sizeof(*import));
    struct store *store = store_open(conf, &stop_at);
    int status = EXIT_CANNOT_RUN;

    if (!import || !store) {
        fprintf(stderr, "ticketd: out of memory\n");
        goto out;
    }
    import->conf = conf;
    import->name = argv[0];
    if (!open_file(import) || !begin(import, store))
        goto out;
    catch_signals();
    const struct replay replay = {.conf = conf, .store = store, .next = next, .settled = settled, .source = import};
    report_start(&import->report, import->size, "importing", COMPLAINTS);
    bool replayed = replay_run(&replay);
    status = finish(import, replayed);
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
