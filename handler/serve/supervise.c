/* Beside the path: what the administrator and the service manager have to say, and to be told. */
#include "serve/supervise.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/dashboard.h"
#include "serve/notify.h"

#include <time.h>

#define TICK_MS        1000
#define STOP_MS        8000 /* after SIGTERM: for what is in flight */
#define STOP_FORCED_MS 1000 /* then, for what is left to be answered 503 */
#define LAST_MS        1000 /* of the former, for requests on connections that the web server keeps */
#define QUIET_MS       100  /* when none came for so long, none is on its way */

bool supervise_init(sigset_t *signals)
{
    static const int wanted[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

    sigemptyset(signals);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        sigaddset(signals, wanted[i]);
    pthread_sigmask(SIG_BLOCK, signals, NULL);

    bool good = request_library_init();
    signal(SIGTERM, SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    return good;
}

static void sleep_ms(int64_t milliseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = milliseconds * 1000000}, NULL);
}

/* Whether each worker has come back for work within `milliseconds`. Writers are not asked: to wait for a slow database
 * is their duty, and they have their own deadlines. */
static bool workers_live(const struct server *server, const struct thread *workers, int64_t milliseconds)
{
    int64_t limit = clock_monotonic_ms() - milliseconds;
    for (int i = 0; i < server->conf->workers; i++)
        if (atomic_load(&workers[i].passed_at) < limit)
            return false;
    return true;
}

static void reload(struct server *server, const struct notify *notify)
{
    notify_reloading(notify);
    auth_reload(server->auth);
    notify_say(notify, "READY=1");
}

static void wait_for_the_end(struct server *server, const struct thread *workers, const sigset_t *signals,
                             const struct notify *notify)
{
    static const struct timespec tick = {.tv_sec = TICK_MS / 1000};
    int signal = 0;

    while (signal != SIGTERM && signal != SIGINT) {
        signal = sigtimedwait(signals, NULL, &tick);
        if (signal == SIGHUP)
            reload(server, notify);
        if (signal == SIGUSR1 || signal == SIGUSR2)
            log_change_level(signal == SIGUSR1 ? 1 : -1);
        if (notify->watchdog_ms && workers_live(server, workers, notify->watchdog_ms))
            notify_say(notify, "WATCHDOG=1");
        log_tick(false);
    }
}

/* A connection is closed behind its next answer, so that the web server makes a new one, which waits in the socket for
 * our successor. One that is closed just as the web server sends on it would cost the sender a 503. */
static void wait_for_last_requests(struct server *server)
{
    int64_t until = clock_monotonic_ms() + LAST_MS;

    for (;;) {
        int64_t now = clock_monotonic_ms();
        bool quiet = now - atomic_load(&server->asked_at) > QUIET_MS && connections_in_flight(server->connections) == 0;
        if (quiet || now >= until || connections_open(server->connections) == 0)
            return;
        sleep_ms(2);
    }
}

/* Waits until nothing is in flight, at most `milliseconds`. */
static void wait_for_answers(struct server *server, int milliseconds)
{
    int64_t until = clock_monotonic_ms() + milliseconds;
    while (connections_in_flight(server->connections) > 0 && clock_monotonic_ms() < until)
        sleep_ms(5);
}

static void stop(struct server *server)
{
    log_line(LOG_INFO, "stopping: finishing what is in flight");
    atomic_store(&server->stopping, true);
    connections_stop_listening(server->connections);
    listener_close(&server->listener);
    atomic_store(&server->stop_drain_at, clock_monotonic_ms());
    sem_post(&server->stop_drain);
    wait_for_last_requests(server);
    wait_for_answers(server, STOP_MS - LAST_MS);
    atomic_store(&server->stop_at, clock_monotonic_ms());
    wait_for_answers(server, STOP_FORCED_MS);
    connections_stop(server->connections);
    atomic_store(&server->stopped, true);
    queue_wake(server->queue);
    dashboard_wake(server->dashboard);
}

void supervise(struct server *server, const struct thread *workers, const sigset_t *signals)
{
    struct notify notify;

    notify_open(&notify);
    notify_say(&notify, "READY=1");
    wait_for_the_end(server, workers, signals, &notify);
    notify_say(&notify, "STOPPING=1");
    notify_close(&notify);
    stop(server);
}
