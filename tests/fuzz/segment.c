/* The input is a segment as a damaged disk may give it back: reading comes to an end, and no record is given out whose
 * checksums do not fit. The input is also cut into bodies: they come back as they were written, and when a byte is
 * damaged all but the one that it belongs to. */
#include "fuzz.h"

#include <endian.h>
#include <string.h>
#include <zlib.h>

#include "spool/segment.h"

/* Where things are in the head of a record: see handler/spool/segment.h. */
#define HEAD_SIZE     56
#define REASON_LENGTH 40
#define BODY_LENGTH   44
#define PAYLOAD_CRC   48
#define HEAD_CRC      52

#define MOST_RECORDS 8

struct piece {
    const uint8_t *bytes;
    size_t length;
    size_t begin, end; /* of its record in the segment */
    bool refused;
};

static uint32_t number_at(const uint8_t *bytes)
{
    uint32_t number;
    memcpy(&number, bytes, sizeof(number));
    return le32toh(number);
}

/* The record that begins at `head` and gave `event`. */
static void check_record(const struct segment_reader *reader, const uint8_t *head, const uint8_t *end,
                         const struct event *event)
{
    const uint8_t *payload = head + HEAD_SIZE;
    size_t reason_length = number_at(head + REASON_LENGTH), body_length = number_at(head + BODY_LENGTH);

    require(memcmp(head, reader->marker, SEGMENT_MARKER) == 0);
    require(payload + reason_length + body_length == end);
    require(number_at(head + HEAD_CRC) == crc32_z(0, head, HEAD_CRC));
    require(number_at(head + PAYLOAD_CRC) == crc32_z(0, payload, reason_length + body_length));
    require(event->length == body_length && memcmp(event->body, payload + reason_length, body_length) == 0);
    require((event->refusal != OUTCOME_NONE) == (reason_length > 0));
}

static void check_raw(const uint8_t *bytes, size_t length)
{
    struct segment_reader reader, stepping;
    struct event event;
    int fd = file_of(bytes, length);
    enum segment_found found = segment_open(&reader, fd, (int64_t)length);

    require(found != SEGMENT_ERROR);
    require((found == SEGMENT_TORN) == (length < SEGMENT_HEAD));
    stepping = reader;
    if (found == SEGMENT_END) {
        for (int64_t at = reader.at; (found = segment_next(&reader, &event)) != SEGMENT_END; at = reader.at) {
            require(found != SEGMENT_ERROR);
            require(reader.at > at);
            if (found == SEGMENT_RECORD) {
                check_record(&reader, bytes + at, bytes + reader.at, &event);
                event_free(&event);
            }
        }
        require(reader.at == reader.size);
        while (segment_next(&stepping, NULL) != SEGMENT_END)
            ;
        require(stepping.at == stepping.size);
    }
    close(fd);
}

/* A marker that the input decides, so that a crash can be had again, and that the input can hardly contain. */
static void set_marker(struct text *segment, uint8_t marker[SEGMENT_MARKER], const uint8_t *bytes, size_t length)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    memcpy(marker, &hash, SEGMENT_MARKER);
    memcpy(segment->bytes + SEGMENT_HEAD - SEGMENT_MARKER, marker, SEGMENT_MARKER);
}

/* Each piece begins with a byte that is its length and whether it is refused. */
static size_t write_pieces(struct text *segment, struct piece pieces[MOST_RECORDS], const uint8_t *bytes, size_t length)
{
    uint8_t marker[SEGMENT_MARKER];
    size_t count = 0;

    segment_begin(segment, marker);
    set_marker(segment, marker, bytes, length);
    for (size_t at = 0; at < length && count < MOST_RECORDS; count++) {
        struct piece *piece = &pieces[count];
        struct event event;
        size_t wanted = bytes[at] / 2;
        piece->refused = bytes[at++] % 2;
        piece->bytes = bytes + at;
        piece->length = wanted < length - at ? wanted : length - at;
        piece->begin = segment->length;
        at += piece->length;

        char *body = malloc(piece->length + 1);
        require(body);
        memcpy(body, piece->bytes, piece->length);
        body[piece->length] = '\0';
        event_init(&event, body, piece->length);
        memset(event.id, (int)count + 1, sizeof(event.id));
        event.received_at = (int64_t)at;
        if (piece->refused)
            event_refuse(&event, OUTCOME_UNPROCESSABLE, "/a", "is wrong");
        segment_append(segment, marker, &event);
        event_free(&event);
        piece->end = segment->length;
    }
    require(!segment->failed);
    return count;
}

static void check_piece(const struct piece *piece, size_t number, struct event *event)
{
    require(event->length == piece->length && memcmp(event->body, piece->bytes, piece->length) == 0);
    require(event->id[0] == number + 1);
    require((event->refusal != OUTCOME_NONE) == piece->refused);
    if (piece->refused)
        require(strcmp(event_reason(event), "/a is wrong") == 0);
}

/* Flips bits of one byte, none where `bits` is 0. */
static void check_pieces(const uint8_t *bytes, size_t length, size_t where, uint8_t bits)
{
    struct piece pieces[MOST_RECORDS];
    struct text segment = {0};
    struct segment_reader reader;
    struct event event;
    enum segment_found found;
    size_t count = write_pieces(&segment, pieces, bytes, length), next = 0;

    where = SEGMENT_HEAD + where % (segment.length - SEGMENT_HEAD + 1);
    if (where < segment.length)
        segment.bytes[where] = (char)(segment.bytes[where] ^ bits);
    else
        bits = 0;
    int fd = file_of(segment.bytes, segment.length);
    require(segment_open(&reader, fd, (int64_t)segment.length) == SEGMENT_END);
    while ((found = segment_next(&reader, &event)) != SEGMENT_END) {
        if (bits && next < count && where >= pieces[next].begin && where < pieces[next].end) {
            require(found == SEGMENT_BAD);
        } else {
            require(found == SEGMENT_RECORD && next < count);
            check_piece(&pieces[next], next, &event);
            event_free(&event);
        }
        next++;
    }
    require(next == count);
    close(fd);
    text_free(&segment);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    check_raw(bytes, length);
    uint8_t bits = take_last(bytes, &length), low = take_last(bytes, &length), high = take_last(bytes, &length);
    check_pieces(bytes, length, 0, 0);
    check_pieces(bytes, length, (size_t)high << 8 | low, bits);
    return 0;
}
