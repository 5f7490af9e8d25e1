/* The input is a body. Whatever it is, it is an event or is refused with a reason, never both; it is kept as it came; a
 * second time the same comes of it; and the answer to it is JSON. */
#include "fuzz.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "base/text.h"
#include "event/event.h"
#include "web/answer.h"

#define MOST_US   INT64_C(253402300800000000) /* 10000-01-01T00:00:00Z */
#define LEAST_US  INT64_C(-62135596800000000) /* 0001-01-01T00:00:00Z */
#define OFFSET_US INT64_C(57600000000)        /* the offset of a time may take it so far out of these years */

static bool is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + strlen(text);
    size_t step = 1;

    for (; at < end && step > 0; at += step)
        step = text_utf8(at, (size_t)(end - at));
    return step > 0;
}

static struct event decode(const uint8_t *bytes, size_t length)
{
    struct event event;
    char *body = malloc(length + 1);

    require(body);
    memcpy(body, bytes, length);
    body[length] = '\0';
    event_init(&event, body, length);
    require(event_decode(&event));
    return event;
}

static void check_body(const struct event *event, const uint8_t *bytes, size_t length)
{
    size_t received_length;
    const char *received = event_received(event, &received_length);

    require(received_length == length);
    require(memcmp(received, bytes, length) == 0);
    require(received[length] == '\0');
}

static void check_decoded(const struct event *event)
{
    require(event->fault_count == 0);
    require(event->action <= ACTION_DELETE);
    for (int f = 0; f < FIELD_COUNT; f++) {
        const struct value *value = &event->values[f];
        enum field_type type = event_fields[f].type;
        require(type != TYPE_KEY || value->presence == PRESENT);
        require((value->text != NULL) == (type == TYPE_TEXT && value->presence == PRESENT));
        if (value->text) {
            require(strlen(value->text) == value->length);
            require(is_utf8(value->text));
        }
        if (type == TYPE_TIME && value->presence == PRESENT)
            require(value->number >= LEAST_US - OFFSET_US && value->number <= MOST_US + OFFSET_US);
    }
    for (size_t i = 0; i < event->extra_count; i++) {
        require(is_utf8(event->extra[i]));
        require(i == 0 || strcmp(event->extra[i - 1], event->extra[i]) < 0);
    }
}

static void check_refused(struct event *event)
{
    require(event->refusal == OUTCOME_BAD_REQUEST || event->refusal == OUTCOME_UNPROCESSABLE);
    require(event->fault_count > 0);
    require(event->extra_count == 0);
    for (size_t i = 0; i < event->fault_count; i++) {
        require(is_utf8(event->faults[i].pointer));
        require(is_utf8(event->faults[i].detail));
        require(*event->faults[i].detail);
    }
    for (int f = 0; f < FIELD_COUNT; f++)
        require(f == FIELD_project_id || event->values[f].presence == ABSENT);
    require(*event_reason(event));
}

static void check_answer(struct event *event)
{
    struct text answer = {0};

    event->outcome = event->refusal == OUTCOME_NONE ? OUTCOME_INSERTED : event->refusal;
    answer_event(&answer, event);
    require(!answer.failed);
    const char *body = strstr(answer.bytes, "\r\n\r\n");
    require(body && is_utf8(body));
    cJSON *root = cJSON_ParseWithLengthOpts(body, strlen(body) + 1, NULL, true);
    require(root);
    cJSON_Delete(root);
    text_free(&answer);
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void check_same(const struct event *a, const struct event *b)
{
    require(a->refusal == b->refusal && a->action == b->action);
    require(a->fault_count == b->fault_count && a->extra_count == b->extra_count);
    for (size_t i = 0; i < a->fault_count; i++) {
        require(same_text(a->faults[i].pointer, b->faults[i].pointer));
        require(same_text(a->faults[i].detail, b->faults[i].detail));
    }
    for (size_t i = 0; i < a->extra_count; i++)
        require(same_text(a->extra[i], b->extra[i]));
    for (int f = 0; f < FIELD_COUNT; f++) {
        require(a->values[f].presence == b->values[f].presence && a->values[f].number == b->values[f].number);
        require(same_text(a->values[f].text, b->values[f].text));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct event event = decode(bytes, length), again = decode(bytes, length);

    check_body(&event, bytes, length);
    if (event.refusal == OUTCOME_NONE)
        check_decoded(&event);
    else
        check_refused(&event);
    check_same(&event, &again);
    check_answer(&event);
    event_free(&event);
    event_free(&again);
    return 0;
}
