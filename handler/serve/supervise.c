/* Beside the path: what the administrator and the service manager have to say, and to be told. */
#include "serve/supervise.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS        1000
#define STOP_MS        8000 /* after SIGTERM: for what is in flight */
#define STOP_FORCED_MS 1000 /* then, for what is left to be answered 503 */
#define LAST_MS        1000 /* of the former, for requests on connections that the web server keeps */
#define QUIET_MS       100  /* when none came for so long, none is on its way */

/* -- what the service manager is told: the datagrams of sd_notify(3), without libsystemd --------------------------- */

struct notify {
    int fd; /* -1: NOTIFY_SOCKET is not set, there is nobody to tell */
    struct sockaddr_un address;
    socklen_t length;
    int64_t watchdog_ms; /* WATCHDOG_USEC; 0: there is no watchdog, or it is not ours. From 3 s on it is of use */
};

/* sd_watchdog_enabled(3): WATCHDOG_PID says whose duty it is; without it, it is ours. */
static int64_t watchdog_ms(void)
{
    const char *microseconds = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (!microseconds || (pid && atol(pid) != (long)getpid()))
        return 0;
    int64_t milliseconds = atoll(microseconds) / 1000;
    return milliseconds > 0 ? milliseconds : 0;
}

/* Reads NOTIFY_SOCKET (a path, or @ and a name of the abstract namespace), WATCHDOG_USEC and WATCHDOG_PID. Where these
 * are no good it logs so and stays silent: the service itself works. */
static void notify_open(struct notify *notify)
{
    const char *name = getenv("NOTIFY_SOCKET");
    size_t length = name ? strlen(name) : 0;

    *notify = (struct notify){.fd = -1, .address = {.sun_family = AF_UNIX}};
    if (length == 0)
        return;
    if ((*name != '/' && *name != '@') || length >= sizeof(notify->address.sun_path)) {
        log_line(LOG_WARNING, "the service manager is not told anything: bad NOTIFY_SOCKET", LOG_TEXT("value", name));
        return;
    }
    strcpy(notify->address.sun_path, name);
    if (*name == '@')
        notify->address.sun_path[0] = '\0';
    /* unix(7): the name of an abstract socket has no NUL at its end, that of a path has. */
    notify->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (*name == '/'));
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify->fd < 0)
        log_line(LOG_WARNING, "the service manager is not told anything", LOG_TEXT("why", strerror(errno)));
    else
        notify->watchdog_ms = watchdog_ms();
}

static void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

/* Sends `state`, for instance "READY=1". A datagram that cannot be sent is lost: the manager's time-outs tell. */
static void notify_say(const struct notify *notify, const char *state)
{
    if (notify->fd >= 0)
        (void)!sendto(notify->fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&notify->address,
                      notify->length);
}

/* RELOADING=1 with the time, which `notify_say(…, "READY=1")` must follow. */
static void notify_reloading(const struct notify *notify)
{
    struct timespec now;
    char state[64];

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    notify_say(notify, state);
}

/* -- signals ------------------------------------------------------------------------------------------------------- */

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

/* Whether each worker has come back for work within `milliseconds`. Writers are not asked: to wait for a slow database
 * is their duty, and they have their own deadlines. */
static bool workers_live(const struct supervised *all, int64_t milliseconds)
{
    int64_t limit = clock_monotonic_ms() - milliseconds;
    for (int i = 0; i < all->worker_count; i++)
        if (atomic_load(&all->workers[i].passed_at) < limit)
            return false;
    return true;
}

static void reload(const struct supervised *all, const struct notify *notify)
{
    notify_reloading(notify);
    bool good = auth_reload(all->auth);
    good &= decrypt_reload(all->decrypt);
    if (good)
        log_line(LOG_INFO, "tokens and keys were read again",
                 LOG_NUMBER("tokens", (int64_t)auth_token_count(all->auth)),
                 LOG_NUMBER("keys", (int64_t)decrypt_key_count(all->decrypt)));
    else
        log_line(LOG_ERROR, RELOAD_FAILED);
    metrics_set(METRIC_RELOAD_FAILED, !good);
    notify_say(notify, good ? "READY=1\nSTATUS=" : "READY=1\nSTATUS=" RELOAD_FAILED);
}

static void wait_for_the_end(const struct supervised *all, const sigset_t *signals, const struct notify *notify)
{
    static const struct timespec tick = {.tv_sec = TICK_MS / 1000};
    int signal = 0;

    while (signal != SIGTERM && signal != SIGINT) {
        signal = sigtimedwait(signals, NULL, &tick);
        if (signal == SIGHUP)
            reload(all, notify);
        if (signal == SIGUSR1 || signal == SIGUSR2)
            log_change_level(signal == SIGUSR1 ? 1 : -1);
        if (notify->watchdog_ms && workers_live(all, notify->watchdog_ms))
            notify_say(notify, "WATCHDOG=1");
        malloc_trim(0); /* of itself glibc gives back little of what large bodies took */
        log_tick(false);
    }
}

/* A connection is closed behind its next answer, so that the web server makes a new one, which waits in the socket for
 * our successor. One that is closed just as the web server sends on it would cost the sender a 503. */
static void wait_for_last_requests(const struct supervised *all)
{
    int64_t until = clock_monotonic_ms() + LAST_MS;

    for (;;) {
        int64_t now = clock_monotonic_ms();
        bool quiet =
            now - atomic_load(&all->shared->asked_at) > QUIET_MS && connections_in_flight(all->connections) == 0;
        if (quiet || now >= until || connections_open(all->connections) == 0)
            return;
        clock_sleep_ms(2);
    }
}

/* Waits until nothing is in flight, at most `milliseconds`. */
static void wait_for_answers(const struct supervised *all, int milliseconds)
{
    int64_t until = clock_monotonic_ms() + milliseconds;
    while (connections_in_flight(all->connections) > 0 && clock_monotonic_ms() < until)
        clock_sleep_ms(5);
}

static void stop(const struct supervised *all)
{
    log_line(LOG_INFO, "stopping: finishing what is in flight");
    atomic_store(&all->shared->stopping, true);
    connections_stop_listening(all->connections);
    listener_close(all->listener);
    wait_for_last_requests(all);
    wait_for_answers(all, STOP_MS - LAST_MS);
    atomic_store(&all->shared->stop_at, clock_monotonic_ms());
    wait_for_answers(all, STOP_FORCED_MS);
    connections_stop(all->connections);
    atomic_store(&all->shared->stopped, true);
    queue_wake(all->queue);
    dashboard_wake(all->dashboard);
}

void supervise(const struct supervised *all, const sigset_t *signals)
{
    struct notify notify;

    notify_open(&notify);
    notify_say(&notify, "READY=1");
    wait_for_the_end(all, signals, &notify);
    notify_say(&notify, "STOPPING=1");
    notify_close(&notify);
    stop(all);
}
