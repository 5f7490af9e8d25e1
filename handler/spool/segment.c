/* Bytes of the spool's files, and nothing of where they are: see spool.c. */
#include "spool/segment.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <zlib.h>

#define CHUNK 65536 /* bytes looked through at once for the next marker */

static const char magic[16] = {"ticketd spool 1\n"};

/* As it is in the file, but for the order of bytes in integers. Without padding: checked below. */
struct head {
    uint8_t marker[SEGMENT_MARKER];
    uint8_t id[16];
    int64_t received_at;
    int64_t project; /* of a refused body; 0: not known */
    uint32_t reason_length, body_length;
    uint32_t payload_crc; /* of the reason and the body */
    uint32_t head_crc;    /* of all before it */
};

_Static_assert(sizeof(struct head) == 56, "no padding");

static uint32_t crc(uint32_t before, const void *bytes, size_t length)
{
    return (uint32_t)crc32_z(before, bytes, length);
}

void segment_begin(struct text *bytes, uint8_t marker[SEGMENT_MARKER])
{
    if (getrandom(marker, SEGMENT_MARKER, 0) != SEGMENT_MARKER)
        abort();
    text_append_bytes(bytes, magic, sizeof(magic));
    text_append_bytes(bytes, (const char *)marker, SEGMENT_MARKER);
}

void segment_append(struct text *bytes, const uint8_t marker[SEGMENT_MARKER], struct event *event)
{
    size_t body_length;
    const char *body = event_received(event, &body_length);
    const char *reason = event->refusal == OUTCOME_NONE ? "" : event_reason(event);
    size_t reason_length = strlen(reason);
    struct head head = {.received_at = (int64_t)htole64((uint64_t)event->received_at),
                        .project = (int64_t)htole64((uint64_t)event_project(event)),
                        .reason_length = htole32((uint32_t)reason_length),
                        .body_length = htole32((uint32_t)body_length)};

    memcpy(head.marker, marker, sizeof(head.marker));
    memcpy(head.id, event->id, sizeof(head.id));
    head.payload_crc = htole32(crc(crc(0, reason, reason_length), body ? body : "", body_length));
    head.head_crc = htole32(crc(0, &head, offsetof(struct head, head_crc)));
    text_append_bytes(bytes, (const char *)&head, sizeof(head));
    text_append_bytes(bytes, reason, reason_length);
    text_append_bytes(bytes, body ? body : "", body_length);
}

/* False: errno; a file that is shorter than it should be is EIO. */
static bool read_all(const struct segment_reader *reader, int64_t at, void *into, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t count = pread(reader->fd, (char *)into + done, length - done, at + (int64_t)done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count == 0)
            errno = EIO;
        if (count <= 0)
            return false;
        done += (size_t)count;
    }
    return true;
}

/* Whether the bytes are a record's head; its integers then have the order of this machine. */
static bool is_head(struct head *head, const uint8_t marker[SEGMENT_MARKER])
{
    if (memcmp(head->marker, marker, SEGMENT_MARKER) != 0 ||
        le32toh(head->head_crc) != crc(0, head, offsetof(struct head, head_crc)))
        return false;
    head->received_at = (int64_t)le64toh((uint64_t)head->received_at);
    head->project = (int64_t)le64toh((uint64_t)head->project);
    head->reason_length = le32toh(head->reason_length);
    head->body_length = le32toh(head->body_length);
    head->payload_crc = le32toh(head->payload_crc);
    return true;
}

enum segment_found segment_open(struct segment_reader *reader, int fd, int64_t size)
{
    char head[SEGMENT_HEAD];

    *reader = (struct segment_reader){.fd = fd, .size = size, .at = SEGMENT_HEAD};
    if (size < SEGMENT_HEAD)
        return SEGMENT_TORN;
    if (!read_all(reader, 0, head, sizeof(head)))
        return SEGMENT_ERROR;
    memcpy(reader->marker, head + sizeof(magic), SEGMENT_MARKER);
    return memcmp(head, magic, sizeof(magic)) == 0 ? SEGMENT_END : SEGMENT_BAD;
}

/* Where the next head is, from reader->at + 1 on; reader->size if there is none. Below 0: errno. */
static int64_t find_head(const struct segment_reader *reader)
{
    char chunk[CHUNK];
    struct head head;
    int64_t at = reader->at + 1;

    while (reader->size - at >= (int64_t)sizeof(head)) {
        size_t length = reader->size - at < CHUNK ? (size_t)(reader->size - at) : CHUNK;
        if (!read_all(reader, at, chunk, length))
            return -1;
        const char *from = chunk, *found;
        while ((found = memmem(from, length - (size_t)(from - chunk), reader->marker, SEGMENT_MARKER))) {
            size_t left = length - (size_t)(found - chunk);
            if (left < sizeof(head))
                break; /* the next chunk begins with it */
            memcpy(&head, found, sizeof(head));
            if (is_head(&head, reader->marker))
                return at + (found - chunk);
            from = found + 1;
        }
        at += (int64_t)(length - sizeof(head)) + 1;
    }
    return reader->size;
}

/* Reads what follows a head. SEGMENT_BAD: the checksum does not fit. */
static enum segment_found read_payload(const struct segment_reader *reader, const struct head *head,
                                       struct event *event)
{
    size_t length = (size_t)head->reason_length + head->body_length;
    char *payload = malloc(length + 1), *reason = NULL;

    if (!payload || !read_all(reader, reader->at + (int64_t)sizeof(*head), payload, length)) {
        free(payload);
        return SEGMENT_ERROR;
    }
    if (crc(0, payload, length) != head->payload_crc) {
        free(payload);
        return SEGMENT_BAD;
    }
    if (head->reason_length) {
        reason = strndup(payload, head->reason_length);
        if (!reason) {
            free(payload);
            return SEGMENT_ERROR;
        }
        memmove(payload, payload + head->reason_length, head->body_length);
    }
    payload[head->body_length] = '\0';
    event_init(event, payload, head->body_length);
    memcpy(event->id, head->id, sizeof(event->id));
    event->received_at = head->received_at;
    event->values[FIELD_project_id] =
        (struct value){.presence = head->project ? PRESENT : ABSENT, .number = head->project};
    event->reason = reason;
    event->refusal = reason ? OUTCOME_UNPROCESSABLE : OUTCOME_NONE;
    return SEGMENT_RECORD;
}

enum segment_found segment_next(struct segment_reader *reader, struct event *event)
{
    struct head head;
    int64_t left = reader->size - reader->at;
    bool unfinished = left < (int64_t)sizeof(head); /* by all that can be told if nothing follows */

    if (left == 0)
        return SEGMENT_END;
    if (!unfinished && !read_all(reader, reader->at, &head, sizeof(head)))
        return SEGMENT_ERROR;
    if (!unfinished && is_head(&head, reader->marker)) {
        int64_t whole = (int64_t)sizeof(head) + head.reason_length + head.body_length;
        enum segment_found found = SEGMENT_BAD;
        if (whole > left)
            unfinished = true;
        else
            found = event ? read_payload(reader, &head, event) : SEGMENT_RECORD;
        if (found == SEGMENT_RECORD)
            reader->at += whole;
        if (found != SEGMENT_BAD)
            return found;
    }
    int64_t next = find_head(reader);
    if (next < 0)
        return SEGMENT_ERROR;
    reader->at = next;
    return unfinished && next == reader->size ? SEGMENT_TORN : SEGMENT_BAD;
}
