/* A segment of the spool for tests, which include cmocka.h before. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "spool/segment.h"

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
