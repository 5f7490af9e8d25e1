/* Beside the path: requests that are no events, told by the last segment of their path. */
#include "web/endpoints.h"
#include "base/metrics.h"
#include "serve/dashboard.h"
#include "web/answer.h"

#include <string.h>

static enum outcome answer_live(struct server *server, const struct request *request, struct waiter *waiter,
                                struct text *answer)
{
    (void)server;
    (void)request;
    (void)waiter;
    answer_json(answer, 200, "{\"live\":true}");
    return OUTCOME_PLACE;
}

static enum outcome answer_ready(struct server *server, const struct request *request, struct waiter *waiter,
                                 struct text *answer)
{
    int readiness = atomic_load(&server->stopping) ? NOT_READY : atomic_load(&server->readiness);

    (void)request;
    (void)waiter;

    if (readiness == NOT_READY)
        answer_json(answer, 503, "{\"ready\":false}");
    else if (readiness == READY_BY_DATABASE)
        answer_json(answer, 200, "{\"ready\":true,\"by\":\"database\"}");
    else
        answer_json(answer, 200, "{\"ready\":true,\"by\":\"spool\"}");
    return OUTCOME_PLACE;
}

static enum outcome answer_metrics(struct server *server, const struct request *request, struct waiter *waiter,
                                   struct text *answer)
{
    (void)server;
    (void)request;
    (void)waiter;
    answer_head(answer, 200, "text/plain; version=0.0.4; charset=utf-8");
    metrics_write(answer);
    return OUTCOME_PLACE;
}

static const struct place {
    const char *name;
    enum outcome (*answer)(struct server *server, const struct request *request, struct waiter *waiter,
                           struct text *answer);
} places[] = {
    {"livez", answer_live},
    {"readyz", answer_ready},
    {"metrics", answer_metrics},
    {"report.json", dashboard_ask},
};

/* REQUEST_URI without its query, or what CGI has in its place. NULL: none of them. */
static const struct place *find(const struct request *request)
{
    const char *path = request_parameter(request, "REQUEST_URI");

    if (!*path)
        path = request_parameter(request, "PATH_INFO");
    if (!*path)
        path = request_parameter(request, "SCRIPT_NAME");
    size_t length = strcspn(path, "?");
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        size_t size = strlen(places[i].name);
        if (length > size && path[length - size - 1] == '/' && memcmp(path + length - size, places[i].name, size) == 0)
            return &places[i];
    }
    return NULL;
}

enum outcome places_answer(struct server *server, struct request *request, struct waiter *waiter, struct text *answer)
{
    const char *method = request_parameter(request, "REQUEST_METHOD");
    const struct place *place = find(request);

    if (!place && (strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0))
        return OUTCOME_NONE;
    request_discard(request);
    if (!place || (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)) {
        answer_bad_method(answer, place ? "GET, HEAD" : "POST, PUT");
        return OUTCOME_BAD_METHOD;
    }
    return place->answer(server, request, waiter, answer);
}
