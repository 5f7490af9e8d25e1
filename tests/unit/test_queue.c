/* Order, lanes, bounds and waits of the queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "failing_malloc.h"
#include "serve/queue.h"
#include "store/store.h"

#define SLOTS 3

static void set_ticket(struct waiter *waiter, int64_t ticket)
{
    waiter->event.values[FIELD_project_id].number = 1;
    waiter->event.values[FIELD_ticket_id].number = ticket;
    waiter->event.length = 100;
}

static int64_t clock_ahead; /* seconds */

int clock_gettime(clockid_t id, struct timespec *now)
{
    int status = (int)syscall(SYS_clock_gettime, id, now);
    now->tv_sec += id == CLOCK_REALTIME ? clock_ahead : 0;
    return status;
}

/* The event of a request that arrives while the clock is so many seconds ahead. */
static struct event arrive_at(struct queue *queue, int64_t seconds)
{
    struct waiter waiter = {0};

    clock_ahead = seconds;
    queue_arrive(queue, 0, &waiter);
    queue_withdraw(queue, 0);
    clock_ahead = 0;
    return waiter.event;
}

static void test_a_clock_that_is_set(void **state)
{
    (void)state;
    struct queue *queue = queue_new(1, SLOTS, 1000, 1000);
    int64_t began = clock_realtime_us();
    struct text said = {0};

    log_setup(LOG_INFO, LOG_LOGFMT);
    log_redirect(&said);
    struct event now = arrive_at(queue, 0), ahead = arrive_at(queue, 30), back = arrive_at(queue, 0);
    assert_true(back.received_at < began + 10000000);                                   /* not drawn along, */
    assert_true(memcmp(ahead.id, now.id, 16) > 0 && memcmp(back.id, ahead.id, 16) > 0); /* but in order */
    assert_false(said.length);

    ahead = arrive_at(queue, 3600);
    now = arrive_at(queue, 0);
    back = arrive_at(queue, 0);
    assert_true(memcmp(now.id, ahead.id, 16) < 0 && memcmp(back.id, now.id, 16) > 0);
    assert_non_null(strstr(said.bytes, "the clock jumped"));
    assert_non_null(strstr(said.bytes, "seconds=-3")); /* 3600, or a part of a second less */
    log_redirect(NULL);
    text_free(&said);
    queue_free(queue);
}

static void test_later_events_wait_for_earlier_ones(void **state)
{
    (void)state;
    struct queue *queue = queue_new(1, SLOTS, 1000, 1000);
    struct waiter first = {0}, second = {0}, *batch[4];

    set_ticket(&first, 7);
    set_ticket(&second, 7);
    queue_arrive(queue, 0, &first);
    queue_arrive(queue, 1, &second);
    assert_true(second.event.received_at >= first.event.received_at);
    assert_true(memcmp(second.event.id, first.event.id, 16) > 0);

    /* The second is decoded sooner: it must not be taken while the first is not. */
    assert_int_equal(queue_submit(queue, 1, &second), OUTCOME_NONE);
    assert_int_equal(queue_take(queue, 0, batch, 4, 10), 0);
    assert_int_equal(queue_submit(queue, 0, &first), OUTCOME_NONE);
    assert_int_equal(queue_take(queue, 0, batch, 4, 10), 2);
    assert_ptr_equal(batch[0], &first);
    assert_ptr_equal(batch[1], &second);

    /* A withdrawn event holds nobody back. */
    queue_arrive(queue, 0, &first);
    queue_arrive(queue, 1, &second);
    assert_int_equal(queue_submit(queue, 1, &second), OUTCOME_NONE);
    queue_withdraw(queue, 0);
    assert_int_equal(queue_take(queue, 0, batch, 4, 10), 1);

    /* Nor does a large body: it counts as one that waited. */
    first = second = (struct waiter){0};
    set_ticket(&first, 7);
    set_ticket(&second, 7);
    first.event.length = QUEUE_LARGE + 1;
    queue_arrive(queue, 0, &first);
    queue_arrive(queue, 1, &second);
    assert_true(first.event.waited && !second.event.waited);
    assert_int_equal(queue_submit(queue, 1, &second), OUTCOME_NONE);
    assert_int_equal(queue_take(queue, 0, batch, 4, 10), 1);
    assert_ptr_equal(batch[0], &second);

    /* Nor one that is large once it is unpacked. */
    first = second = (struct waiter){0};
    set_ticket(&second, 7);
    queue_arrive(queue, 0, &first);
    queue_arrive(queue, 1, &second);
    queue_unpacked(queue, 0, &first);
    assert_int_equal(queue_submit(queue, 1, &second), OUTCOME_NONE);
    assert_int_equal(queue_take(queue, 0, batch, 4, 10), 0);
    first.event.length = QUEUE_LARGE + 1;
    queue_unpacked(queue, 0, &first);
    assert_int_equal(queue_take(queue, 0, batch, 4, 10), 1);
    assert_true(first.event.waited && !second.event.waited);
    queue_free(queue);
}

static void test_bounds(void **state)
{
    (void)state;
    struct queue *queue = queue_new(1, SLOTS, 1000, 250);
    struct waiter waiters[3] = {0}, *batch[3];

    for (int i = 0; i < 3; i++) {
        set_ticket(&waiters[i], i);
        queue_arrive(queue, 0, &waiters[i]);
        assert_int_equal(queue_submit(queue, 0, &waiters[i]), i < 2 ? OUTCOME_NONE : OUTCOME_UNAVAILABLE);
    }
    assert_int_equal(queue_take(queue, 0, batch, 1, 10), 1);
    assert_int_equal(queue_take(queue, 0, batch + 1, 3, 10), 1);
    assert_null(queue_next_verdict(queue));
    queue_finish(queue, batch, 2);
    assert_ptr_equal(queue_next_verdict(queue), &waiters[0]);
    assert_ptr_equal(queue_next_verdict(queue), &waiters[1]);
    assert_null(queue_next_verdict(queue));

    queue_arrive(queue, 0, &waiters[2]);
    assert_int_equal(queue_submit(queue, 0, &waiters[2]), OUTCOME_NONE);
    queue_free(queue);
}

/* A batch ends before the event that would make it too large; one that is too large by itself is a batch. */
static void test_bytes_of_a_batch(void **state)
{
    (void)state;
    static const size_t lengths[] = {STORE_BATCH_BYTES - 1, 1, 1, STORE_BATCH_BYTES + 1, 1};
    enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };
    struct queue *queue = queue_new(1, SLOTS, 1000, SIZE_MAX);
    struct waiter waiters[COUNT] = {0}, *batch[COUNT];

    for (int i = 0; i < COUNT; i++) {
        set_ticket(&waiters[i], 1);
        waiters[i].event.length = lengths[i];
        queue_arrive(queue, 0, &waiters[i]);
        assert_int_equal(queue_submit(queue, 0, &waiters[i]), OUTCOME_NONE);
    }
    assert_int_equal(queue_take(queue, 0, batch, COUNT, 0), 2);
    assert_int_equal(queue_take(queue, 0, batch, COUNT, 0), 1);
    assert_int_equal(queue_take(queue, 0, batch, COUNT, 0), 1);
    assert_ptr_equal(batch[0], &waiters[3]);
    assert_int_equal(queue_take(queue, 0, batch, COUNT, 0), 1);
    queue_free(queue);
}

static void test_without_memory(void **state)
{
    (void)state;
    bool failed = true;

    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        struct queue *queue = queue_new(4, SLOTS, 1000, 1000);
        failed = stop_failing_allocations();
        assert_int_equal(!queue, failed);
        queue_free(queue);
        assert_true(n < 100);
    }
}

static void test_a_ticket_keeps_its_lane(void **state)
{
    (void)state;
    enum { LANES = 4, TICKETS = 400 };
    struct queue *queue = queue_new(LANES, SLOTS, 1000, 1000000);
    struct waiter *waiters = calloc(2 * TICKETS, sizeof(*waiters)), *batch[2 * TICKETS];

    for (int i = 0; i < 2 * TICKETS; i++) {
        set_ticket(&waiters[i], i % TICKETS);
        queue_arrive(queue, 0, &waiters[i]);
        assert_int_equal(queue_submit(queue, 0, &waiters[i]), OUTCOME_NONE);
    }
    for (int lane = 0; lane < LANES; lane++) {
        size_t count = queue_take(queue, lane, batch, 2 * TICKETS, 0);
        assert_in_range(count, 2 * TICKETS / LANES / 2, 2 * TICKETS / LANES * 2);
        for (size_t i = 0; i < count; i++) /* both events of a ticket, the first of them first */
            assert_true(batch[i] < waiters + TICKETS || batch[i] - TICKETS < batch[i]);
        assert_int_equal(count % 2, 0);
    }
    free(waiters);
    queue_free(queue);
}

static void test_wake_ends_the_wait(void **state)
{
    (void)state;
    struct queue *queue = queue_new(1, SLOTS, 1000, 1000);
    struct waiter *batch[1];

    int64_t start;
    for (int i = 0; i < 4; i++) { /* one of them goes over the end of a second */
        start = clock_monotonic_ms();
        assert_int_equal(queue_take(queue, 0, batch, 1, 260), 0);
        assert_true(clock_monotonic_ms() - start >= 259);
    }
    queue_wake(queue);
    start = clock_monotonic_ms();
    assert_int_equal(queue_take(queue, 0, batch, 1, 60000), 0);
    assert_true(clock_monotonic_ms() - start < 30000);
    queue_free(queue);
}

/* Several threads submit and one takes: each event comes out once, those of a ticket in the order of their time. */
enum { EACH = 2000 };

struct submitter {
    pthread_t thread;
    struct queue *queue;
    int slot;
    struct waiter *waiters;
};

static void *submit(void *argument)
{
    struct submitter *s = argument;
    for (int i = 0; i < EACH; i++) {
        queue_arrive(s->queue, s->slot, &s->waiters[i]);
        set_ticket(&s->waiters[i], i % 5);
        if (queue_submit(s->queue, s->slot, &s->waiters[i]) != OUTCOME_NONE)
            abort();
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct queue *queue = queue_new(1, SLOTS, 1000, SIZE_MAX);
    struct submitter submitters[SLOTS];
    struct waiter *batch[64];
    int64_t last = 0;

    for (int i = 0; i < SLOTS; i++) {
        submitters[i] = (struct submitter){.queue = queue, .slot = i, .waiters = calloc(EACH, sizeof(struct waiter))};
        pthread_create(&submitters[i].thread, NULL, submit, &submitters[i]);
    }
    for (size_t total = 0; total < (size_t)SLOTS * EACH;) {
        size_t count = queue_take(queue, 0, batch, 64, 1000);
        assert_true(count > 0);
        for (size_t i = 0; i < count; i++) {
            assert_true(batch[i]->turn > last);
            last = batch[i]->turn;
        }
        queue_finish(queue, batch, count);
        total += count;
    }
    for (int i = 0; i < SLOTS; i++) {
        pthread_join(submitters[i].thread, NULL);
        free(submitters[i].waiters);
    }
    queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_clock_that_is_set),
        cmocka_unit_test(test_later_events_wait_for_earlier_ones),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_bytes_of_a_batch),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_a_ticket_keeps_its_lane),
        cmocka_unit_test(test_wake_ends_the_wait),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
