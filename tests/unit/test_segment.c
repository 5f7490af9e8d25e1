/* A segment of the spool byte by byte: whatever is cut off, flipped or mixed in, what is whole comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failing_malloc.h"
#include "sample_segment.h"

static int file_of(const char *bytes, size_t length)
{
    int fd = memfd_create("segment", MFD_CLOEXEC);
    assert_int_equal(write(fd, bytes, length), length);
    return fd;
}

static int index_of(const struct event *event)
{
    int i = 0;
    while (i < RECORDS && (event->length != strlen(bodies[i]) || memcmp(event->body, bodies[i], event->length) != 0))
        i++;
    return i;
}

struct seen {
    bool found[RECORDS]; /* which records were there */
    int bad, torn;
};

/* Reads it all. A record that is none of ours fails the test. */
static struct seen read_segment(const char *bytes, size_t length)
{
    int fd = file_of(bytes, length);
    struct seen seen = {0};
    struct segment_reader reader;
    struct event event;
    enum segment_found what;

    assert_int_equal(segment_open(&reader, fd, (int64_t)length), SEGMENT_END);
    while ((what = segment_next(&reader, &event)) != SEGMENT_END) {
        assert_int_not_equal(what, SEGMENT_ERROR);
        seen.bad += what == SEGMENT_BAD;
        seen.torn += what == SEGMENT_TORN;
        if (what != SEGMENT_RECORD)
            continue;
        int i = index_of(&event);
        assert_in_range(i, 0, RECORDS - 1);
        seen.found[i] = true;
        assert_int_equal(event.refusal != OUTCOME_NONE, i % 2);
        assert_string_equal(event_reason(&event), i % 2 ? "/a is wrong" : "refused");
        event_free(&event);
    }
    close(fd);
    return seen;
}

static void test_records_come_back(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    struct text bytes = make_segment(ends);

    struct seen seen = read_segment(bytes.bytes, bytes.length);
    for (int i = 0; i < RECORDS; i++)
        assert_true(seen.found[i]);
    assert_int_equal(seen.bad + seen.torn, 0);
    text_free(&bytes);
}

/* Cut at every byte: whole records before it are there, and nothing is taken for a bad one. */
static void test_every_cut(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    struct text bytes = make_segment(ends);

    for (size_t length = SEGMENT_HEAD; length < bytes.length; length++) {
        bool at_end = length == SEGMENT_HEAD;
        struct seen seen = read_segment(bytes.bytes, length);
        for (int i = 0; i < RECORDS; i++) {
            assert_int_equal(seen.found[i], length >= ends[i]);
            at_end |= length == ends[i];
        }
        assert_int_equal(seen.bad, 0);
        assert_int_equal(seen.torn, at_end ? 0 : 1);
    }
    text_free(&bytes);
}

/* Every bit flipped: all records but that one are there, and no other comes out of it. */
static void test_every_flipped_bit(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    struct text bytes = make_segment(ends);

    for (size_t bit = SEGMENT_HEAD * 8; bit < bytes.length * 8; bit++) {
        bytes.bytes[bit / 8] ^= (char)(1 << bit % 8);
        struct seen seen = read_segment(bytes.bytes, bytes.length);
        for (int i = 0; i < RECORDS; i++)
            assert_int_equal(seen.found[i], bit / 8 >= ends[i] || (i > 0 ? bit / 8 < ends[i - 1] : false));
        assert_int_equal(seen.bad + seen.torn, 1);
        bytes.bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    text_free(&bytes);
}

/* A piece taken out anywhere, as by a process killed in mid-write before others went on. */
static void test_every_gap(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    struct text bytes = make_segment(ends);

    for (size_t from = ends[0] + 1; from < ends[1]; from++) {
        struct text holed = {0};
        text_append_bytes(&holed, bytes.bytes, from);
        text_append_bytes(&holed, bytes.bytes + ends[1], bytes.length - ends[1]);
        struct seen seen = read_segment(holed.bytes, holed.length);
        for (int i = 0; i < RECORDS; i++)
            assert_int_equal(seen.found[i], i != 1);
        assert_int_equal(seen.bad, 1);
        text_free(&holed);
    }
    text_free(&bytes);
}

/* Garbage longer than what is searched at once, with markers in it that head nothing, then records: wherever the next
 * head lies to the end of a piece. */
static void test_much_garbage(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    struct text bytes = make_segment(ends);

    for (size_t length = 65536 - 100; length < 65536 + 20; length++) {
        struct text holed = {0};
        text_append_bytes(&holed, bytes.bytes, ends[0]);
        while (holed.length < ends[0] + length)
            text_append_bytes(&holed, holed.length % 3 ? "x" : bytes.bytes + 16, holed.length % 3 ? 1 : SEGMENT_MARKER);
        text_append_bytes(&holed, bytes.bytes + ends[0], bytes.length - ends[0]);
        struct seen seen = read_segment(holed.bytes, holed.length);
        for (int i = 0; i < RECORDS; i++)
            assert_true(seen.found[i]);
        assert_int_equal(seen.bad, 1);
        text_free(&holed);
    }
    text_free(&bytes);
}

static void test_no_segments(void **state)
{
    (void)state;
    struct segment_reader reader;
    char bytes[100] = "something else than a segment, and longer than one";
    int fd = file_of(bytes, sizeof(bytes));

    assert_int_equal(segment_open(&reader, fd, sizeof(bytes)), SEGMENT_BAD);
    assert_int_equal(segment_open(&reader, fd, 0), SEGMENT_TORN);
    assert_int_equal(segment_open(&reader, fd, SEGMENT_HEAD - 1), SEGMENT_TORN);
    assert_int_equal(segment_open(&reader, fd, sizeof(bytes) + 1), SEGMENT_BAD);
    close(fd);
}

/* A file that is shorter than it was: what can be read is, and the rest is an error, never the end. */
static void test_a_file_that_became_shorter(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    struct text bytes = make_segment(ends);
    struct segment_reader reader;
    struct event event;

    for (size_t length = 0; length < bytes.length; length++) {
        int fd = file_of(bytes.bytes, length), count = 0, whole = 0;
        enum segment_found found = segment_open(&reader, fd, (int64_t)bytes.length);
        while (whole < RECORDS && ends[whole] <= length)
            whole++;
        if (length < SEGMENT_HEAD) {
            assert_int_equal(found, SEGMENT_ERROR);
        } else {
            assert_int_equal(found, SEGMENT_END);
            for (; (found = segment_next(&reader, &event)) == SEGMENT_RECORD; count++)
                event_free(&event);
            assert_int_equal(found, SEGMENT_ERROR);
        }
        assert_int_equal(errno, EIO);
        assert_int_equal(count, whole);
        close(fd);
    }
    /* Likewise where the next record is looked for. */
    bytes.bytes[SEGMENT_HEAD] ^= 1;
    int fd = file_of(bytes.bytes, ends[1]);
    assert_int_equal(segment_open(&reader, fd, (int64_t)bytes.length), SEGMENT_END);
    assert_int_equal(segment_next(&reader, &event), SEGMENT_ERROR);
    close(fd);
    text_free(&bytes);
}

/* At whichever allocation: the record, or an error and the same record the next time. */
static void test_reading_without_memory(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    struct text bytes = make_segment(ends);
    int fd = file_of(bytes.bytes, bytes.length);
    struct segment_reader reader;
    struct event event;

    assert_int_equal(segment_open(&reader, fd, (int64_t)bytes.length), SEGMENT_END);
    for (int i = 0; i < RECORDS; i++) {
        bool failed = true;
        for (long n = 0; failed; n++) {
            int64_t at = reader.at;
            fail_allocations_after(n);
            enum segment_found found = segment_next(&reader, &event);
            int error = errno;
            failed = stop_failing_allocations();
            assert_int_equal(found, failed ? SEGMENT_ERROR : SEGMENT_RECORD);
            if (failed) {
                assert_int_equal(error, ENOMEM);
                assert_int_equal(reader.at, at);
            } else {
                assert_int_equal(reader.at, ends[i]);
                event_free(&event);
            }
            assert_true(n < 10);
        }
    }
    close(fd);
    text_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_come_back),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_every_flipped_bit),
        cmocka_unit_test(test_every_gap),
        cmocka_unit_test(test_much_garbage),
        cmocka_unit_test(test_no_segments),
        cmocka_unit_test(test_a_file_that_became_shorter),
        cmocka_unit_test(test_reading_without_memory),
    };
    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
