/* Thousands of connections, a few threads, one epoll set. A connection is reported when bytes arrive (EPOLLET); while
 * it is busy, a thread's own, that is only noted. One thread, the leader, does what is short: several would wake each
 * other for a request that takes less than to wake up. Before what takes long it gives way to another. */
#include "web/connections.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define WAIT_MS        1000 /* a thread without work comes back this often, to show that it lives */
#define REPORTS        64   /* of epoll(7), taken at once */
#define NOBODY         -1
#define ACCEPT_AT_ONCE 16     /* then closed connections are removed, before idle ones are evicted for new ones */
#define STUCK_MS       5000   /* how long the next piece of a request may take */
#define WHOLE_MS       120000 /* and all of them */

enum state { FREE, IDLE, BUSY };

struct connections {
    int epoll_fd, stop_fd, clock_fd, listener_fd;
    pthread_mutex_t lock; /* of all below, but for what a busy connection holds */
    struct connection *all;
    int most, first_free;
    uint64_t turn;  /* counts connections that became idle */
    bool listening; /* the listener is watched */

    int leader, last_leader; /* a thread, or NOBODY */
    pthread_cond_t no_leader;
    bool waiting; /* the leader is in epoll_wait, and has all below but for `taken` */
    struct epoll_event reports[REPORTS];
    int count, next;
    uint64_t taken; /* reports, ever */
};

/* An epoll report holds the index and the generation, or one of the other wakes in the index. */
#define CONNECTION_TAG(index, generation) ((uint64_t)(generation) << 32 | ((uint32_t)(index) + WAKE_CONNECTION))

static bool watch(int epoll_fd, int operation, int fd, uint32_t events, uint64_t tag)
{
    struct epoll_event event = {.events = events, .data.u64 = tag};
    return epoll_ctl(epoll_fd, operation, fd, &event) == 0;
}

struct connections *connections_new(int most, int listener_fd, int verdicts_fd)
{
    struct connections *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    clock_condition_init(&c->no_leader);
    c->leader = c->last_leader = NOBODY;
    c->most = most;
    c->listener_fd = listener_fd;
    c->listening = true;
    c->epoll_fd = c->stop_fd = c->clock_fd = -1;
    c->all = calloc((size_t)most, sizeof(*c->all));
    for (int i = 0; c->all && i < most; i++)
        c->all[i] = (struct connection){.number = i, .next_free = i + 1};
    if (!c->all || (c->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0 || (c->stop_fd = eventfd(0, EFD_CLOEXEC)) < 0 ||
        (c->clock_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) < 0 ||
        timerfd_settime(c->clock_fd, 0, &(struct itimerspec){{1, 0}, {1, 0}}, NULL) != 0 ||
        !watch(c->epoll_fd, EPOLL_CTL_ADD, listener_fd, EPOLLIN, WAKE_LISTENER) ||
        !watch(c->epoll_fd, EPOLL_CTL_ADD, verdicts_fd, EPOLLIN | EPOLLET, WAKE_VERDICTS) ||
        !watch(c->epoll_fd, EPOLL_CTL_ADD, c->clock_fd, EPOLLIN | EPOLLET, WAKE_CLOCK) ||
        !watch(c->epoll_fd, EPOLL_CTL_ADD, c->stop_fd, EPOLLIN, WAKE_STOP)) {
        log_line(LOG_ERROR, "cannot watch the listening socket", LOG_TEXT("why", strerror(errno)));
        connections_free(c);
        return NULL;
    }
    return c;
}

void connections_free(struct connections *c)
{
    if (!c)
        return;
    for (int i = 0; c->all && i < c->most; i++)
        request_free(c->all[i].request);
    free(c->all);
    close(c->epoll_fd);
    close(c->stop_fd);
    close(c->clock_fd);
    pthread_cond_destroy(&c->no_leader);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Waits until the thread leads, for WAIT_MS at most. A leader that took no report in all that time is with something
 * that was thought to be short: it leads no more. Under the lock. */
static bool lead(struct connections *c, int thread)
{
    if (c->leader == thread)
        return true;
    struct timespec until = clock_monotonic_in(WAIT_MS);
    uint64_t taken = c->taken;
    int status = 0;

    while (c->leader != NOBODY && status == 0)
        status = pthread_cond_timedwait(&c->no_leader, &c->lock, &until);
    if (c->leader == NOBODY || (status != 0 && !c->waiting && c->taken == taken))
        c->leader = thread;
    return c->leader == thread;
}

/* Under the lock, but for the wait. */
static enum wake take_report(struct connections *c, struct connection **connection)
{
    for (;;) {
        if (c->next == c->count) {
            c->waiting = true;
            pthread_mutex_unlock(&c->lock);
            int count = epoll_wait(c->epoll_fd, c->reports, REPORTS, WAIT_MS);
            pthread_mutex_lock(&c->lock);
            c->waiting = false;
            c->next = 0;
            c->count = count > 0 ? count : 0;
            if (c->count == 0)
                return WAKE_NOTHING;
        }
        bool left = c->reports[c->next].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
        uint64_t tag = c->reports[c->next++].data.u64;
        uint32_t index = (uint32_t)tag;
        c->taken++;
        if (index < WAKE_CONNECTION)
            return (enum wake)index;
        *connection = &c->all[index - WAKE_CONNECTION];

        /* Its place may have been taken since the report was made. */
        bool current = (*connection)->generation == tag >> 32;
        if (current && (*connection)->state == IDLE) {
            (*connection)->state = BUSY;
            (*connection)->more = left; /* its end, which came with the request, is not reported again */
            return WAKE_CONNECTION;
        }
        if (current)
            (*connection)->more = true;
    }
}

enum wake connections_wait(struct connections *c, int thread, struct connection **connection)
{
    pthread_mutex_lock(&c->lock);
    enum wake wake = WAKE_NOTHING;
    if (lead(c, thread)) {
        bool changed = c->last_leader != thread && c->last_leader != NOBODY;
        c->last_leader = thread;
        wake = changed ? WAKE_VERDICTS : take_report(c, connection); /* which the last one may have left */
    }
    pthread_mutex_unlock(&c->lock);
    return wake;
}

void connections_give_way(struct connections *c, int thread)
{
    pthread_mutex_lock(&c->lock);
    if (c->leader == thread) {
        c->leader = NOBODY;
        pthread_cond_signal(&c->no_leader);
    }
    pthread_mutex_unlock(&c->lock);
}

/* Whether bytes wait to be read, and no end behind them. */
static bool has_unread(const struct connection *connection)
{
    struct pollfd socket = {.fd = connection->fd, .events = POLLIN};
    return poll(&socket, 1, 0) > 0 && socket.revents == POLLIN;
}

/* Not where a request is begun that is wanted, or one that nobody has begun to read. */
static bool may_go(const struct connection *connection)
{
    return connection->state == IDLE &&
           !(connection->part ? request_is_wanted(connection->request) : has_unread(connection));
}

/* Closes the connection that is idle longest, for another one. NULL: all are at work, or will be. Under the lock. */
static struct connection *evict(struct connections *c)
{
    struct connection *oldest = NULL;
    for (int i = 0; i < c->most; i++)
        if ((!oldest || c->all[i].idle_since < oldest->idle_since) && may_go(&c->all[i]))
            oldest = &c->all[i];
    if (oldest) {
        request_free(oldest->request);
        oldest->request = NULL;
        metrics_add(METRIC_CONNECTIONS, -1);
    }
    return oldest;
}

/* A free place, or that of the connection that is idle longest. NULL: there is none. Under the lock. */
static struct connection *find_place(struct connections *c)
{
    if (c->first_free < c->most) {
        struct connection *place = &c->all[c->first_free];
        c->first_free = place->next_free;
        return place;
    }
    return evict(c);
}

static void give_back(struct connections *c, struct connection *place)
{
    place->next_free = c->first_free;
    c->first_free = place->number;
    place->state = FREE;
}

static void start(struct connections *c, struct connection *place, int fd)
{
    place->request = request_open(fd);
    place->fd = fd;
    place->generation++;
    place->idle_since = ++c->turn;
    place->state = IDLE;
    place->more = place->part = false;
    uint64_t tag = CONNECTION_TAG(place->number, place->generation);
    if (place->request && watch(c->epoll_fd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, tag)) {
        metrics_add(METRIC_CONNECTIONS, 1);
        return;
    }
    if (!place->request)
        close(fd);
    request_free(place->request);
    place->request = NULL;
    give_back(c, place);
}

/* Under the lock. */
static void accept_waiting(struct connections *c, int most)
{
    struct pollfd listener = {.fd = c->listener_fd, .events = POLLIN};

    while (most-- > 0 && c->listening && poll(&listener, 1, 0) > 0) {
        struct connection *place = find_place(c);
        if (!place) {
            log_line(LOG_WARNING, "all connections are at work: new ones wait (TICKETD_CONNECTIONS)",
                     LOG_NUMBER("connections", c->most));
            c->listening = false;
            watch(c->epoll_fd, EPOLL_CTL_MOD, c->listener_fd, 0, WAKE_LISTENER);
            return;
        }
        int fd = accept4(c->listener_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            start(c, place, fd);
            continue;
        }
        bool exhausted = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
        give_back(c, place);
        if (exhausted && (place = evict(c))) {
            give_back(c, place); /* its descriptor is free for the next try */
            continue;
        }
        if (exhausted) {
            log_line(LOG_ERROR, "cannot accept a connection", LOG_TEXT("why", strerror(errno)));
            poll(NULL, 0, 10); /* the listener stays readable: do not spin on it */
        }
        return;
    }
}

void connections_accept(struct connections *c)
{
    pthread_mutex_lock(&c->lock);
    accept_waiting(c, ACCEPT_AT_ONCE);
    pthread_mutex_unlock(&c->lock);
}

static void listen_again(struct connections *c)
{
    c->listening = true;
    watch(c->epoll_fd, EPOLL_CTL_MOD, c->listener_fd, EPOLLIN, WAKE_LISTENER);
}

/* What came while it was busy, or was not read yet, is reported now. */
static void report_again(struct connections *c, struct connection *connection)
{
    uint64_t tag = CONNECTION_TAG(connection->number, connection->generation);
    watch(c->epoll_fd, EPOLL_CTL_MOD, connection->fd, EPOLLIN | EPOLLRDHUP | EPOLLET, tag);
}

static void make_idle(struct connections *c, struct connection *connection, bool part)
{
    /* Under the lock, for once idle its place may be taken, and the descriptor be another connection's. */
    pthread_mutex_lock(&c->lock);
    if (!part)
        connection->idle_since = ++c->turn;
    int64_t now = clock_monotonic_ms();
    if (!connection->part)
        connection->part_began = now;
    connection->part_since = now;
    connection->part = part;
    connection->state = IDLE;
    if (connection->more || part)
        report_again(c, connection);
    connection->more = false;
    if (!c->listening && c->listener_fd >= 0)
        listen_again(c); /* there is one that can give way now */
    pthread_mutex_unlock(&c->lock);
}

void connections_watch(struct connections *c, struct connection *connection)
{
    make_idle(c, connection, false);
}

void connections_wait_for_rest(struct connections *c, struct connection *connection)
{
    make_idle(c, connection, true);
}

/* Under the lock. */
static void end_connection(struct connections *c, struct connection *connection)
{
    request_free(connection->request);
    connection->request = NULL;
    metrics_add(METRIC_CONNECTIONS, -1);
    give_back(c, connection);
    if (!c->listening && c->listener_fd >= 0)
        listen_again(c);
}

void connections_close(struct connections *c, struct connection *connection)
{
    request_free(connection->request); /* busy, so nobody else has it: others need not wait for its end */
    connection->request = NULL;
    pthread_mutex_lock(&c->lock);
    end_connection(c, connection);
    pthread_mutex_unlock(&c->lock);
}

void connections_close_stuck(struct connections *c)
{
    int64_t now = clock_monotonic_ms();
    uint64_t ignored;

    (void)!read(c->clock_fd, &ignored, sizeof(ignored));
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < c->most; i++) {
        struct connection *connection = &c->all[i];
        if (connection->state != IDLE)
            continue;
        bool unread = has_unread(connection);
        if (unread && !connection->part) /* it came with the request before it, and is not reported otherwise */
            report_again(c, connection);
        if (connection->part &&
            ((!unread && now - connection->part_since > STUCK_MS) || now - connection->part_began > WHOLE_MS))
            end_connection(c, connection);
    }
    pthread_mutex_unlock(&c->lock);
}

void connections_stop_listening(struct connections *c)
{
    pthread_mutex_lock(&c->lock);
    accept_waiting(c, c->most);
    c->listening = false;
    epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, c->listener_fd, NULL);
    c->listener_fd = -1;
    pthread_mutex_unlock(&c->lock);
}

bool connections_wait_outside(struct connections *c)
{
    pthread_mutex_lock(&c->lock);
    bool wait = !c->listening;
    pthread_mutex_unlock(&c->lock);
    return wait;
}

int connections_open(struct connections *c)
{
    int count = 0;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < c->most; i++)
        count += c->all[i].state != FREE;
    pthread_mutex_unlock(&c->lock);
    return count;
}

int connections_in_flight(struct connections *c)
{
    int count = 0;
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < c->most; i++) {
        int state = c->all[i].state;
        count += state == BUSY || (state == IDLE && !may_go(&c->all[i]));
    }
    pthread_mutex_unlock(&c->lock);
    return count;
}

void connections_stop(struct connections *c)
{
    eventfd_write(c->stop_fd, 1);
}
