/* The spool of ticketd 0.1.0, files of records: read once, at the start, and put into the new one.
 *
 *   NUMBER.segment  "ticketd spool 1\n", a marker of eight random bytes
 *   record          marker, event id, received_at, project, length of the reason, length of the body, CRC-32 of both,
 *                   CRC-32 of the head before it; the reason, of a refused body; the body
 *
 * Integers are little-endian. */
#include "base/log.h"
#include "spool/spool_directory.h"
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

#define OLD_EVENTS 256 /* a commit */

static const char old_magic[16] = {"ticketd spool 1\n"};

struct old_head {
    char marker[8];
    uint8_t id[16];
    int64_t received_at, project;
    uint32_t reason_length, body_length, payload_crc, head_crc;
};

#define OLD_BEGIN (sizeof(old_magic) + 8)

struct old_segment {
    int64_t number;
    const char *bytes;
    size_t length, at;
    bool half; /* what is at `at` goes on behind the end */
    bool bad;  /* it holds bytes that are no record */
};

/* The record at `at`, as an event that is not decoded, or nothing: then it is no record, or a part of one. */
static bool read_record(struct old_segment *segment, struct event *event, const char **why)
{
    struct old_head head;
    const char *payload = segment->bytes + segment->at + sizeof(head);
    size_t left = segment->length - segment->at;

    segment->half = left < sizeof(head);
    if (segment->half)
        return false;
    memcpy(&head, payload - sizeof(head), sizeof(head));
    size_t reason = le32toh(head.reason_length), body = le32toh(head.body_length);
    if (memcmp(head.marker, segment->bytes + sizeof(old_magic), sizeof(head.marker)) != 0 ||
        le32toh(head.head_crc) != crc32_z(0, (const Bytef *)&head, offsetof(struct old_head, head_crc)))
        return false;
    segment->half = reason + body > left - sizeof(head);
    if (segment->half || le32toh(head.payload_crc) != crc32_z(0, (const Bytef *)payload, reason + body))
        return false;
    segment->at += sizeof(head) + reason + body;
    char *copy = malloc(body + 1), *text = reason ? strndup(payload, reason) : NULL;
    if (copy && (text || !reason)) {
        memcpy(copy, payload + reason, body);
        copy[body] = '\0';
        event_init(event, copy, body);
        copy = NULL;
        memcpy(event->id, head.id, sizeof(event->id));
        event->received_at = (int64_t)le64toh((uint64_t)head.received_at);
        event->refusal = text ? OUTCOME_UNPROCESSABLE : OUTCOME_NONE;
        event->reason = text;
        event->values[FIELD_project_id] =
            (struct value){.presence = PRESENT, .number = (int64_t)le64toh((uint64_t)head.project)};
        if (text || event_decode(event))
            return true;
        event_free(event);
        text = NULL;
    }
    free(copy);
    free(text);
    *why = strerrordesc_np(ENOMEM);
    return false;
}

/* Goes to what may be the next record. */
static void skip_to_next(struct old_segment *segment)
{
    size_t at = segment->at;
    const char *found =
        memmem(segment->bytes + at + 1, segment->length - at - 1, segment->bytes + sizeof(old_magic), 8);
    /* Half a record at the end is of a process that was killed; nobody was answered for it. */
    bool torn = segment->half && !found;

    segment->at = found ? (size_t)(found - segment->bytes) : segment->length;
    segment->bad = segment->bad || !torn;
    log_line(torn ? LOG_INFO : LOG_ERROR, "an old segment of the spool has bytes that are no record: skipped",
             LOG_NUMBER("segment", segment->number), LOG_NUMBER("offset", (int64_t)at),
             LOG_NUMBER("bytes", (int64_t)(segment->at - at)));
}

/* NULL, or what went wrong: then it is begun anew another time, and events that are there are passed over. */
static const char *put_segment(struct spool *spool, struct old_segment *segment)
{
    struct event events[OLD_EVENTS], *pointers[OLD_EVENTS];
    const char *why = NULL;

    segment->bad = segment->length >= OLD_BEGIN && memcmp(segment->bytes, old_magic, sizeof(old_magic)) != 0;
    segment->at = segment->bad || segment->length < OLD_BEGIN ? segment->length : OLD_BEGIN;
    while (!why && segment->at < segment->length) {
        size_t count = 0;
        while (!why && count < OLD_EVENTS && segment->at < segment->length) {
            pointers[count] = &events[count];
            if (read_record(segment, &events[count], &why))
                count++;
            else if (!why)
                skip_to_next(segment);
        }
        spool_append(spool, pointers, count);
        for (size_t i = 0; i < count; i++) {
            if (events[i].outcome == OUTCOME_UNAVAILABLE)
                why = "the spool did not take its events";
            event_free(&events[i]);
        }
    }
    return why;
}

static const char *take_segment(struct spool *spool, int64_t number)
{
    char name[64], path[PATH_MAX], bad[PATH_MAX];
    struct old_segment segment = {.number = number, .bytes = ""};
    const char *why = NULL;
    struct stat stat;

    snprintf(name, sizeof(name), "%lld.segment", (long long)number);
    int fd = open(spool_name(spool, path, name), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) != 0)
        why = spool_reason();
    else if (stat.st_size > 0 &&
             (segment.bytes = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        why = spool_reason();
    if (!why) {
        segment.length = (size_t)stat.st_size;
        why = put_segment(spool, &segment);
        snprintf(name, sizeof(name), "%lld.bad", (long long)number);
        if (!why && (segment.bad ? rename(path, spool_name(spool, bad, name)) : unlink(path)) != 0)
            why = spool_reason();
    }
    if (segment.length)
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
    int64_t number, taken = 0, max_pages = spool->max_pages;
    const char *why = NULL;

    if (!lowest_segment(spool))
        return NULL;
    int lock = spool_lock(spool, "append.lock", LOCK_EX, 10000); /* another process may be at it, or of the old kind */
    if (lock < 0)
        return spool_reason();
    /* What is there was within its limit, and must not be turned away for what the tables take. */
    spool->max_pages = 4294967294 - 65536;
    while (!why && (number = lowest_segment(spool)) != 0) {
        why = take_segment(spool, number);
        taken += !why;
    }
    log_line(why ? LOG_ERROR : LOG_INFO, "the spool of an older ticketd is taken over", LOG_NUMBER("segments", taken),
             LOG_TEXT("why", why ? why : ""));
    spool->max_pages = max_pages;
    spool_close_side(&spool->in); /* the next one has the limit again */
    close(lock);
    return why;
}
