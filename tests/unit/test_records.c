/* Whole requests, parts of them and everything else that a peer can send: what records_look says does not depend on how
 * the bytes are cut, agrees with a second, simpler check of the whole, and libfcgi can read what passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcgiapp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/text.h"
#include "web/records.h"

enum { BEGIN = 1, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE };
enum { ID = 258, RESPONDER = 1, LIMIT = 65536, RECORD_MAX = 65535 };

/* A sequence of numbers that is the same in every run (xorshift). */
static uint64_t seed;

static size_t below(size_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (size_t)(seed >> 11) % limit;
}

/* Requests are put together in a struct text. */

static void put(struct text *t, const void *bytes, size_t length)
{
    text_append_bytes(t, bytes, length);
    assert_false(t->failed);
}

static void put_fill(struct text *t, int byte, size_t length)
{
    char *fill = malloc(length + 1);
    assert_non_null(fill);
    memset(fill, byte, length);
    put(t, fill, length);
    free(fill);
}

static void put_header(struct text *t, int version, int type, int id, size_t content, size_t padding)
{
    uint8_t header[8] = {(uint8_t)version,        (uint8_t)type,    (uint8_t)(id >> 8), (uint8_t)id,
                         (uint8_t)(content >> 8), (uint8_t)content, (uint8_t)padding,   0xee};
    put(t, header, sizeof(header));
}

static void put_record(struct text *t, int type, const void *content, size_t length, size_t padding)
{
    put_header(t, 1, type, ID, length, padding);
    put(t, content, length);
    put_fill(t, 0xdd, padding);
}

static void put_begin(struct text *t, int role, int flags)
{
    uint8_t body[8] = {(uint8_t)(role >> 8), (uint8_t)role, (uint8_t)flags, 1, 2, 3, 4, 5};
    put_record(t, BEGIN, body, sizeof(body), 0);
}

static void put_end(struct text *t, int type)
{
    put_record(t, type, "", 0, 0);
}

static void put_length(struct text *t, uint32_t length, bool as_four)
{
    uint8_t bytes[4] = {(uint8_t)(length >> 24 | 0x80), (uint8_t)(length >> 16), (uint8_t)(length >> 8),
                        (uint8_t)length};
    if (as_four || length > 127)
        put(t, bytes, 4);
    else
        put(t, bytes + 3, 1);
}

static void put_pair(struct text *t, size_t name, size_t value, bool as_four)
{
    put_length(t, (uint32_t)name, as_four);
    put_length(t, (uint32_t)value, as_four);
    put_fill(t, 'N', name);
    put_fill(t, 'v', value);
}

/* A whole request around the pairs and the body, a record every so many bytes, with so much padding: not behind the
 * records after which libfcgi forgets that there is some. */
static void put_request(struct text *t, const struct text *pairs, size_t each, size_t padding, size_t body,
                        size_t body_each)
{
    put_begin(t, RESPONDER, 1);
    for (size_t at = 0; at < pairs->length; at += each) {
        size_t left = pairs->length - at;
        put_record(t, PARAMS, pairs->bytes + at, left < each ? left : each, padding);
    }
    put_end(t, PARAMS);
    for (size_t at = 0; at < body; at += body_each) {
        size_t left = body - at, size = left < body_each ? left : body_each;
        put_header(t, 1, STDIN, ID, size, padding);
        put_fill(t, 'b', size);
        put_fill(t, 0, padding);
    }
    put_end(t, STDIN);
}

/* The second check. It has the whole and may look at it as often as it likes. */

/* Whether these bytes are the beginning of name-value pairs; *ends: a pair ends where they end. */
static bool are_pairs(const uint8_t *b, size_t length, bool *ends)
{
    size_t at = 0;

    *ends = false;
    if (length > LIMIT)
        return false;
    while (at < length) {
        uint64_t sizes = 0;
        for (int i = 0; i < 2; i++) {
            size_t width = at < length && b[at] >= 0x80 ? 4 : 1;
            if (at + width > length)
                return true;
            if (width == 1)
                sizes += b[at];
            else
                sizes +=
                    (uint64_t)(b[at] & 0x7f) << 24 | (uint64_t)b[at + 1] << 16 | (uint64_t)b[at + 2] << 8 | b[at + 3];
            at += width;
        }
        if (sizes > LIMIT || memchr(b + at, '\0', sizes < length - at ? sizes : length - at))
            return false;
        if (sizes > length - at)
            return true;
        at += sizes;
    }
    *ends = true;
    return true;
}

/* *used: where a whole request ends. */
static enum records_state check(const uint8_t *b, size_t length, size_t *used)
{
    static const uint8_t responder[2] = {0, RESPONDER};
    struct text pairs = {0};
    enum records_state state = RECORDS_PART;
    bool ends = true;
    int expected = BEGIN;

    for (size_t at = 0; state == RECORDS_PART && length - at >= 8;) {
        const uint8_t *h = b + at;
        size_t content = (size_t)h[4] * 256 + h[5], there = length - at - 8;
        if (there > content)
            there = content;
        if (h[0] != 1 || h[1] != expected || (h[2] == 0 && h[3] == 0) || h[2] != b[2] || h[3] != b[3])
            state = RECORDS_BAD;
        else if ((expected == BEGIN || content == 0) && h[6] > 0)
            state = RECORDS_BAD;
        else if (expected == BEGIN && (content != 8 || memcmp(h + 8, responder, there < 2 ? there : 2) != 0))
            state = RECORDS_BAD;
        else if (expected == PARAMS && content == 0 && !ends)
            state = RECORDS_BAD;
        else if (expected == PARAMS) {
            put(&pairs, (const char *)h + 8, there);
            if (!are_pairs((uint8_t *)pairs.bytes, pairs.length, &ends))
                state = RECORDS_BAD;
        }
        if (state == RECORDS_BAD || length - at - 8 < content + h[6])
            break;
        at += 8 + content + h[6];
        if (expected == STDIN && content == 0) {
            state = RECORDS_WHOLE;
            *used = at;
        }
        if (expected == BEGIN)
            expected = PARAMS;
        else if (content == 0)
            expected = STDIN;
    }
    text_free(&pairs);
    return state;
}

/* Looks at the bytes in pieces of `size`, or of random sizes where it is 0. Each piece is in memory of its own, so that
 * a read beside it is seen by a sanitizer. *seen: how many bytes had been shown when the state was found. */
static enum records_state look(const char *bytes, size_t length, size_t size, size_t *seen)
{
    struct records records = {0};
    enum records_state state = RECORDS_PART;
    size_t at = 0;

    while (state == RECORDS_PART && at < length) {
        size_t piece = size ? size : below(2) ? 1 + below(12) : 1 + below(length);
        if (piece > length - at)
            piece = length - at;
        uint8_t *copy = malloc(piece);
        assert_non_null(copy);
        memcpy(copy, bytes + at, piece);
        state = records_look(&records, copy, piece);
        free(copy);
        at += piece;
    }
    *seen = at;
    return state;
}

static const char *const names[] = {"part", "whole", "bad"};

static void expect(const char *what, const struct text *t, enum records_state wanted)
{
    size_t seen, used = 0;
    static const size_t sizes[] = {SIZE_MAX, 1, 2, 7, 8, 9, 4096, 0, 0, 0};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        enum records_state state = look(t->bytes, t->length, sizes[i], &seen);
        if (state != wanted)
            fail_msg("%s in pieces of %zu: %s instead of %s", what, sizes[i], names[state], names[wanted]);
    }
    assert_int_equal(check((uint8_t *)t->bytes, t->length, &used), wanted);
}

/* A good request: whole at its last byte, not before, whatever comes behind it. */
static void expect_whole(const char *what, struct text *t)
{
    size_t length = t->length, seen;

    expect(what, t, RECORDS_WHOLE);
    assert_int_equal(look(t->bytes, length, 1, &seen), RECORDS_WHOLE);
    assert_int_equal(seen, length);
    t->length--;
    expect(what, t, RECORDS_PART);
    t->length++;
    put(t, "\0garbage", 8);
    expect(what, t, RECORDS_WHOLE);
    assert_int_equal(look(t->bytes, t->length, 1, &seen), RECORDS_WHOLE);
    assert_int_equal(seen, length);
    text_free(t);
}

/* A request that is bad as soon as its last byte is there. */
static void expect_bad(const char *what, struct text *t)
{
    expect(what, t, RECORDS_BAD);
    t->length--;
    expect(what, t, RECORDS_PART);
    text_free(t);
}

/* Good requests */

static struct text some_pairs(void)
{
    struct text pairs = {0};
    put_pair(&pairs, 14, 4, false);
    put_pair(&pairs, 0, 0, false);
    put_pair(&pairs, 3, 0, false);
    put_pair(&pairs, 0, 5, false);
    put_pair(&pairs, 0, 0, true);
    put_pair(&pairs, 5, 127, true);
    put_pair(&pairs, 127, 128, false);
    put_pair(&pairs, 300, 2, false);
    return pairs;
}

static void test_good_requests(void **state)
{
    (void)state;
    struct text pairs = some_pairs(), none = {0};
    static const size_t bodies[][2] = {{0, 1},         {1, 1},         {100, 1},  {65535, 65535},
                                       {65536, 65535}, {200000, 8000}, {3000, 1}, {131070, 65535}};

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct text t = {0};
        put_request(&t, &pairs, RECORD_MAX, 0, bodies[i][0], bodies[i][1]);
        expect_whole("a body", &t);
    }
    for (size_t each = 1; each <= pairs.length; each += each < 40 ? 1 : 97) {
        struct text t = {0};
        put_request(&t, &pairs, each, each % 8, 10, 10);
        expect_whole("parameters in many records", &t);
    }
    for (size_t padding = 0; padding <= 255; padding++) {
        struct text t = {0};
        put_request(&t, &pairs, 200, padding, 10, 4);
        expect_whole("padding", &t);
    }
    for (int flags = 0; flags <= 255; flags += 51) {
        struct text t = {0};
        put_begin(&t, RESPONDER, flags);
        put_end(&t, PARAMS);
        put_end(&t, STDIN);
        expect_whole("no parameters", &t);
    }
    static const int ids[] = {1, 255, 256, 65535};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct text t = {0};
        put_header(&t, 1, BEGIN, ids[i], 8, 0);
        put(&t, "\0\1\0\0\0\0\0\0", 8);
        put_header(&t, 1, PARAMS, ids[i], 0, 0);
        put_header(&t, 1, STDIN, ids[i], 0, 0);
        expect_whole("an id", &t);
    }
    text_free(&pairs);
    text_free(&none);
}

static void test_every_cut(void **state)
{
    (void)state;
    struct text pairs = some_pairs(), t = {0};

    put_request(&t, &pairs, 100, 5, 40, 7);
    for (size_t cut = 0; cut <= t.length; cut++) {
        struct records records = {0};
        const uint8_t *bytes = (uint8_t *)t.bytes;
        assert_int_equal(records_look(&records, bytes, cut), cut < t.length ? RECORDS_PART : RECORDS_WHOLE);
        if (cut < t.length)
            assert_int_equal(records_look(&records, bytes + cut, t.length - cut), RECORDS_WHOLE);
        for (size_t second = cut; second < t.length; second += 1 + below(9)) {
            records = (struct records){0};
            assert_int_equal(records_look(&records, bytes, cut), RECORDS_PART);
            assert_int_equal(records_look(&records, bytes + cut, second - cut), RECORDS_PART);
            assert_int_equal(records_look(&records, bytes + second, t.length - second), RECORDS_WHOLE);
        }
    }
    text_free(&pairs);
    text_free(&t);
}

/* Bad ones */

/* As far as a good request goes before the record of that type. */
static struct text up_to(int stage)
{
    struct text t = {0}, pairs = {0};

    put_pair(&pairs, 6, 3, false);
    if (stage > BEGIN)
        put_begin(&t, RESPONDER, 1);
    if (stage > PARAMS) {
        put_record(&t, PARAMS, pairs.bytes, pairs.length, 2);
        put_end(&t, PARAMS);
    }
    text_free(&pairs);
    return t;
}

static void test_bad_headers(void **state)
{
    (void)state;
    static const int stages[] = {BEGIN, PARAMS, STDIN};

    for (int i = 0; i < 3; i++) {
        for (int type = 0; type <= 255; type++) {
            struct text t = up_to(stages[i]);
            put_header(&t, 1, type, ID, 8, 0);
            if (type == stages[i])
                expect("the type that comes", &t, RECORDS_PART);
            else
                expect("a type that does not come now", &t, RECORDS_BAD);
            text_free(&t);

            t = up_to(stages[i]);
            put_header(&t, type, stages[i], ID, 8, 0);
            expect("a version", &t, type == 1 ? RECORDS_PART : RECORDS_BAD);
            text_free(&t);
        }
        static const int ids[] = {0, 1, 2, ID + 1, ID ^ 0xff00, 0xffff};
        for (size_t k = 0; k < sizeof(ids) / sizeof(ids[0]); k++) {
            struct text t = up_to(stages[i]);
            put_header(&t, 1, stages[i], ids[k], 8, 0);
            expect("an id", &t, i == 0 && ids[k] ? RECORDS_PART : RECORDS_BAD);
            text_free(&t);
        }
        /* FCGI_GET_VALUES as it is meant to be: a management record with id 0. */
        struct text t = up_to(stages[i]);
        put_header(&t, 1, GET_VALUES, 0, 0, 0);
        expect_bad("GET_VALUES", &t);
    }
}

static void test_bad_begin(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 7, 9, 16, 256, 65535};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct text t = {0};
        put_header(&t, 1, BEGIN, ID, lengths[i], 0);
        expect_bad("a beginning of another length", &t);
    }
    for (int role = 0; role <= 65535; role += role < 600 ? 1 : 257) {
        struct text t = {0};
        put_begin(&t, role, 0);
        expect("a role", &t, role == RESPONDER ? RECORDS_PART : RECORDS_BAD);
        text_free(&t);
    }
    struct text t = {0};
    put_begin(&t, RESPONDER, 1);
    put_header(&t, 1, BEGIN, ID, 8, 0);
    expect_bad("a second beginning", &t);
}

/* What follows it in its name or value would not be seen, such as a second token. */
static void test_a_nul_in_a_parameter(void **state)
{
    (void)state;

    for (size_t at = 0; at < 9; at++) {
        struct text pairs = {0}, t = {0};
        put_pair(&pairs, 4, 5, false);
        pairs.bytes[2 + at] = '\0';
        put_begin(&t, RESPONDER, 1);
        put_header(&t, 1, PARAMS, ID, pairs.length, 0);
        put(&t, pairs.bytes, 2 + at + 1);
        expect_bad("a NUL in a parameter", &t);
        text_free(&pairs);
    }
}

/* libfcgi skips padding only where the same stream goes on. Elsewhere it would read it as the next record, which nobody
 * had looked at. */
static void test_bad_padding(void **state)
{
    (void)state;

    for (size_t padding = 1; padding <= 255; padding += 127) {
        struct text t = {0};
        put_header(&t, 1, BEGIN, ID, 8, padding);
        expect_bad("padding of the beginning", &t);

        t = up_to(PARAMS);
        put_record(&t, PARAMS, "\1\1NV", 4, 9);
        put_header(&t, 1, PARAMS, ID, 0, padding);
        expect_bad("padding of the end of the parameters", &t);

        t = up_to(STDIN);
        put_record(&t, STDIN, "b", 1, 9);
        put_header(&t, 1, STDIN, ID, 0, padding);
        expect_bad("padding of the end of the body", &t);
    }
}

static void test_bad_order(void **state)
{
    (void)state;
    struct text t = {0};

    put_begin(&t, RESPONDER, 1);
    put_record(&t, PARAMS, "\1\1NV", 4, 0);
    put_header(&t, 1, STDIN, ID, 2, 0);
    expect_bad("a body before the parameters ended", &t);

    t = up_to(STDIN);
    put_record(&t, STDIN, "b", 1, 7);
    put_header(&t, 1, PARAMS, ID, 4, 0);
    expect_bad("parameters in the body", &t);

    t = up_to(STDIN);
    put_header(&t, 1, PARAMS, ID, 0, 0);
    expect_bad("parameters ending twice", &t);
}

static void test_lengths_that_lie(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
    } cut[] = {
        {"\1", 1},         {"\1\1", 2},     {"\1\1N", 3},        {"\0\1", 2},
        {"\1\0", 2},       {"\177\177", 2}, {"\200", 1},         {"\200\0\0", 3},
        {"\200\0\0\1", 4}, {"\1\200", 2},   {"\1\200\0\0", 4},   {"\1\200\0\0\1N", 6},
        {"\1\1NV\1", 5},   {"\0\0\0", 3},   {"\200\1\0\0\0", 5}, {"\200\0\377\377\0", 5},
    };
    static const uint32_t huge[] = {LIMIT + 1, 0x100000, 0x1000000, 0x7ffffffe, 0x7fffffff};

    for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
        struct text t = {0};
        put_begin(&t, RESPONDER, 1);
        put_record(&t, PARAMS, cut[i].bytes, cut[i].length, 0);
        put_end(&t, PARAMS);
        expect_bad("a pair past the end of the stream", &t);
    }
    /* With all bits set the length is 0x7fffffff; two of them do not fit into 32 bits. */
    for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
        for (int which = 0; which < 3; which++) {
            struct text pairs = {0}, t = {0};
            put_length(&pairs, which != 1 ? huge[i] : 3, true);
            put_length(&pairs, which != 0 ? huge[i] : 3, true);
            put_begin(&t, RESPONDER, 1);
            put_record(&t, PARAMS, pairs.bytes, pairs.length, 0);
            expect_bad("a pair of gigabytes", &t);
            text_free(&pairs);
        }
    }
}

static void test_limit_of_parameters(void **state)
{
    (void)state;
    static const size_t each[] = {1000, 65535};

    for (size_t i = 0; i < 2; i++) {
        for (size_t more = 0; more < 2; more++) {
            struct text one = {0}, many = {0}, t = {0};
            put_pair(&one, 100, LIMIT - 105 + more, false); /* lengths of 1 and 4 bytes */
            assert_int_equal(one.length, LIMIT + more);
            put_request(&t, &one, each[i], 0, 5, 5);
            if (more == 0)
                expect_whole("one long pair", &t);
            else
                expect("one pair that is too long", &t, RECORDS_BAD);
            text_free(&t);

            while (many.length < LIMIT)
                put_pair(&many, 0, 0, false);
            if (more)
                put_pair(&many, 0, 0, false);
            put_request(&t, &many, each[i], 0, 5, 5);
            if (more == 0)
                expect_whole("many pairs", &t);
            else
                expect("too many pairs", &t, RECORDS_BAD);
            text_free(&t);
            text_free(&one);
            text_free(&many);
        }
    }
}

/* Anything */

/* What passed, read by libfcgi out of a file: no error, no byte more than there is, and the body as it was sent. */
static void read_by_libfcgi(const uint8_t *bytes, size_t length)
{
    FCGX_Request request;
    int file = memfd_create("request", MFD_CLOEXEC);
    size_t body = 0, read = 0;
    char chunk[4096];
    int count;

    for (size_t at = 0; at < length; at += 8 + (size_t)bytes[at + 4] * 256 + bytes[at + 5] + bytes[at + 6])
        if (bytes[at + 1] == STDIN)
            body += (size_t)bytes[at + 4] * 256 + bytes[at + 5];
    assert_int_equal(write(file, bytes, length), length);
    assert_int_equal(lseek(file, 0, SEEK_SET), 0);
    FCGX_InitRequest(&request, -1, 0);
    request.ipcFd = file;
    request.keepConnection = 1;
    assert_int_equal(FCGX_Accept_r(&request), 0);
    assert_int_equal(FCGX_GetError(request.in), 0);
    assert_int_equal(request.role, RESPONDER);
    while ((count = FCGX_GetStr(chunk, sizeof(chunk), request.in)) > 0)
        read += (size_t)count;
    assert_int_equal(FCGX_GetError(request.in), 0);
    assert_true(FCGX_HasSeenEOF(request.in));
    assert_int_equal(read, body);
    request.detached = 1;
    FCGX_Free(&request, 1);
}

static void put_random_request(struct text *t)
{
    struct text pairs = {0};

    for (size_t i = below(6); i > 0; i--)
        put_pair(&pairs, below(4) ? below(12) : below(300), below(4) ? below(12) : below(300), below(3) == 0);
    put_request(t, &pairs, 1 + below(below(2) ? 8 : 600), below(3) ? 0 : below(256), below(40), 1 + below(20));
    text_free(&pairs);
}

static void damage(struct text *t)
{
    static const uint8_t odd[] = {0, 1, 2, 4, 5, 8, 9, 0x7f, 0x80, 0xff};

    for (size_t i = 1 + below(3); i > 0 && t->length > 1; i--) {
        size_t at = below(t->length), size = 1 + below(t->length - at);
        switch (below(6)) {
        case 0: /* in the header of the first records often */
            at = below(2) ? below(t->length < 40 ? t->length : 40) : at;
            t->bytes[at] = (char)odd[below(sizeof(odd))];
            break;
        case 1:
            t->bytes[at] = (char)below(256);
            break;
        case 2:
            t->bytes[at] = (char)(t->bytes[at] ^ 1 << below(8));
            break;
        case 3:
            memmove(t->bytes + at, t->bytes + at + size, t->length - at - size);
            t->length -= size;
            break;
        case 4:
            if (t->length > 4000)
                break;
            put_fill(t, 0, size);
            memmove(t->bytes + at + size, t->bytes + at, t->length - size - at);
            break;
        default:
            t->length = at;
        }
    }
}

static void test_random(void **state)
{
    (void)state;
    enum { ROUNDS = 200000 };
    size_t counts[3] = {0}, read = 0;

    seed = 7;
    assert_int_equal(FCGX_Init(), 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct text t = {0};
        if (below(20) == 0)
            for (size_t i = 1 + below(200); i > 0; i--)
                put_fill(&t, (int)below(256), 1);
        else
            put_random_request(&t);
        if (below(10) != 0)
            damage(&t);

        size_t used = 0, seen;
        enum records_state wanted = t.length ? check((uint8_t *)t.bytes, t.length, &used) : RECORDS_PART;
        enum records_state found = look(t.bytes, t.length, SIZE_MAX, &seen);
        if (found != wanted)
            fail_msg("round %d: %s instead of %s", round, names[found], names[wanted]);
        found = look(t.bytes, t.length, 0, &seen);
        if (found != wanted)
            fail_msg("round %d, in pieces: %s instead of %s", round, names[found], names[wanted]);
        if (wanted == RECORDS_WHOLE && round % 8 == 0) {
            read_by_libfcgi((uint8_t *)t.bytes, used);
            read++;
        }
        counts[wanted]++;
        text_free(&t);
    }
    print_message("%zu in part, %zu whole (%zu read by libfcgi), %zu bad\n", counts[RECORDS_PART],
                  counts[RECORDS_WHOLE], read, counts[RECORDS_BAD]);
    for (int i = 0; i < 3; i++)
        assert_true(counts[i] > ROUNDS / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_requests),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bad_begin),
        cmocka_unit_test(test_a_nul_in_a_parameter),
        cmocka_unit_test(test_bad_padding),
        cmocka_unit_test(test_bad_order),
        cmocka_unit_test(test_lengths_that_lie),
        cmocka_unit_test(test_limit_of_parameters),
        cmocka_unit_test(test_random),
    };
    seed = 1;
    return cmocka_run_group_tests_name("records", tests, NULL, NULL);
}
