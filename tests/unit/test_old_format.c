/* The spool of ticketd 0.1.0 taken over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "spool_fixture.h"

static void append_old(struct text *bytes, const char *body, const char *reason)
{
    struct {
        char marker[8];
        uint8_t id[16];
        int64_t received_at, project;
        uint32_t reason_length, body_length, payload_crc, head_crc;
    } head = {.received_at = clock_realtime_us(), .project = *reason ? 3 : 0};
    memcpy(head.marker, "12345678", 8);
    clock_uuid(head.id, head.received_at);
    head.reason_length = (uint32_t)strlen(reason);
    head.body_length = (uint32_t)strlen(body);
    head.payload_crc =
        (uint32_t)crc32(crc32(0, (const Bytef *)reason, head.reason_length), (const Bytef *)body, head.body_length);
    head.head_crc = (uint32_t)crc32(0, (const Bytef *)&head, sizeof(head) - 4);
    text_append_bytes(bytes, (const char *)&head, sizeof(head));
    text_append(bytes, reason);
    text_append(bytes, body);
}

static void write_segment(const char *name, const char *bytes, size_t length)
{
    int fd = open(in_directory(name), O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), (ssize_t)length);
    close(fd);
}

static void test_the_old_format(void **state)
{
    (void)state;
    static const char body[] =
        "{\"action\":\"update\",\"ticket\":{\"projectId\":1,\"ticketId\":\"2\",\"title\":\"%d\"}}";
    struct text bytes = {0};
    struct event events[20];
    size_t ends[8];

    assert_int_equal(mkdir(directory, 0700), 0);
    text_append(&bytes, "ticketd spool 1\n12345678");
    for (int i = 0; i < 6; i++) {
        char text[200];
        snprintf(text, sizeof(text), body, i);
        append_old(&bytes, i == 3 ? "[1" : text, i == 3 ? "is not JSON" : "");
        ends[i] = bytes.length;
    }
    write_segment("20.segment", bytes.bytes, ends[2]);      /* whole: 0 to 2 */
    write_segment("100.segment", bytes.bytes, 24);          /* no record */
    write_segment("101.segment", bytes.bytes, 7);           /* a part of a head */
    write_segment("102.segment", bytes.bytes, ends[5] - 1); /* torn: the same, 3, 4 */
    bytes.bytes[ends[5] - 1] ^= 1;
    write_segment("105.segment", bytes.bytes, ends[5]); /* damaged in the last */
    bytes.bytes[ends[5] - 1] ^= 1;
    bytes.bytes[ends[4] - 5] ^= 1;
    write_segment("103.segment", bytes.bytes, ends[5]); /* damaged in 4, 5 is whole */
    write_segment("104.segment", "something else, and no segment", 30);
    write_segment("other", "x", 1);
    spool_prepare(spool);
    text_free(&bytes);

    assert_int_equal(events_in(spool), 6);
    size_t count = spool_take(spool, 0, LANES(1), events, 20, SIZE_MAX);
    assert_int_equal(count, 6);
    for (size_t i = 0, number = 0; i < count; i++) {
        char text[200];
        snprintf(text, sizeof(text), body, (int)number);
        if (events[i].refusal != OUTCOME_NONE) {
            assert_string_equal(events[i].body, "[1");
            assert_string_equal(event_reason(&events[i]), "is not JSON");
            assert_int_equal(event_project(&events[i]), 3);
        } else {
            assert_string_equal(events[i].body, text);
            assert_int_equal(events[i].values[FIELD_ticket_id].number, 2);
            number += number == 2 ? 2 : 1;
        }
        event_free(&events[i]);
    }
    struct event event;
    make_event(&event, 2, "", 0);
    event.values[FIELD_project_id].number = 1;
    assert_true(spool_waits(spool, &event));
    event_free(&event);
    assert_int_equal(files_aside(), 3);
    assert_int_equal(access(in_directory("105.bad"), F_OK), 0);
    assert_int_equal(access(in_directory("103.bad"), F_OK), 0);
    assert_int_equal(access(in_directory("104.bad"), F_OK), 0);
    assert_int_equal(access(in_directory("other"), F_OK), 0);
    assert_int_equal(access(in_directory("20.segment"), F_OK), -1);
    assert_int_equal(access(in_directory("102.segment"), F_OK), -1);
    assert_true(has_said("segment=103"));
    spool_prepare(spool);
    assert_int_equal(events_in(spool), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_old_format),
    };
    cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
