/* From the spool's files back to the store. An event keeps the identifier that it got at receipt, so that what was
 * drained, and by whom, need not be written down: drained once more it changes nothing. */
#include "store/drain.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "spool/segment.h"
#include "spool/spool_files.h"
#include "store/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPORT_MS 5000 /* between two lines in the log */

struct drain {
    struct replay replay;
    void (*report)(void *context, int64_t bytes_left);
    void *context;

    int directory, lock;
    struct spool_note note;

    uint64_t segment; /* the one that was last worked on */
    uint64_t settled; /* its records that are committed */
    struct segment_reader reader;
    bool bad;          /* it holds bytes that are no record */
    const char *error; /* why it cannot be read */

    int64_t bytes_left; /* in segments behind it */
    uint64_t events;    /* since the drain began */
    int64_t began_at, said_at;
};

/* The next record; what is between records is logged and marks the segment. */
static bool next_record(void *source, struct event *event)
{
    struct drain *drain = source;

    for (;;) {
        int64_t from = drain->reader.at;
        switch (segment_next(&drain->reader, event)) {
        case SEGMENT_RECORD:
            return true;
        case SEGMENT_BAD:
            drain->bad = true;
            log_line(LOG_ERROR, "the spool has bytes that are no record: skipped, their segment will be kept as .bad",
                     LOG_NUMBER("segment", (int64_t)drain->segment), LOG_NUMBER("offset", from),
                     LOG_NUMBER("bytes", drain->reader.at - from));
            break;
        case SEGMENT_TORN:
            log_line(LOG_INFO, "the spool has an unfinished record, of a process that was killed: it was not answered",
                     LOG_NUMBER("segment", (int64_t)drain->segment), LOG_NUMBER("offset", from));
            break;
        case SEGMENT_END:
            return false;
        case SEGMENT_ERROR:
            drain->error = spool_reason();
            return false;
        }
    }
}

static void settled(void *source, const struct event *event)
{
    struct drain *drain = source;
    int64_t now = clock_monotonic_ms();

    drain->settled++;
    drain->events++;
    drain->note.events++;
    metrics_add(METRIC_DRAINED, 1);
    if (drain->note.events % 64 == 0)
        spool_write_note(drain->lock, &drain->note);
    int64_t left = drain->bytes_left + drain->reader.size - drain->reader.at;
    metrics_add(METRIC_SPOOL_EVENTS, -1);
    metrics_set(METRIC_SPOOL_BYTES, left);
    metrics_set(METRIC_SPOOL_OLDEST, left > 0 ? event->received_at : 0);
    if (drain->report) {
        drain->report(drain->context, left);
    } else if (drain->said_at == 0 || now - drain->said_at >= REPORT_MS) {
        log_line(LOG_INFO, "draining the spool", LOG_NUMBER("drained", (int64_t)drain->events),
                 LOG_NUMBER("bytes_left", left));
        drain->said_at = now;
    }
}

struct drain *drain_open(const struct conf *conf, struct store *store,
                         void (*report)(void *context, int64_t bytes_left), void *context)
{
    struct drain *drain = calloc(1, sizeof(*drain));
    if (!drain)
        return NULL;
    drain->replay =
        (struct replay){.conf = conf, .store = store, .next = next_record, .settled = settled, .source = drain};
    drain->report = report;
    drain->context = context;
    return drain;
}

void drain_close(struct drain *drain)
{
    free(drain);
}

/* Goes on behind what was committed before: those records repeat harmlessly, but take time. */
static bool skip_settled(struct drain *drain)
{
    struct event event;

    for (uint64_t n = 0; n < drain->settled; n++) {
        if (!next_record(drain, &event))
            return false;
        event_free(&event);
    }
    return true;
}

/* Below 0: errno. */
static int64_t size_of(int fd)
{
    struct stat stat;
    return fstat(fd, &stat) == 0 ? stat.st_size : -1;
}

/* How long the segment is now, with nothing in it half written by a living process. False: drain->error. */
static bool read_size(struct drain *drain, int fd)
{
    int lock = spool_lock(drain->directory, SPOOL_APPEND_SHARED);
    int64_t size = lock < 0 ? -1 : size_of(fd);

    if (size < 0)
        drain->error = spool_reason();
    spool_close_file(lock);
    drain->reader.size = size;
    return size >= 0;
}

/* Removes the segment if it has not grown. False: it has, or an error. */
static bool finish(struct drain *drain, bool *grown)
{
    int lock = spool_lock(drain->directory, SPOOL_APPEND);
    int64_t size = lock < 0 ? -1 : size_of(drain->reader.fd);

    *grown = size > drain->reader.size;
    bool removed = size >= 0 && !*grown && spool_remove(drain->directory, drain->segment, drain->bad);
    if (!removed && !*grown)
        drain->error = spool_reason();
    spool_close_file(lock);
    if (removed && drain->bad)
        log_line(LOG_ERROR, "a spool segment is kept aside: what could be read in it is drained",
                 LOG_NUMBER("segment", (int64_t)drain->segment));
    return removed;
}

static enum segment_found open_segment(struct drain *drain, int fd)
{
    enum segment_found found = SEGMENT_ERROR;

    if (read_size(drain, fd)) {
        found = segment_open(&drain->reader, fd, drain->reader.size);
        if (found == SEGMENT_ERROR)
            drain->error = spool_reason();
    }
    return found;
}

static enum drained drain_segment(struct drain *drain, uint64_t number)
{
    int fd = spool_segment(drain->directory, number);
    enum drained result = DRAIN_FAILED;
    bool grown = false;

    if (number != drain->segment)
        drain->settled = 0;
    drain->segment = number;
    drain->bad = false;
    if (fd < 0) {
        drain->error = spool_reason();
        return DRAIN_FAILED;
    }
    enum segment_found found = open_segment(drain, fd);
    if (found == SEGMENT_ERROR)
        goto out;
    drain->bytes_left -= drain->reader.size;
    if (found == SEGMENT_BAD) {
        drain->bad = true;
        log_line(LOG_ERROR, "not a spool segment", LOG_NUMBER("segment", (int64_t)number));
    }
    if (found != SEGMENT_END) {
        drain->reader.at = drain->reader.size; /* nothing to be read in it */
    } else if (!skip_settled(drain)) {
        drain->settled = 0; /* from its beginning, next time */
        if (!drain->error)
            drain->error = "it has become shorter";
        goto out;
    }
    do {
        if (found == SEGMENT_END && !replay_run(&drain->replay)) {
            result = drain->error ? DRAIN_FAILED : DRAIN_STOPPED;
            goto out;
        }
        spool_write_note(drain->lock, &drain->note);
        if (drain->error)
            goto out;
        if (finish(drain, &grown))
            result = DRAINED;
    } while (grown && read_size(drain, fd));
out:
    close(fd);
    return result;
}

/* The oldest segment, as long as there is one: appenders may make more meanwhile. */
static enum drained drain_all(struct drain *drain)
{
    struct spool_contents contents;
    enum drained result = DRAINED;

    while (result == DRAINED) {
        if (!spool_list(drain->directory, &contents)) {
            drain->error = spool_reason();
            return DRAIN_FAILED;
        }
        uint64_t oldest = contents.count ? contents.segments[0] : 0;
        drain->bytes_left = contents.bytes;
        spool_contents_free(&contents);
        if (!oldest)
            return DRAINED;
        result = drain_segment(drain, oldest);
    }
    return result;
}

/* Says how it went, where that is news. */
static void conclude(struct drain *drain, enum drained result)
{
    if (result == DRAINED && drain->events && !drain->report)
        log_line(LOG_INFO, "the spool is empty", LOG_NUMBER("drained", (int64_t)drain->events),
                 LOG_NUMBER("milliseconds", clock_monotonic_ms() - drain->began_at));
    if (result == DRAINED)
        drain->events = 0;
    if (result == DRAIN_STOPPED && !store_must_stop(drain->replay.store))
        spool_note_error(drain->lock, "the database does not take its events: see the log, and ticketd check");
    if (result == DRAIN_FAILED) {
        log_line(LOG_ERROR, "the spool cannot be drained: its events stay there, new ones join them",
                 LOG_TEXT("why", drain->error), LOG_NUMBER("segment", (int64_t)drain->segment));
        if (drain->lock >= 0)
            spool_note_error(drain->lock, drain->error);
    }
}

enum drained drain_run(struct drain *drain)
{
    enum drained result = DRAIN_FAILED;

    drain->error = NULL;
    drain->said_at = 0;
    if (drain->events == 0)
        drain->began_at = clock_monotonic_ms();
    drain->lock = -1;
    drain->directory = spool_directory(drain->replay.conf->spool_dir, &drain->error);
    if (drain->directory >= 0) {
        drain->lock = spool_lock(drain->directory, SPOOL_DRAIN);
        if (drain->lock < 0 && errno == EWOULDBLOCK)
            result = DRAIN_BUSY;
        else if (drain->lock < 0)
            drain->error = spool_reason();
    }
    if (drain->lock >= 0) {
        spool_read_note(drain->lock, &drain->note);
        result = drain_all(drain);
    }
    conclude(drain, result);
    spool_close_file(drain->lock);
    spool_close_file(drain->directory);
    return result;
}
