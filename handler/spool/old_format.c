/* The spool of ticketd 0.1.0, files of records: read once, at the start, and put into the new one.
 *
 *   NUMBER.segment  "ticketd spool 1\n", a marker of eight random bytes
 *   record          marker, event id, received_at, project, length of the reason, length of the body, CRC-32 of both,
 *                   CRC-32 of the head before it; the reason, of a refused body; the body
 *
 * Integers are little-endian. */
#include "base/log.h"
#include "spool/spool_file.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const char old_magic[16] = {"ticketd spool 1\n"};

struct old_head {
    char marker[8];
    uint8_t id[16];
    int64_t received_at, project;
    uint32_t reason_length, body_length, payload_crc, head_crc;
};

#define OLD_BEGIN (sizeof(old_magic) + 8)

struct old_segment {
    struct spool *spool;
    int64_t number;
    const char *bytes;
    size_t length;
    bool bad; /* it holds bytes that are no record */
};

enum { NO_RECORD = 0, HALF_A_RECORD = -1, NO_MEMORY = -2 };

/* The record at `at`, as an event; its length, or one of these. */
static int64_t read_record(const struct old_segment *segment, size_t at, struct event *event)
{
    struct old_head head;
    const char *payload = segment->bytes + at + sizeof(head);

    if (segment->length - at < sizeof(head))
        return HALF_A_RECORD;
    memcpy(&head, segment->bytes + at, sizeof(head));
    size_t reason = le32toh(head.reason_length), body = le32toh(head.body_length);
    if (memcmp(head.marker, segment->bytes + sizeof(old_magic), sizeof(head.marker)) != 0 ||
        le32toh(head.head_crc) != crc32_z(0, (const Bytef *)&head, offsetof(struct old_head, head_crc)))
        return NO_RECORD;
    if (reason + body > segment->length - at - sizeof(head))
        return HALF_A_RECORD;
    if (le32toh(head.payload_crc) != crc32_z(0, (const Bytef *)payload, reason + body))
        return NO_RECORD;
    char *copy = malloc(body + 1), *why = reason ? strndup(payload, reason) : NULL;
    if (!copy || (reason && !why)) {
        free(copy);
        free(why);
        return NO_MEMORY;
    }
    memcpy(copy, payload + reason, body);
    copy[body] = '\0';
    event_init(event, copy, body);
    memcpy(event->id, head.id, sizeof(event->id));
    event->received_at = (int64_t)le64toh((uint64_t)head.received_at);
    if (why) {
        event->refusal = OUTCOME_UNPROCESSABLE;
        event->reason = why;
        event->values[FIELD_project_id] =
            (struct value){.presence = PRESENT, .number = (int64_t)le64toh((uint64_t)head.project)};
    } else if (!event_decode(event)) {
        event_free(event);
        return NO_MEMORY;
    }
    return (int64_t)(sizeof(head) + reason + body);
}

static int put_segment(struct spool_side *side, struct old_segment *segment)
{
    struct spool_counts counts = {0, 0};
    int code = SQLITE_OK;

    /* What is there was within its limit, and must not be turned away for what the tables take. */
    sqlite3_exec(side->db, "PRAGMA max_page_count = 4294967294", NULL, NULL, NULL);
    segment->bad = segment->length >= OLD_BEGIN && memcmp(segment->bytes, old_magic, sizeof(old_magic)) != 0;
    for (size_t at = segment->bad || segment->length < OLD_BEGIN ? segment->length : OLD_BEGIN;
         code == SQLITE_OK && at < segment->length;) {
        struct event event;
        int64_t length = read_record(segment, at, &event);
        if (length > 0) {
            code = spool_put(side, &event, &counts);
            event_free(&event);
            at += (size_t)length;
            continue;
        }
        const char *found =
            memmem(segment->bytes + at + 1, segment->length - at - 1, segment->bytes + sizeof(old_magic), 8);
        size_t next = found ? (size_t)(found - segment->bytes) : segment->length;
        /* Half a record at the end is of a process that was killed; nobody was answered for it. */
        bool torn = length == HALF_A_RECORD && !found;
        segment->bad = segment->bad || !torn;
        log_line(torn ? LOG_INFO : LOG_ERROR, "an old segment of the spool has bytes that are no record: skipped",
                 LOG_NUMBER("segment", segment->number), LOG_NUMBER("offset", (int64_t)at),
                 LOG_NUMBER("bytes", (int64_t)(next - at)));
        at = next;
        code = length == NO_MEMORY ? SQLITE_NOMEM : SQLITE_OK;
    }
    return code == SQLITE_OK ? spool_count(side, &counts, segment->spool->identity) : code;
}

static const char *take_segment(struct spool *spool, int64_t number)
{
    char name[64], path[PATH_MAX], bad[PATH_MAX];
    struct old_segment segment = {.spool = spool, .number = number};
    const char *why = NULL;
    struct stat stat;

    snprintf(name, sizeof(name), "%lld.segment", (long long)number);
    int fd = open(spool_name(spool, path, name), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) != 0 || (segment.length = (size_t)stat.st_size) == 0)
        segment.bytes = "";
    else if ((segment.bytes = mmap(NULL, segment.length, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        segment.bytes = NULL;
    if (fd < 0 || !segment.bytes) {
        why = spool_reason();
    } else if (spool_begin(spool, &spool->in, SPOOL_MAKE, &why) == SQLITE_OK &&
               spool_end(spool, &spool->in, put_segment(&spool->in, &segment), &why) == SQLITE_OK) {
        snprintf(name, sizeof(name), "%lld.bad", (long long)number);
        if ((segment.bad ? rename(path, spool_name(spool, bad, name)) : unlink(path)) != 0)
            why = spool_reason();
    }
    if (segment.length && segment.bytes)
        munmap((void *)(uintptr_t)segment.bytes, segment.length);
    if (fd >= 0)
        close(fd);
    return why;
}

/* The lowest number of a segment; 0: there is none. */
static int64_t lowest_segment(const struct spool *spool)
{
    DIR *listing = opendir(spool->path);
    struct dirent *entry;
    int64_t lowest = 0;

    while (listing && (entry = readdir(listing))) {
        char *end;
        int64_t number = strtoll(entry->d_name, &end, 10);
        if (number > 0 && strcmp(end, ".segment") == 0 && (!lowest || number < lowest))
            lowest = number;
    }
    if (listing)
        closedir(listing);
    return lowest;
}

const char *spool_take_over(struct spool *spool)
{
    const char *why = NULL;
    int64_t number, taken = 0;

    if (!lowest_segment(spool))
        return NULL;
    int lock = spool_lock(spool, "append.lock", LOCK_EX, 10000); /* another process may be at it, or of the old kind */
    if (lock < 0)
        return spool_reason();
    while (!why && (number = lowest_segment(spool)) != 0) {
        why = take_segment(spool, number);
        taken += !why;
    }
    log_line(why ? LOG_ERROR : LOG_INFO, "the spool of an older ticketd is taken over", LOG_NUMBER("segments", taken),
             LOG_TEXT("why", why ? why : ""));
    pthread_mutex_lock(&spool->in.mutex);
    spool_close_side(&spool->in); /* the next one has the limit again */
    pthread_mutex_unlock(&spool->in.mutex);
    close(lock);
    return why;
}
