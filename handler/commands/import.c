/* `ticketd import FILE|-`: a file with one event a line → the same decoding and the same store as a request's.
 *
 * The file is read twice. First for its digest, by which the database knows whether its import was begun before and
 * when; from that time, the digest and the number of a line follow the time and the identifier of the line's event.
 * So an import that was broken off in any way is given again and goes on: what was applied is recognised. */
#include "base/clock.h"
#include "base/text.h"
#include "commands/commands.h"
#include "commands/tally.h"
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

/* -- lines, never more of one in memory than may be a body --------------------------------------------------------- */

/* Where the reading is. Set fd, left and most, the rest to 0. Used by one thread at a time. */
struct lines {
    int fd;
    uint64_t left; /* bytes of the file still to be read; what follows them is not looked at */
    size_t most;   /* bytes of a line, without its end */
    uint64_t number;
    int error; /* errno of a read that failed, or ENOMEM */
    size_t at, filled;
    char buffer[65536];
};

struct line {
    char *bytes; /* without LF or CRLF, a NUL behind; from malloc, the caller's. NULL: it is empty or too long */
    size_t length;
    uint64_t number; /* from 1 */
    uint64_t size;   /* of the whole line in the file, with its end */
    bool too_long;
};

/* False: nothing more to read, or an error. */
static bool refill(struct lines *lines)
{
    size_t room = lines->left < sizeof(lines->buffer) ? (size_t)lines->left : sizeof(lines->buffer);
    ssize_t got;

    do
        got = read(lines->fd, lines->buffer, room);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        lines->error = errno;
    if (got <= 0)
        return false;
    lines->left -= (uint64_t)got;
    lines->at = 0;
    lines->filled = (size_t)got;
    return true;
}

/* Adds a part of the line to what there is of it, unless that is too long already. */
static void add_part(struct text *text, const char *bytes, size_t length, size_t most, struct line *line)
{
    line->too_long |= text->length + length > most;
    if (line->too_long)
        text_free(text);
    else
        text_append_bytes(text, bytes, length);
}

/* Reads the next line; the last one may lack its end. False: there is none, or `error` is set, or, with bytes left, the
 * file has become shorter. */
static bool lines_next(struct lines *lines, struct line *line)
{
    struct text text = {0};
    bool whole = false;

    *line = (struct line){0};
    while (!whole && (lines->at < lines->filled || refill(lines))) {
        const char *from = lines->buffer + lines->at;
        size_t have = lines->filled - lines->at;
        const char *end = memchr(from, '\n', have);
        size_t length = end ? (size_t)(end - from) : have;

        whole = end;
        add_part(&text, from, length, lines->most + 1, line); /* + 1: a CR may be its last */
        lines->at += length + whole;
        line->size += length + whole;
    }
    if (text.length > 0 && text.bytes[text.length - 1] == '\r')
        text.bytes[--text.length] = '\0';
    line->too_long |= text.length > lines->most;
    if (text.failed)
        lines->error = ENOMEM;
    bool good = line->size > 0 && !lines->error && (whole || lines->left == 0);
    if (!good || line->too_long)
        text_free(&text);
    line->bytes = text.bytes;
    line->length = text.length;
    lines->number += good;
    line->number = lines->number;
    return good;
}

/* -- the import ---------------------------------------------------------------------------------------------------- */

struct import {
    const struct conf *conf;
    const char *name;
    int fd;
    uint64_t size;
    struct digest *digest;
    uint8_t file_digest[DIGEST_SIZE];
    int64_t began;      /* when this file was first begun */
    struct lines lines; /* the second reading */
    struct tally tally;
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
static bool next_line(void *source, struct event *event)
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
            return identify(import, line.number, event) || complain_of_file(import, "SHA-256 failed");
        }
        if (line.too_long && import->too_long_count++ < COMPLAINTS)
            import->too_long[import->too_long_count - 1] = line.number;
        import->done += line.size;
        free(line.bytes);
    }
    if (import->lines.error)
        return complain_of_file(import, strerror(import->lines.error));
    if (import->lines.left > 0)
        return complain_of_file(import, "it became shorter meanwhile");
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
        tally_complain(&import->tally, where, "is longer than TICKETD_MAX_BODY_KB: not stored");
    }
}

static void line_settled(void *source, const struct event *event)
{
    struct import *import = source;
    char where[32];

    import->settled = (uint64_t)(event->received_at - import->began);
    import->done += event->length + 1;
    tell_too_long(import, import->settled);
    name_line(where, import->settled);
    tally_event(&import->tally, event, where);
    progress_update(&import->tally.progress, import->done, import->tally.events);
}

/* Tells the database that the file is imported, and the user if it knew that already. False: *status is that of the
 * process. */
static bool begin_import(struct import *import, struct store *store, int *status)
{
    int64_t now = clock_realtime_us(), ended;
    char when[CLOCK_TEXT];

    if (!store_begin_import(store, import->file_digest, now, &import->began, &ended)) {
        fprintf(stderr, "ticketd: nothing was imported: the database did not take it\n");
        return false;
    }
    if (ended) {
        clock_text(ended, when);
        fprintf(stderr, "ticketd: these very lines were imported to their end before, at %s: nothing to do\n", when);
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
    uint64_t last = complete ? import->lines.number : import->settled;

    tell_too_long(import, last + 1);
    tally_end(tally);
    tally_number("lines", last);
    tally_numbers(tally, "set aside");
    if (import->too_long_told)
        tally_number("too long", import->too_long_told);
    if (complete && (noted || import->too_long_count > 0))
        return tally->complaints ? EXIT_SOME_LEFT : EXIT_SUCCESS;
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
    if (!open_file(import) || !begin_import(import, store, &status))
        goto out;
    catch_signals();
    const struct replay replay = {
        .conf = conf, .store = store, .next = next_line, .settled = line_settled, .source = import};
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
