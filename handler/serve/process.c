/* `ticketd`: the process that serves FastCGI, or the one request of a CGI process. Workers read, decode and answer;
 * writers commit, spool, and bring back what was spooled; the main thread waits for signals. */
#include "serve/process.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "serve/serve.h"
#include "serve/supervise.h"
#include "serve/writers.h"
#include "web/answer.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

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

static void start_thread(struct thread *thread, void *context, void *(*run)(void *argument), int number)
{
    *thread = (struct thread){.number = number, .context = context, .passed_at = clock_monotonic_ms()};
    if (pthread_create(&thread->id, NULL, run, thread) != 0) {
        log_line(LOG_ERROR, "cannot start a thread");
        exit(EXIT_FAILURE);
    }
}

static int serve_fastcgi(struct server *server, const sigset_t *signals)
{
    const struct conf *conf = server->conf;
    struct writers writers = {conf, server->queue, server->spool, &server->shared};
    struct thread threads[64 + 32 + 2]; /* the most that conf.def allows */
    int count = 0, status = EXIT_FAILURE;

    log_limit();
    raise_descriptors(conf);
    server->waiters = calloc((size_t)conf->connections, sizeof(*server->waiters));
    server->connections = connections_new(conf->connections, server->listener.fd, queue_verdicts_fd(server->queue));
    if (!server->waiters || !server->connections)
        goto out;
    for (int i = 0; i < conf->writers; i++)
        start_thread(&threads[count++], &writers, writers_run, i);
    const struct thread *workers = &threads[count];
    for (int i = 0; i < conf->workers; i++)
        start_thread(&threads[count++], server, serve_work, i);
    if (server->dashboard)
        start_thread(&threads[count++], server->dashboard, dashboard_run, 0);
    log_line(LOG_INFO, "serving FastCGI", LOG_TEXT("listen", conf->listen), LOG_NUMBER("workers", conf->workers),
             LOG_NUMBER("writers", conf->writers));
    supervise(&(struct supervised){server->auth, server->decrypt, &server->listener, server->connections, server->queue,
                                   server->dashboard, &server->shared, workers, conf->workers},
              signals);
    status = EXIT_SUCCESS;
out:
    while (count > 0)
        pthread_join(threads[--count].id, NULL);
    spool_remove_empty(server->spool);
    log_tick(true);
    for (int i = 0; server->waiters && i < conf->connections; i++)
        event_free(&server->waiters[i].event);
    free(server->waiters);
    connections_free(server->connections);
    return status;
}

/* A batch of one, through the same functions. Fails only where nothing was answered. */
static int serve_cgi(struct server *server)
{
    const struct writers writers = {server->conf, server->queue, server->spool, &server->shared};
    struct request *request = request_open_cgi();
    struct writer *writer = writer_open(&writers, 0);
    struct waiter waiter = {0};
    struct text answer = {0};
    int status = EXIT_FAILURE;
    const char *method = getenv("REQUEST_METHOD");

    if (!request || !writer)
        goto out;
    if (method && strcmp(method, "GET") == 0)
        writer_look(writer);
    enum next next = serve_receive(server, 0, request, &waiter, &answer);
    if (next == CLOSE)
        goto out;
    while (next == WAIT && writer_write(writer, server->conf->db_timeout_ms) == 0)
        if (writer_held(writer) == 0)
            goto out;
    if (next == WAIT)
        answer_event(&answer, &waiter.event);
    serve_note(request, &waiter);
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
    atomic_store(&server.shared.stop_at, INT64_MAX);
    if (!supervise_init(&signals))
        return EXIT_FAILURE;
    metrics_set(METRIC_START, clock_realtime_us());

    server.auth = auth_open(conf);
    server.decrypt = server.auth ? decrypt_open(conf) : NULL;
    server.spool = spool_open(conf);
    if (!server.decrypt || !server.spool)
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
                             (size_t)conf->max_body_kb * 1024 * SERVE_BODIES);
    if (conf->report && server.queue)
        server.dashboard = dashboard_open(conf, server.queue, &server.shared);
    if (server.queue && (server.dashboard || !conf->report))
        status = cgi ? serve_cgi(&server) : serve_fastcgi(&server, &signals);
out:
    dashboard_close(server.dashboard);
    queue_free(server.queue);
    spool_close(server.spool);
    decrypt_close(server.decrypt);
    auth_close(server.auth);
    listener_close(&server.listener);
    return status;
}
