/* The spool's files byte by byte, and the spool and the decoding when memory runs out. What it does with a database is
 * in tests/e2e/test_spool.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "failing_malloc.h"
#include "log.h"
#include "segment.h"
#include "spool.h"
#include "spool_files.h"

#define RECORDS 5

static const char *const bodies[RECORDS] = {"{}", "", "{\"action\":\"add\",\"ticket\":{}}", "\xff\xfe",
                                            "a longer one, to have some bytes"};

static void make_event(struct event *event, const char *body)
{
    event_init(event, strdup(body), strlen(body));
    event->received_at = clock_realtime_us();
    clock_uuid(event->id, event->received_at);
}

/* A segment with RECORDS records, each second one refused. ends[i]: where record i ends. */
static struct text make_segment(size_t ends[RECORDS])
{
    struct text bytes = {0};
    uint8_t marker[SEGMENT_MARKER];

    segment_begin(&bytes, marker);
    for (int i = 0; i < RECORDS; i++) {
        struct event event;
        make_event(&event, bodies[i]);
        if (i % 2)
            event_refuse(&event, OUTCOME_BAD_REQUEST, "/a", "is wrong");
        segment_append(&bytes, marker, &event);
        ends[i] = bytes.length;
        event_free(&event);
    }
    assert_false(bytes.failed);
    return bytes;
}

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

/* Reads it all; found[i]: record i was there. Returns how many records are none of ours. */
static int read_segment(const char *bytes, size_t length, bool found[RECORDS], int *bad, int *torn)
{
    int fd = file_of(bytes, length), strange = 0;
    struct segment_reader reader;
    struct event event;
    enum segment_found what;

    memset(found, 0, RECORDS * sizeof(*found));
    *bad = *torn = 0;
    assert_int_equal(segment_open(&reader, fd, (int64_t)length), SEGMENT_END);
    while ((what = segment_next(&reader, &event)) != SEGMENT_END) {
        assert_int_not_equal(what, SEGMENT_ERROR);
        *bad += what == SEGMENT_BAD;
        *torn += what == SEGMENT_TORN;
        if (what != SEGMENT_RECORD)
            continue;
        int i = index_of(&event);
        strange += i == RECORDS;
        if (i < RECORDS) {
            found[i] = true;
            assert_int_equal(event.refusal != OUTCOME_NONE, i % 2);
            assert_string_equal(event_reason(&event), i % 2 ? "/a is wrong" : "refused");
        }
        event_free(&event);
    }
    close(fd);
    return strange;
}

static void test_records_come_back(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    bool found[RECORDS];
    int bad, torn;
    struct text bytes = make_segment(ends);

    assert_int_equal(read_segment(bytes.bytes, bytes.length, found, &bad, &torn), 0);
    for (int i = 0; i < RECORDS; i++)
        assert_true(found[i]);
    assert_int_equal(bad + torn, 0);
    text_free(&bytes);
}

/* Cut at every byte: whole records before it are there, and nothing is taken for a bad one. */
static void test_every_cut(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    bool found[RECORDS];
    int bad, torn;
    struct text bytes = make_segment(ends);

    for (size_t length = SEGMENT_HEAD; length < bytes.length; length++) {
        bool at_end = length == SEGMENT_HEAD;
        assert_int_equal(read_segment(bytes.bytes, length, found, &bad, &torn), 0);
        for (int i = 0; i < RECORDS; i++) {
            assert_int_equal(found[i], length >= ends[i]);
            at_end |= length == ends[i];
        }
        assert_int_equal(bad, 0);
        assert_int_equal(torn, at_end ? 0 : 1);
    }
    text_free(&bytes);
}

/* Every bit flipped: all records but that one are there, and no other comes out of it. */
static void test_every_flipped_bit(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    bool found[RECORDS];
    int bad, torn;
    struct text bytes = make_segment(ends);

    for (size_t bit = SEGMENT_HEAD * 8; bit < bytes.length * 8; bit++) {
        bytes.bytes[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(read_segment(bytes.bytes, bytes.length, found, &bad, &torn), 0);
        for (int i = 0; i < RECORDS; i++)
            assert_int_equal(found[i], bit / 8 >= ends[i] || (i > 0 ? bit / 8 < ends[i - 1] : false));
        assert_int_equal(bad + torn, 1);
        bytes.bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    text_free(&bytes);
}

/* A piece taken out anywhere, as by a process killed in mid-write before others went on. */
static void test_every_gap(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    bool found[RECORDS];
    int bad, torn;
    struct text bytes = make_segment(ends);

    for (size_t from = ends[0] + 1; from < ends[1]; from++) {
        struct text holed = {0};
        text_append_bytes(&holed, bytes.bytes, from);
        text_append_bytes(&holed, bytes.bytes + ends[1], bytes.length - ends[1]);
        assert_int_equal(read_segment(holed.bytes, holed.length, found, &bad, &torn), 0);
        for (int i = 0; i < RECORDS; i++)
            assert_int_equal(found[i], i != 1);
        assert_int_equal(bad, 1);
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
    bool found[RECORDS];
    int bad, torn;
    struct text bytes = make_segment(ends);

    for (size_t length = 65536 - 100; length < 65536 + 20; length++) {
        struct text holed = {0};
        text_append_bytes(&holed, bytes.bytes, ends[0]);
        while (holed.length < ends[0] + length)
            text_append_bytes(&holed, holed.length % 3 ? "x" : bytes.bytes + 16, holed.length % 3 ? 1 : SEGMENT_MARKER);
        text_append_bytes(&holed, bytes.bytes + ends[0], bytes.length - ends[0]);
        assert_int_equal(read_segment(holed.bytes, holed.length, found, &bad, &torn), 0);
        for (int i = 0; i < RECORDS; i++)
            assert_true(found[i]);
        assert_int_equal(bad, 1);
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

/* ---- memory that runs out */

/* At whichever allocation: refused as unavailable, or decoded just as with enough of it. */
static void test_decoding_without_memory(void **state)
{
    (void)state;
    static const char *const samples[] = {
        "{\"action\":\"add\",\"ticket\":{\"projectId\":1,\"ticketId\":\"2\",\"title\":\"a\",\"z\":1,\"y\":{\"x\":[1,"
        "null]}}}",
        "{\"action\":\"add\",\"ticket\":{\"projectId\":1,\"ticketId\":\"2\",\"title\":\"\\u0000\"}}",
        "{\"action\":\"close\",\"ticket\":{\"ticketId\":1.5,\"title\":7,\"softDeadline\":\"2023-02-29\"}}",
        "{\"action\":",
        "\xff",
        "",
    };

    for (size_t s = 0; s < sizeof(samples) / sizeof(samples[0]); s++) {
        struct event whole;
        make_event(&whole, samples[s]);
        assert_true(event_decode(&whole));
        bool failed = true;
        for (long n = 0; failed; n++) {
            struct event event;
            make_event(&event, samples[s]);
            fail_allocations_after(n);
            bool good = event_decode(&event);
            failed = stop_failing_allocations();
            if (good) {
                assert_int_equal(event.refusal, whole.refusal);
                assert_int_equal(event.extra_count, whole.extra_count);
                assert_int_equal(event.values[FIELD_ticket_id].number, whole.values[FIELD_ticket_id].number);
            } else {
                assert_true(failed);
            }
            assert_string_not_equal(event_reason(&event), "");
            event_free(&event);
            assert_true(n < 1000);
        }
        event_free(&whole);
    }
}

/* Reads back how many records there are, each whole. */
static int records_in(const char *path)
{
    struct spool_contents contents;
    struct segment_reader reader;
    struct event event;
    struct stat status;
    const char *why;
    int count = 0, directory = spool_directory(path, &why);

    if (directory < 0)
        return 0;
    assert_true(spool_list(directory, &contents));
    for (size_t i = 0; i < contents.count; i++) {
        int fd = spool_segment(directory, contents.segments[i]);
        assert_int_equal(fstat(fd, &status), 0);
        assert_int_equal(segment_open(&reader, fd, status.st_size), SEGMENT_END);
        while (segment_next(&reader, &event) == SEGMENT_RECORD) {
            count++;
            event_free(&event);
        }
        assert_int_equal(reader.at, reader.size);
        close(fd);
    }
    spool_contents_free(&contents);
    close(directory);
    return count;
}

static void remove_spool(const char *path)
{
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

/* At whichever allocation: what was said to be spooled is there, and nothing unfinished beside it. */
static void test_appending_without_memory(void **state)
{
    (void)state;
    char folder[] = "/tmp/ticketd-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/spool", folder);
    struct conf conf = {.spool_dir = path, .spool_max_mb = 1};
    struct spool *spool = spool_open(&conf);
    int expected = 0;
    bool failed = true;

    log_setup(LOG_ERROR, LOG_LOGFMT);
    for (long n = 0; failed; n++) {
        struct event events[2], *pointers[2] = {&events[0], &events[1]};
        make_event(&events[0], "{}");
        make_event(&events[1], "[]");
        event_refuse(&events[1], OUTCOME_UNPROCESSABLE, "", "must be an object");
        fail_allocations_after(n);
        spool_append(spool, pointers, 2);
        failed = stop_failing_allocations();
        bool spooled = events[0].outcome == OUTCOME_SPOOLED;
        assert_int_equal(events[0].outcome, spooled ? OUTCOME_SPOOLED : OUTCOME_UNAVAILABLE);
        assert_int_equal(events[1].outcome, spooled ? OUTCOME_UNPROCESSABLE : OUTCOME_UNAVAILABLE);
        assert_true(spooled || failed);
        expected += spooled ? 2 : 0;
        assert_int_equal(records_in(path), expected);
        assert_int_equal(spool_holds(spool), expected > 0);
        event_free(&events[0]);
        event_free(&events[1]);
        assert_true(n < 1000);
    }
    assert_true(expected > 0);
    spool_close(spool);
    remove_spool(folder);
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
        cmocka_unit_test(test_decoding_without_memory),
        cmocka_unit_test(test_appending_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
