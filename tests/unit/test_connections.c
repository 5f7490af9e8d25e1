/* The places for connections: who waits, who gives way, and what happens when the system has no more to give. Whole
 * requests over many connections are in tests/e2e. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "descriptors.h"
#include "failing_malloc.h"
#include "standard_error.h"
#include "web/connections.h"

/* A listening socket with an address of the kernel's choice, and what connects to it. */
struct fixture {
    int listener, verdicts;
    struct sockaddr_un address;
    socklen_t size;
    struct connections *connections;
};

static void begin(struct fixture *f, int places)
{
    *f = (struct fixture){.address.sun_family = AF_UNIX, .size = sizeof(f->address)};
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&f->address, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(f->listener, 64), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&f->address, &f->size), 0);
    f->verdicts = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->connections = connections_new(places, f->listener, f->verdicts);
    assert_non_null(f->connections);
}

static void end(struct fixture *f)
{
    connections_free(f->connections);
    close(f->listener);
    close(f->verdicts);
}

/* A peer that has sent something. */
static int join(const struct fixture *f)
{
    int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(peer, (const struct sockaddr *)&f->address, f->size), 0);
    assert_int_equal(write(peer, "x", 1), 1);
    return peer;
}

static bool was_closed(int peer)
{
    char byte;
    ssize_t count = recv(peer, &byte, 1, MSG_DONTWAIT);
    return count == 0 || (count < 0 && errno == ECONNRESET); /* reset: it left something unread */
}

/* What there is to do next but for the clock; WAKE_CLOCK: nothing, for as long as that takes. */
static enum wake next_wake(struct fixture *f, struct connection **connection)
{
    enum wake wake = WAKE_CLOCK;
    for (int ticks = 0; wake == WAKE_CLOCK && ticks < 2; ticks++) {
        do
            wake = connections_wait(f->connections, 0, connection);
        while (wake == WAKE_NOTHING);
        if (wake == WAKE_CLOCK)
            connections_close_stuck(f->connections);
    }
    return wake;
}

/* What a request's reader does. */
static void read_all(const struct connection *connection)
{
    char bytes[9];
    assert_true(read(connection->fd, bytes, sizeof(bytes)) > 0);
}

/* Accepts who waits; the one connection that has sent something is busy then. */
static struct connection *take_one(struct fixture *f)
{
    struct connection *connection = NULL;
    assert_int_equal(next_wake(f, &connection), WAKE_LISTENER);
    connections_accept(f->connections);
    assert_int_equal(next_wake(f, &connection), WAKE_CONNECTION);
    return connection;
}

/* Where all are at work the next one waits, without a thread turning round it, and comes in as soon as one ends or has
 * nothing to do. */
static void test_all_at_work(void **state)
{
    (void)state;
    struct fixture f;
    struct connection *connection;

    for (int closes = 0; closes < 2; closes++) {
        begin(&f, 1);
        int first = join(&f);
        connection = take_one(&f);
        int second = join(&f);
        assert_int_equal(next_wake(&f, &connection), WAKE_LISTENER);
        connections_accept(f.connections);
        assert_int_equal(next_wake(&f, &connection), WAKE_CLOCK);
        assert_int_equal(connections_in_flight(f.connections), 1);
        assert_false(was_closed(first));

        connections_watch(f.connections, connection); /* a request waits in it */
        connections_accept(f.connections);
        assert_true(connections_wait_outside(f.connections));
        assert_false(was_closed(first));
        assert_int_equal(write(first, "y", 1), 1);
        assert_int_equal(next_wake(&f, &connection), WAKE_CONNECTION);
        read_all(connection);
        if (closes)
            connections_close(f.connections, connection);
        else
            connections_watch(f.connections, connection);
        take_one(&f);
        assert_true(was_closed(first));
        assert_false(was_closed(second));
        end(&f);
        close(first);
        close(second);
    }
}

/* Without descriptors an idle connection makes room, as often as it takes; where none is idle the new one waits. */
static void test_descriptors_run_out(void **state)
{
    (void)state;
    struct fixture f;
    struct connection *connection, *busy;

    begin(&f, 10);
    int first = join(&f);
    busy = take_one(&f);
    int second = join(&f);

    assert_int_equal(next_wake(&f, &connection), WAKE_LISTENER);
    struct rlimit before = leave_descriptors(0);
    connections_accept(f.connections);
    assert_int_equal(connections_in_flight(f.connections), 1);
    read_all(busy);
    connections_watch(f.connections, busy);
    connections_accept(f.connections);
    setrlimit(RLIMIT_NOFILE, &before);

    assert_true(was_closed(first));
    assert_false(was_closed(second));
    assert_int_equal(next_wake(&f, &connection), WAKE_CONNECTION);
    assert_int_equal(connections_in_flight(f.connections), 1);

    /* No place was lost on the way. */
    int peers[9];
    for (int i = 0; i < 9; i++)
        peers[i] = join(&f);
    connections_accept(f.connections);
    assert_int_equal(connections_in_flight(f.connections), 10);
    for (int i = 0; i < 9; i++) {
        assert_false(was_closed(peers[i]));
        close(peers[i]);
    }
    end(&f);
    close(first);
    close(second);
}

/* The leader's work is done by another thread as soon as it gives way, or once it did not come back for a second. */
static void test_who_leads(void **state)
{
    (void)state;
    struct fixture f;
    struct connection *connection;
    int64_t least = INT64_MAX;

    begin(&f, 21);
    for (int i = 0; i < 20; i++) {
        int peer = join(&f), thread = i % 2;
        if (i == 0)
            connection = take_one(&f); /* as thread 0 */
        connections_accept(f.connections);
        connections_give_way(f.connections, 2); /* it does not lead */
        connections_give_way(f.connections, thread);
        int64_t began = clock_monotonic_ms();
        assert_int_not_equal(connections_wait(f.connections, !thread, &connection), WAKE_NOTHING);
        int64_t took = clock_monotonic_ms() - began;
        least = took < least ? took : least;
        close(peer);
    }
    assert_true(least < 500);

    int peer = join(&f);
    int64_t began = clock_monotonic_ms();
    assert_int_not_equal(connections_wait(f.connections, 1, &connection), WAKE_NOTHING);
    assert_true(clock_monotonic_ms() - began >= 900);
    end(&f);
    close(peer);
}

/* Who waits at the listener when it closes is served; who comes later is not. */
static void test_stop_listening(void **state)
{
    (void)state;
    struct fixture f;
    struct connection *connection;
    int peers[40];

    begin(&f, 40);
    for (int i = 0; i < 40; i++)
        peers[i] = join(&f);
    connections_stop_listening(f.connections);
    assert_int_equal(connections_in_flight(f.connections), 40);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(next_wake(&f, &connection), WAKE_CONNECTION);
        connections_close(f.connections, connection);
    }
    int late = join(&f);
    assert_int_equal(next_wake(&f, &connection), WAKE_CLOCK);
    connections_stop(f.connections);
    assert_int_equal(next_wake(&f, &connection), WAKE_STOP);
    assert_int_equal(next_wake(&f, &connection), WAKE_STOP);
    end(&f);
    for (int i = 0; i < 40; i++)
        close(peers[i]);
    close(late);
}

static void test_what_cannot_be_watched(void **state)
{
    (void)state;
    int count = open_descriptors();
    assert_null(connections_new(1, -1, -1));
    assert_int_equal(open_descriptors(), count);
    connections_free(NULL);
}

/* Whichever descriptor of its own it does not get, the log says why, and none stays open. */
static void test_too_few_descriptors(void **state)
{
    (void)state;
    struct connections *connections = NULL;
    int verdicts = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    for (int more = 0; !connections; more++) {
        char text[1000];
        int file = memfd_create("errors", MFD_CLOEXEC), error = redirect(file);
        int count = open_descriptors();
        struct rlimit before = leave_descriptors(more);
        connections = connections_new(1, ends[0], verdicts);
        setrlimit(RLIMIT_NOFILE, &before);
        put_back(error);
        read_back(file, text, sizeof(text));
        if (!connections) {
            assert_non_null(strstr(text, strerror(EMFILE)));
            assert_int_equal(open_descriptors(), count - 2); /* the file and what was put back */
        }
        assert_true(more < 10);
    }
    connections_free(connections);
    close(verdicts);
    close(ends[0]);
    close(ends[1]);
}

/* At whichever allocation: the connection is there, or closed and its place free. */
static void test_without_memory(void **state)
{
    (void)state;
    struct fixture f;
    struct connection *connection;
    bool failed = true;

    begin(&f, 1);
    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        struct connections *other = connections_new(3, f.listener, f.verdicts);
        failed = stop_failing_allocations();
        assert_int_equal(!other, failed);
        connections_free(other);
    }
    failed = true;
    for (long n = 0; failed; n++) {
        int count = open_descriptors(), peer = join(&f);
        assert_int_equal(next_wake(&f, &connection), WAKE_LISTENER);
        fail_allocations_after(n);
        connections_accept(f.connections);
        failed = stop_failing_allocations();
        assert_int_equal(was_closed(peer), failed);
        assert_int_equal(connections_in_flight(f.connections), !failed);
        close(peer);
        if (failed)
            assert_int_equal(open_descriptors(), count);
    }
    end(&f);
}

/* A request in two pieces is kept in memory meanwhile: where there is none the peer is sent away. */
static void test_a_part_without_memory(void **state)
{
    (void)state;
    bool failed = true;

    for (long n = 0; failed; n++) {
        int ends[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        struct request *request = request_open(ends[0]);
        assert_int_equal(request_look(request, 1024), REQUEST_NONE);
        assert_int_equal(write(ends[1], "\1\1\0", 3), 3); /* a version and a type */
        fail_allocations_after(n);
        enum request_state found = request_look(request, 1024);
        failed = stop_failing_allocations();
        assert_int_equal(found, failed ? REQUEST_GONE : REQUEST_PART);
        if (!failed) {
            assert_int_equal(request_look(request, 1024), REQUEST_PART);
            assert_int_equal(write(ends[1], "\0\0\0", 3), 3); /* no identifier */
            assert_int_equal(write(ends[1], "\0\0", 2), 2);
            assert_int_equal(request_look(request, 1024), REQUEST_GONE);
        }
        request_free(request);
        assert_true(was_closed(ends[1]));
        close(ends[1]);
    }
}

int main(void)
{
    log_setup(LOG_ERROR, LOG_LOGFMT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_at_work),         cmocka_unit_test(test_descriptors_run_out),
        cmocka_unit_test(test_stop_listening),      cmocka_unit_test(test_what_cannot_be_watched),
        cmocka_unit_test(test_without_memory),      cmocka_unit_test(test_a_part_without_memory),
        cmocka_unit_test(test_too_few_descriptors), cmocka_unit_test(test_who_leads),
    };
    return cmocka_run_group_tests_name("connections", tests, NULL, NULL);
}
