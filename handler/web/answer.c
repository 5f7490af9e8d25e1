/* The end of the path: what the sender gets to read. */
#include "web/answer.h"
#include "base/clock.h"

/* Seconds after which a sender may try again (RFC 9110 section 10.2.3). */
#define RETRY_AFTER 10

static const char *reason_phrase(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 422:
        return "Unprocessable Content";
    default:
        return "Service Unavailable";
    }
}

static void append_head(struct text *answer, int status, const char *content_type)
{
    text_append_format(answer, "Status: %d %s\r\n", status, reason_phrase(status));
    if (status == 503)
        text_append_format(answer, "Retry-After: %d\r\n", RETRY_AFTER);
    if (status == 401) /* RFC 9110 section 11.6.1 */
        text_append(answer, "WWW-Authenticate: Bearer\r\n");
    text_append_format(answer, "Content-Type: %s\r\nCache-Control: no-store\r\n", content_type);
}

static void append_problem(struct text *answer, enum outcome outcome)
{
    text_append_format(answer, "{\"type\":\"about:blank\",\"title\":");
    text_append_json(answer, outcome_word(outcome));
    text_append_format(answer, ",\"status\":%d", outcome_status(outcome));
}

void answer_event(struct text *answer, const struct event *event)
{
    int status = outcome_status(event->outcome);
    char id[37];

    clock_uuid_text(event->id, id);
    append_head(answer, status, status == 200 ? "application/json" : "application/problem+json");
    if (event->received_at) /* for the web server's access log */
        text_append_format(answer, "X-Event-Id: %s\r\n", id);
    if (status == 200) {
        text_append_format(answer, "\r\n{\"result\":\"%s\",\"event\":\"%s\"}\n", outcome_word(event->outcome), id);
        return;
    }

    text_append(answer, "\r\n");
    append_problem(answer, event->outcome);
    if (event->fault_count && event->outcome != OUTCOME_UNPROCESSABLE) {
        text_append(answer, ",\"detail\":");
        text_append_json(answer, event->faults[0].detail);
    } else if (event->fault_count) {
        text_append(answer, ",\"errors\":");
        for (size_t i = 0; i < event->fault_count; i++) {
            text_append(answer, i ? ",{\"pointer\":" : "[{\"pointer\":");
            text_append_json(answer, event->faults[i].pointer);
            text_append(answer, ",\"detail\":");
            text_append_json(answer, event->faults[i].detail);
            text_append(answer, "}");
        }
        text_append(answer, "]");
    }
    text_append(answer, "}\n");
}

void answer_bad_method(struct text *answer, const char *allowed)
{
    append_head(answer, 405, "application/problem+json");
    text_append_format(answer, "Allow: %s\r\n\r\n", allowed);
    append_problem(answer, OUTCOME_BAD_METHOD);
    text_append_format(answer, ",\"detail\":\"Use one of: %s\"}\n", allowed);
}

void answer_problem(struct text *answer, int status, const char *detail)
{
    append_head(answer, status, "application/problem+json");
    text_append_format(answer, "\r\n{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":",
                       reason_phrase(status), status);
    text_append_json(answer, detail);
    text_append(answer, "}\n");
}

void answer_head(struct text *answer, int status, const char *content_type)
{
    append_head(answer, status, content_type);
    text_append(answer, "\r\n");
}

void answer_json(struct text *answer, int status, const char *json)
{
    answer_head(answer, status, "application/json");
    text_append_format(answer, "%s\n", json);
}
