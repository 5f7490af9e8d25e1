/* A body and what is known about it. */
#include "event/event.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct field_info event_fields[FIELD_COUNT] = {
#define FIELD(name, column, type, meaning) {#name, #column, TYPE_##type, meaning},
#define ALIAS(name, column)
#include "event/fields.def"
#undef FIELD
#undef ALIAS
};

void event_init(struct event *event, char *body, size_t length)
{
    *event = (struct event){.body = body, .length = length, .allocation = body};
}

void event_keep(char kept[EVENT_SENT_WITH + 1], const char *text)
{
    size_t length = 0;

    while (text[length] >= ' ' && text[length] <= '~')
        length++;
    snprintf(kept, EVENT_SENT_WITH + 1, "%s", text[length] ? "" : text);
}

void event_free(struct event *event)
{
    for (size_t i = 0; i < event->fault_count; i++) {
        free(event->faults[i].pointer);
        free(event->faults[i].detail);
    }
    free(event->faults);
    free(event->reason);
    free(event->extra);
    free(event->text);
    free(event->allocation);
    free(event->sent);
    *event = (struct event){0};
}

enum field event_field_by_column(const char *column)
{
    for (int f = 0; f < FIELD_COUNT; f++)
        if (strcmp(event_fields[f].column, column) == 0)
            return (enum field)f;
    return FIELD_COUNT;
}

int64_t event_project(const struct event *event)
{
    const struct value *project = &event->values[FIELD_project_id];
    return project->presence == PRESENT ? project->number : 0;
}

/* Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators (2014), the finaliser of SplitMix64. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

unsigned event_lane(int64_t project, int64_t ticket, struct lanes lanes)
{
    return (unsigned)(mix(mix((uint64_t)project) + (lanes.by_project ? 0 : (uint64_t)ticket)) % lanes.count);
}

/* Copies at most EVENT_ECHO bytes. */
static char *copy_cut(const char *text)
{
    size_t length = text_cut(text, EVENT_ECHO);
    char *copy;

    if (!text[length])
        return strdup(text);
    return asprintf(&copy, "%.*s…", (int)length, text) < 0 ? NULL : copy;
}

/* One fault past EVENT_FAULTS is kept: it says that there were more. */
void event_refuse(struct event *event, enum outcome refusal, const char *pointer, const char *detail)
{
    event->refusal = refusal;
    if (event->fault_count > EVENT_FAULTS)
        return;
    bool full = event->fault_count == EVENT_FAULTS;
    struct fault *faults = realloc(event->faults, (event->fault_count + 1) * sizeof(*faults));
    if (!faults)
        return;
    event->faults = faults;
    struct fault fault = {copy_cut(full ? "" : pointer), copy_cut(full ? "has more faults than are listed" : detail)};
    if (fault.pointer && fault.detail) {
        faults[event->fault_count++] = fault;
    } else {
        free(fault.pointer);
        free(fault.detail);
    }
}

const char *event_reason(struct event *event)
{
    struct text reason = {0};

    for (size_t i = 0; !event->reason && i < event->fault_count; i++) {
        const struct fault *fault = &event->faults[i];
        text_append(&reason, i ? "; " : "");
        text_append(&reason, fault->pointer);
        text_append(&reason, *fault->pointer ? " " : "");
        text_append(&reason, fault->detail);
    }
    if (!event->reason && !reason.failed)
        event->reason = reason.bytes;
    else
        text_free(&reason);
    return event->reason ? event->reason : "refused";
}

const char *event_received(const struct event *event, size_t *length)
{
    if (event->sent && event->refusal != OUTCOME_NONE) {
        *length = event->sent_length;
        return event->sent;
    }
    *length = event->length + (size_t)(event->body - event->allocation);
    return event->allocation;
}
