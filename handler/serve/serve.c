/* The path of every event, as the workers go it; what is short one of them does alone:
 *
 *   readable connection → read → decode → submit … commit … verdict → answer → watched again */
#include "serve/serve.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "web/answer.h"
#include "web/endpoints.h"

#include <string.h>

#define SHORT 16384 /* bytes of a body or an answer: more may take long */

/* Livez, readyz, metrics and reports. */
static enum next answer_endpoint(struct server *server, enum endpoint endpoint, const char *query,
                                 struct waiter *waiter, struct text *answer)
{
    char away[256];

    switch (endpoint) {
    case ENDPOINT_REPORT:
        return dashboard_ask(server->dashboard, query, server->connections ? waiter : NULL, answer) ? ANSWER : WAIT;
    case ENDPOINT_READY:
        endpoints_answer_ready(answer, shared_readiness(&server->shared),
                               nodes_names(&server->shared.nodes, away, sizeof(away)));
        return ANSWER;
    case ENDPOINT_METRICS:
        endpoints_answer_metrics(answer);
        return ANSWER;
    default:
        endpoints_answer_live(answer);
        return ANSWER;
    }
}

/* What may take long is not done by the thread that others wait for. */
static void give_way(struct server *server, int slot)
{
    if (server->connections)
        connections_give_way(server->connections, slot);
}

/* Decodes the body and submits its event, whose verdict will come; a body that is no event too, to be set aside.
 * OUTCOME_NONE: submitted. */
static enum outcome submit(struct server *server, int slot, struct request *request, struct waiter *waiter, bool whole)
{
    struct event *event = &waiter->event;
    size_t length = 0;
    char *body = request_take_body(request, &length);
    const struct request_head *head = request_head(request);

    event_init(event, body, length);
    queue_arrive(server->queue, slot, waiter);
    if (length > SHORT || *head->content_encoding) /* what is small may unpack to much */
        give_way(server, slot);
    bool good = decrypt_keep(event, head->query, head->content_encoding);
    if (!whole)
        event_refuse(event, OUTCOME_BAD_REQUEST, "", request_problem(request));
    else
        good = good && decrypt_unpack(server->decrypt, event);
    queue_unpacked(server->queue, slot, waiter);
    good = good && decrypt_decode(server->decrypt, head->query, event);
    if (good)
        return queue_submit(server->queue, slot, waiter);
    queue_withdraw(server->queue, slot);
    return OUTCOME_UNAVAILABLE;
}

/* There is no memory for one more body: the event is left with what the answer says of it. */
static void refuse_for_memory(const struct conf *conf, struct event *event)
{
    struct event left = {.received_at = event->received_at};

    memcpy(left.id, event->id, sizeof(left.id));
    event_free(event);
    *event = left;
    event_refuse(event, OUTCOME_UNAVAILABLE, "", "the memory for waiting bodies is full");
    log_line_seldom(LOG_WARNING, "the memory for waiting bodies is full: events are answered 503",
                    LOG_NUMBER("bodies_of_the_largest_size", SERVE_BODIES),
                    LOG_NUMBER("largest_kb", conf->max_body_kb));
}

/* The first half of the path. */
enum next serve_receive(struct server *server, int slot, struct request *request, struct waiter *waiter,
                        struct text *answer)
{
    struct event *event = &waiter->event;

    event_init(event, NULL, 0);
    waiter->arrived = 0;
    if (!request_begin(request))
        return CLOSE;
    const struct request_head *head = request_head(request);
    enum endpoint endpoint = endpoints_find(head);
    const char *other_methods = endpoints_other_methods(endpoint, head->method);
    if (other_methods) {
        request_discard(request);
        event->outcome = OUTCOME_BAD_METHOD;
        answer_bad_method(answer, other_methods);
        return ANSWER;
    }
    if (endpoint != ENDPOINT_EVENTS) {
        request_discard(request);
        return answer_endpoint(server, endpoint, head->query, waiter, answer);
    }

    enum outcome outcome = OUTCOME_UNAUTHORIZED;
    if (auth_allows(server->auth, head->query, head->authorization))
        outcome = request_read(request, (size_t)server->conf->max_body_kb * 1024);
    else
        request_discard(request);
    if (outcome == OUTCOME_NONE || outcome == OUTCOME_BAD_REQUEST)
        outcome = submit(server, slot, request, waiter, outcome == OUTCOME_NONE);
    if (outcome == OUTCOME_NONE)
        return WAIT;
    if (outcome == OUTCOME_UNAVAILABLE)
        refuse_for_memory(server->conf, event);
    event->outcome = outcome;
    answer_event(answer, event);
    return ANSWER;
}

/* The ids lead from the web server's log to the journal. */
void serve_note(const struct request *request, const struct waiter *waiter)
{
    const struct event *event = &waiter->event;
    const struct request_head *head = request_head(request);
    enum outcome outcome = event->outcome;
    int status = outcome_status(outcome);
    enum log_level level = status == 200 ? LOG_DEBUG : LOG_WARNING;
    int64_t took = waiter->arrived ? clock_monotonic_us() - waiter->arrived : 0;
    char id[37] = "";

    if (outcome == OUTCOME_NONE) /* it was no event */
        return;
    metrics_count_request(outcome);
    if (status == 200)
        metrics_count_event(METRIC_EVENTS, event->action, outcome);
    if (waiter->arrived)
        metrics_observe(METRIC_REQUEST_SECONDS, took);
    if (!log_shows(level))
        return;
    if (waiter->arrived)
        clock_uuid_text(event->id, id);
    const struct log_pair pairs[] = {LOG_TEXT("msg", outcome_word(outcome)),
                                     LOG_NUMBER("status", status),
                                     LOG_TEXT("request", *head->request_id ? head->request_id : head->unique_id),
                                     LOG_TEXT("event", id),
                                     LOG_NUMBER("microseconds", took),
                                     {0, 0, 0}};
    (outcome == OUTCOME_TOO_LARGE ? log_pairs_seldom : log_pairs)(level, pairs);
}

/* The second half: the answer goes out, the event is freed, the connection is watched for its next request. */
static void answer_and_watch(struct server *server, int slot, struct connection *connection, const struct text *answer)
{
    struct waiter *waiter = &server->waiters[connection->number];

    if (answer->length > SHORT)
        give_way(server, slot);
    serve_note(connection->request, waiter);
    bool keep = !atomic_load(&server->shared.stopping) && !connections_wait_outside(server->connections);
    bool kept = request_answer(connection->request, answer, keep);
    event_free(&waiter->event);
    if (kept)
        connections_watch(server->connections, connection);
    else
        connections_close(server->connections, connection);
}

/* The parameters of a request are there before its body: whether that is wanted. serve_receive() says why not, once it
 * is read away: answered earlier, the rest of it could be taken for another request. */
static bool wants_body(const struct server *server, const struct request_head *head)
{
    enum endpoint endpoint = endpoints_find(head);

    return endpoint == ENDPOINT_EVENTS && !endpoints_other_methods(endpoint, head->method) &&
           auth_allows(server->auth, head->query, head->authorization);
}

static void converse(struct server *server, int slot, struct connection *connection)
{
    struct text answer = {0};
    const size_t max_body = (size_t)server->conf->max_body_kb * 1024;
    enum request_state state = request_look(connection->request, max_body);

    if (state == REQUEST_HEAD) {
        if (!wants_body(server, request_head(connection->request)))
            request_refuse(connection->request, OUTCOME_UNAUTHORIZED);
        state = request_look(connection->request, max_body);
    }
    if (state == REQUEST_NONE)
        connections_watch(server->connections, connection);
    if (state == REQUEST_PART)
        connections_wait_for_rest(server->connections, connection);
    if (state == REQUEST_GONE)
        connections_close(server->connections, connection);
    if (state != REQUEST_WHOLE)
        return;
    atomic_store(&server->shared.asked_at, clock_monotonic_ms());
    struct waiter *waiter = &server->waiters[connection->number];
    waiter->owner = connection;
    switch (serve_receive(server, slot, connection->request, waiter, &answer)) {
    case ANSWER:
        answer_and_watch(server, slot, connection, &answer);
        break;
    case WAIT:
        break;
    case CLOSE:
        connections_close(server->connections, connection);
    }
    text_free(&answer);
}

static void answer_verdicts(struct server *server, int slot)
{
    struct waiter *waiter;

    queue_clear_verdicts_fd(server->queue);
    while ((waiter = queue_next_verdict(server->queue))) {
        struct connection *connection = waiter->owner;
        struct text answer = waiter->answer;
        waiter->answer = (struct text){0};
        if (!answer.length)
            answer_event(&answer, &waiter->event);
        answer_and_watch(server, slot, connection, &answer);
        text_free(&answer);
    }
}

void *serve_work(void *argument)
{
    struct thread *thread = argument;
    struct server *server = thread->context;
    struct connection *connection;

    for (;;) {
        atomic_store(&thread->passed_at, clock_monotonic_ms());
        switch (connections_wait(server->connections, thread->number, &connection)) {
        case WAKE_LISTENER:
            connections_accept(server->connections);
            break;
        case WAKE_VERDICTS:
            answer_verdicts(server, thread->number);
            break;
        case WAKE_CLOCK:
            connections_close_stuck(server->connections);
            break;
        case WAKE_NOTHING:
            break;
        case WAKE_CONNECTION:
            converse(server, thread->number, connection);
            break;
        case WAKE_STOP:
            give_way(server, thread->number);
            return NULL;
        }
    }
}
