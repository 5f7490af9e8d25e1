/* `ticketd`: serves FastCGI, or the one request of a CGI process. The path of every event is receive() and answer():
 *
 *   readable connection → read → decode → submit … commit … verdict → answer → watched again
 *
 * Workers do the reading, decoding and answering, writers the committing or spooling, one thread brings spooled events
 * back; the main thread waits for signals. */
#include "serve/serve.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "commands/commands.h"
#include "event/decrypt.h"
#include "serve/dashboard.h"
#include "serve/supervise.h"
#include "serve/writers.h"
#include "store/store.h"
#include "web/answer.h"
#include "web/endpoints.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define QUEUE_BODIES 64 /* bodies of the largest size that may wait for their commit */

static bool is_allowed(struct server *server, const struct request *request)
{
    return auth_allows(server->auth, request_parameter(request, "QUERY_STRING"),
                       request_parameter(request, "HTTP_AUTHORIZATION"));
}

/* Makes an event of the body, whole or not. False: out of memory. */
static bool decode(struct server *server, const struct request *request, struct event *event, bool whole)
{
    if (whole)
        return decode_body(server->auth, request_parameter(request, "QUERY_STRING"), event);
    event_refuse(event, OUTCOME_BAD_REQUEST, "", request_problem(request));
    return true;
}

/* The first half of the path. OUTCOME_NONE: the event was submitted, to be set aside where it is refused; its verdict
 * will come. OUTCOME_PARKED: so will the answer to what is no event. OUTCOME_GONE: close the connection. Else `answer`
 * is written. */
static enum outcome receive(struct server *server, int slot, struct request *request, struct waiter *waiter,
                            struct text *answer)
{
    struct event *event = &waiter->event;
    size_t length = 0;

    event_init(event, NULL, 0);
    waiter->arrived = 0;
    if (!request_begin(request))
        return OUTCOME_GONE;
    enum outcome outcome = places_answer(server, request, waiter, answer);
    if (outcome != OUTCOME_NONE)
        return outcome;
    if (!is_allowed(server, request)) {
        outcome = OUTCOME_UNAUTHORIZED;
        request_discard(request);
    } else {
        outcome = request_read(request, (size_t)server->conf->max_body_kb * 1024);
    }
    if (outcome == OUTCOME_NONE || outcome == OUTCOME_BAD_REQUEST) {
        char *body = request_take_body(request, &length);
        event_init(event, body, length);
        queue_arrive(server->queue, slot, waiter);
        bool good = decode(server, request, event, outcome == OUTCOME_NONE);
        outcome = good ? queue_submit(server->queue, slot, waiter) : OUTCOME_UNAVAILABLE;
        if (!good)
            queue_withdraw(server->queue, slot);
    }
    if (outcome != OUTCOME_NONE) {
        event->outcome = outcome;
        answer_event(answer, event);
    }
    return outcome;
}

/* Counts a request that has its verdict, and logs it: what was refused for people, the rest for those who look closer.
 * The ids lead from the web server's log to the journal. */
static void note(const struct request *request, const struct waiter *waiter, enum outcome outcome)
{
    const struct event *event = &waiter->event;
    int status = outcome_status(outcome);
    enum log_level level = status == 200 ? LOG_DEBUG : LOG_WARNING;
    int64_t took = waiter->arrived ? clock_monotonic_us() - waiter->arrived : 0;
    char id[37] = "";

    if (status == 0)
        return;
    metrics_count(METRIC_REQUESTS, outcome);
    if (status == 200)
        metrics_count_event(METRIC_EVENTS, event->action, outcome);
    if (waiter->arrived)
        metrics_observe(METRIC_REQUEST_SECONDS, took);
    if (!log_shows(level))
        return;
    if (waiter->arrived)
        clock_uuid_text(event->id, id);
    log_line(level, outcome_word(outcome), LOG_NUMBER("status", status), LOG_TEXT("request", request_id(request)),
             LOG_TEXT("event", id), LOG_NUMBER("microseconds", took));
}

/* The second half: the answer goes out, the event is freed, the connection is watched for its next request. */
static void answer_and_watch(struct server *server, struct connection *connection, const struct text *answer)
{
    bool kept = request_answer(connection->request, answer, !atomic_load(&server->stopping));
    event_free(&connection->waiter.event);
    if (kept)
        connections_watch(server->connections, connection);
    else
        connections_close(server->connections, connection);
}

static void converse(struct server *server, int slot, struct connection *connection)
{
    struct text answer = {0};
    enum request_state state = request_look(connection->request, (size_t)server->conf->max_body_kb * 1024);

    if (state == REQUEST_NONE)
        connections_watch(server->connections, connection);
    if (state == REQUEST_PART)
        connections_wait_for_rest(server->connections, connection);
    if (state == REQUEST_GONE)
        connections_close(server->connections, connection);
    if (state != REQUEST_WHOLE)
        return;
    atomic_store(&server->asked_at, clock_monotonic_ms());
    enum outcome outcome = receive(server, slot, connection->request, &connection->waiter, &answer);
    switch (outcome) {
    case OUTCOME_NONE: /* it is no longer ours */
    case OUTCOME_PARKED:
        break;
    case OUTCOME_GONE:
        event_free(&connection->waiter.event);
        connections_close(server->connections, connection);
        break;
    default:
        note(connection->request, &connection->waiter, outcome);
        answer_and_watch(server, connection, &answer);
    }
    text_free(&answer);
}

static void answer_verdicts(struct server *server)
{
    struct waiter *waiter;

    queue_clear_verdicts_fd(server->queue);
    while ((waiter = queue_next_verdict(server->queue))) {
        struct connection *connection = waiter->owner;
        struct text answer = waiter->answer;
        waiter->answer = (struct text){0};
        if (!answer.length)
            answer_event(&answer, &waiter->event);
        note(connection->request, waiter, waiter->event.outcome);
        answer_and_watch(server, connection, &answer);
        text_free(&answer);
    }
}

static void *work(void *argument)
{
    struct thread *thread = argument;
    struct server *server = thread->server;
    struct connection *connection;

    for (;;) {
        atomic_store(&thread->passed_at, clock_monotonic_ms());
        switch (connections_wait(server->connections, &connection)) {
        case WAKE_LISTENER:
            connections_accept(server->connections);
            break;
        case WAKE_VERDICTS:
            answer_verdicts(server);
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
            return NULL;
        }
    }
}

/* As many descriptors as the connections need, and some for the rest, as far as the system lets us. */
static void raise_descriptors(const struct conf *conf)
{
    const rlim_t wanted = (rlim_t)conf->connections + 128;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted)
        log_line(LOG_WARNING,
                 "too few descriptors for TICKETD_CONNECTIONS: idle connections will be closed for new ones",
                 LOG_NUMBER("limit", (int64_t)limit.rlim_cur), LOG_NUMBER("wanted", (int64_t)wanted));
}

static void start(struct thread *thread, struct server *server, void *(*run)(void *argument), int number)
{
    *thread = (struct thread){.number = number, .server = server, .passed_at = clock_monotonic_ms()};
    if (pthread_create(&thread->id, NULL, run, thread) != 0) {
        log_line(LOG_ERROR, "cannot start a thread");
        exit(EXIT_FAILURE);
    }
}

static int serve_fastcgi(struct server *server, const sigset_t *signals)
{
    const struct conf *conf = server->conf;
    struct thread threads[64 + 32 + 2]; /* the most that conf.def allows */
    int count = 0, status = EXIT_FAILURE;

    log_limit();
    raise_descriptors(conf);
    server->connections = connections_new(conf->connections, server->listener.fd, queue_verdicts_fd(server->queue));
    if (!server->connections)
        goto out;
    for (int i = 0; i < conf->writers; i++)
        start(&threads[count++], server, writers_run, i);
    for (int i = 0; i < conf->workers; i++)
        start(&threads[count++], server, work, i);
    if (*conf->spool_dir)
        start(&threads[count++], server, writers_drain, 0);
    if (server->dashboard)
        start(&threads[count++], server, dashboard_run, 0);
    log_line(LOG_INFO, "serving FastCGI", LOG_TEXT("listen", conf->listen), LOG_NUMBER("workers", conf->workers),
             LOG_NUMBER("writers", conf->writers));
    supervise(server, threads + conf->writers, signals);
    status = EXIT_SUCCESS;
out:
    while (count > 0)
        pthread_join(threads[--count].id, NULL);
    log_tick(true);
    connections_free(server->connections);
    return status;
}

/* A batch of one, through the same functions. Fails only where nothing was answered. */
static int serve_cgi(struct server *server)
{
    struct request *request = request_open_cgi();
    struct writer *writer = writer_open(server, 0);
    struct waiter waiter = {0};
    struct text answer = {0};
    int status = EXIT_FAILURE;

    if (!request || !writer)
        goto out;
    if (strcmp(request_parameter(request, "REQUEST_METHOD"), "GET") == 0)
        writer_look(writer);
    enum outcome outcome = receive(server, 0, request, &waiter, &answer);
    switch (outcome) {
    case OUTCOME_NONE:
        if (writer_write(writer, 0) != 1)
            goto out;
        answer_event(&answer, &waiter.event);
        note(request, &waiter, waiter.event.outcome);
        break;
    case OUTCOME_GONE:
        goto out;
    default:
        note(request, &waiter, outcome);
    }
    (void)!request_answer(request, &answer, false);
    status = EXIT_SUCCESS;
out:
    text_free(&answer);
    event_free(&waiter.event);
    request_free(request);
    writer_close(writer);
    return status;
}

/* Finds or opens the socket. *cgi: there is none, the web server wants one request served. */
static bool find_socket(struct server *server, bool *cgi)
{
    const char *address = server->conf->listen;

    if (*address)
        return listener_open(&server->listener, address);
    if (listener_inherit(&server->listener))
        return true;
    *cgi = getenv("GATEWAY_INTERFACE");
    if (!*cgi)
        log_line(LOG_ERROR,
                 "no socket to listen on: set TICKETD_LISTEN, or start it by systemd, spawn-fcgi or a web server");
    return *cgi;
}

int command_serve(const struct conf *conf, int argc, char **argv)
{
    sigset_t signals;
    struct server server = {.conf = conf, .listener = {.fd = -1}};
    int status = EXIT_FAILURE;
    struct conf one = *conf;
    bool cgi = false;

    (void)argc;
    (void)argv;
    atomic_store(&server.stop_at, INT64_MAX);
    atomic_store(&server.stop_drain_at, INT64_MAX);
    sem_init(&server.stop_drain, 0, 0);
    if (!supervise_init(&signals))
        return EXIT_FAILURE;
    metrics_set(METRIC_START, clock_realtime_us());

    server.auth = auth_open(conf);
    server.spool = spool_open(conf);
    if (!server.auth || !server.spool)
        goto out;
    spool_prepare(server.spool); /* before anybody can connect */
    if (!find_socket(&server, &cgi))
        goto out;
    if (cgi) {
        one.batch = one.writers = one.workers = 1;
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR2, SIG_IGN);
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL); /* the web server may end it at any time */
        server.conf = &one;
    }
    server.queue = queue_new(server.conf->writers, server.conf->workers, conf->db_timeout_ms,
                             (size_t)conf->max_body_kb * 1024 * QUEUE_BODIES);
    if (conf->report)
        server.dashboard = dashboard_open(conf, &server.stop_at);
    if (server.queue && (server.dashboard || !conf->report))
        status = cgi ? serve_cgi(&server) : serve_fastcgi(&server, &signals);
out:
    dashboard_close(server.dashboard);
    queue_free(server.queue);
    spool_close(server.spool);
    auth_close(server.auth);
    listener_close(&server.listener);
    return status;
}
