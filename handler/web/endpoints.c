/* Beside the path: requests that are no events. */
#include "web/endpoints.h"
#include "base/metrics.h"
#include "base/text.h"
#include "web/answer.h"

#include <stdio.h>
#include <string.h>

static const char *const endpoints[] = {
    [ENDPOINT_LIVE] = "livez",
    [ENDPOINT_READY] = "readyz",
    [ENDPOINT_METRICS] = "metrics",
    [ENDPOINT_REPORT] = "report.json",
};

enum endpoint endpoints_find(const struct request_head *head)
{
    const char *path = *head->uri ? head->uri : *head->path_info ? head->path_info : head->script_name;
    size_t end = strcspn(path, "?");

    end -= end > 0 && path[end - 1] == '/';
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    for (size_t i = ENDPOINT_EVENTS + 1; start > 0 && i < sizeof(endpoints) / sizeof(endpoints[0]); i++)
        if (strlen(endpoints[i]) == end - start && memcmp(path + start, endpoints[i], end - start) == 0)
            return (enum endpoint)i;
    return ENDPOINT_EVENTS;
}

const char *endpoints_other_methods(enum endpoint endpoint, const char *method)
{
    bool events = endpoint == ENDPOINT_EVENTS;

    if (strcmp(method, events ? "POST" : "GET") == 0 || strcmp(method, events ? "PUT" : "HEAD") == 0)
        return NULL;
    return events ? "POST, PUT" : "GET, HEAD";
}

void endpoints_answer_live(struct text *answer)
{
    answer_json(answer, 200, "{\"live\":true}");
}

void endpoints_answer_ready(struct text *answer, enum readiness readiness, const char *nodes_away)
{
    static const char *const states[] = {
        [NOT_READY] = "\"ready\":false",
        [READY_BY_DATABASE] = "\"ready\":true,\"by\":\"database\"",
        [READY_BY_SPOOL] = "\"ready\":true,\"by\":\"spool\"",
    };
    struct text json = {0}, detail = {0};

    if (metrics_value(METRIC_RELOAD_FAILED))
        text_append(&detail, RELOAD_FAILED);
    if (*nodes_away)
        text_append_format(&detail, "%scannot be written now: %s", detail.length ? "; " : "", nodes_away);
    text_append_format(&json, "{%s", states[readiness]);
    if (detail.length) {
        text_append(&json, ",\"detail\":");
        text_append_json(&json, detail.failed ? "out of memory" : detail.bytes);
    }
    text_free(&detail);
    text_append(&json, "}");
    answer_json(answer, readiness == NOT_READY ? 503 : 200, json.failed ? "{}" : json.bytes);
    text_free(&json);
}

void endpoints_answer_metrics(struct text *answer)
{
    answer_head(answer, 200, "text/plain; version=0.0.4; charset=utf-8");
    metrics_write(answer);
}
