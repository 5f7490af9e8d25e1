/* On the path between the request and the event, before decryption. */
#include "event/unpack.h"
#include "base/text.h"

#include <stdlib.h>
#include <strings.h>
#include <zlib.h>

#define PIECE 16384

const char UNPACK_NO_MEMORY[] = "out of memory";

/* zlib's windowBits: gzip or zlib, whichever it is; and what some send as deflate, without any frame. */
#define FRAMED 47
#define BARE   (-15)

static const char *unpack(const struct event *event, int window, size_t most, struct text *plain)
{
    z_stream stream = {.next_in = (Bytef *)event->allocation, .avail_in = (uInt)event->length};
    char piece[PIECE];
    int status = inflateInit2(&stream, window);
    const char *problem = status == Z_OK ? NULL : UNPACK_NO_MEMORY;

    while (!problem) {
        stream.next_out = (Bytef *)piece;
        stream.avail_out = sizeof(piece);
        status = inflate(&stream, Z_NO_FLUSH);
        text_append_bytes(plain, piece, sizeof(piece) - stream.avail_out);
        if (status == Z_MEM_ERROR || plain->failed)
            problem = UNPACK_NO_MEMORY;
        else if (plain->length > most)
            problem = "is larger than TICKETD_MAX_BODY_KB when it is decompressed";
        else if (status == Z_STREAM_END && stream.avail_in == 0)
            break;
        else if (status == Z_STREAM_END) /* another member of gzip */
            inflateReset(&stream);
        else if (status == Z_BUF_ERROR)
            problem = "is compressed and ends too early";
        else if (status != Z_OK)
            problem = "is not compressed as its Content-Encoding says";
    }
    inflateEnd(&stream);
    return problem;
}

const char *unpack_body(struct event *event, size_t most)
{
    const char *coding = event->coding;
    bool deflate = strcasecmp(coding, "deflate") == 0;
    struct text plain = {0};

    if (!*coding || strcasecmp(coding, "identity") == 0 || event->length == 0)
        return NULL;
    if (!deflate && strcasecmp(coding, "gzip") != 0 && strcasecmp(coding, "x-gzip") != 0)
        return "has a Content-Encoding that is none of gzip, deflate and identity";
    const char *problem = unpack(event, FRAMED, most, &plain);
    if (problem && problem != UNPACK_NO_MEMORY && deflate && plain.length == 0)
        problem = unpack(event, BARE, most, &plain);
    if (problem) {
        text_free(&plain);
        return problem;
    }
    event->sent = event->allocation;
    event->sent_length = event->length;
    event->body = event->allocation = plain.bytes;
    event->length = plain.length;
    return NULL;
}
