/* The format of a spool segment: a file of records, each with a received body and all that is known of its receipt.
 * The only module that knows zlib, for its CRC-32.
 *
 *   segment  "ticketd spool 1\n", marker
 *   record   marker, event id, received_at, project, length of the reason, length of the body, CRC-32 of both,
 *            CRC-32 of the head before it; the reason; the body
 *
 * Integers are little-endian. The marker is eight random bytes, new in every segment: it finds the next record behind a
 * damaged one, and no sender can put one into a body. A record with a reason is a refused body, and the project
 * is what is known of it; all other bodies are decoded again. */
#ifndef TICKETD_SEGMENT_H
#define TICKETD_SEGMENT_H

#include "base/text.h"
#include "event/event.h"

#include <stdint.h>

#define SEGMENT_MARKER 8
#define SEGMENT_HEAD   (16 + SEGMENT_MARKER) /* bytes of a segment without records */

/* Appends the head of a new segment to `bytes` and makes its marker. */
void segment_begin(struct text *bytes, uint8_t marker[SEGMENT_MARKER]);

/* Appends a record to `bytes`; bytes->failed when memory runs out. */
void segment_append(struct text *bytes, const uint8_t marker[SEGMENT_MARKER], struct event *event);

/* A reader of an open file, up to `size`. Borrows the descriptor and never moves its offset. */
struct segment_reader {
    int fd;
    int64_t size; /* bytes that may be read; may be set anew when the file has grown */
    int64_t at;   /* where the next record begins */
    uint8_t marker[SEGMENT_MARKER];
};

enum segment_found {
    SEGMENT_RECORD,
    SEGMENT_BAD,  /* bytes that are no record were skipped */
    SEGMENT_TORN, /* the file ends within a record: whoever wrote it did not finish, and did not answer for it */
    SEGMENT_END,
    SEGMENT_ERROR /* reading failed: errno; or out of memory */
};

/* Starts reading. SEGMENT_END: ready, at its first record. SEGMENT_TORN: shorter than a head; there is nothing in it.
 * SEGMENT_BAD: not a segment. SEGMENT_ERROR. */
enum segment_found segment_open(struct segment_reader *reader, int fd, int64_t size) MUST_USE;

/* Reads the next record into `event` as event_init would make it, not decoded; a refused body has its refusal and
 * reason. `event` NULL: only steps over it, without looking at its body. */
enum segment_found segment_next(struct segment_reader *reader, struct event *event) MUST_USE;

#endif
