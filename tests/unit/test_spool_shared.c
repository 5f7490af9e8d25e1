/* A spool that several processes and threads share, some of which are killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "spool_fixture.h"

static void test_two_see_each_other(void **state)
{
    (void)state;
    struct spool *other = spool_open(&conf);

    assert_false(waits(spool, 1)); /* from now on it is known that nothing waits */
    assert_int_equal(append_short(other, 1), OUTCOME_SPOOLED);
    assert_true(waits(other, 1));
    clock_sleep_ms(20);
    assert_true(waits(spool, 1));
    assert_true(spool_begin_drain(spool));
    assert_true(spool_begin_drain(spool));
    assert_false(spool_begin_drain(other));
    assert_int_equal(drain(spool, 10, true), 1);
    clock_sleep_ms(20);
    assert_false(waits(spool, 2));
    assert_int_equal(append_short(spool, 2), OUTCOME_SPOOLED);
    assert_true(waits(spool, 2)); /* at once */
    spool_end_drain(spool);
    assert_true(spool_begin_drain(other));
    spool_close(other);
    assert_true(spool_begin_drain(spool));
}

#define APPENDERS 3
#define NUMBERS   60000

enum { ANSWERED = 1, TAKEN = 2, FORGOTTEN = 4 };

static struct shared {
    _Atomic int next[APPENDERS];
    _Atomic unsigned char marks[APPENDERS][NUMBERS];
    _Atomic int last[APPENDERS][4], doubled, disordered;
} * shared;

static void append_without_end(int who)
{
    struct spool *own = spool_open(&conf);
    struct event events[7], *pointers[7];

    for (;;) {
        int from = atomic_fetch_add(&shared->next[who], 7), count = from % 3 + 1;
        if (from + 7 > NUMBERS)
            pause();
        for (int i = 0; i < count; i++) {
            make_numbered(&events[i], who * 10 + (from + i) % 4, from + i);
            pointers[i] = &events[i];
        }
        spool_append(own, pointers, (size_t)count);
        for (int i = 0; i < count; i++) {
            if (events[i].outcome == OUTCOME_SPOOLED)
                atomic_fetch_or(&shared->marks[who][from + i], ANSWERED);
            event_free(&events[i]);
        }
    }
}

static void drain_marking(struct spool *own)
{
    struct event events[50], *pointers[50];
    size_t count = spool_take(own, 0, LANES(1), events, 50, SIZE_MAX);

    for (size_t i = 0; i < count; i++) {
        int who = (int)events[i].values[FIELD_ticket_id].number / 10, number = atoi(events[i].body);
        int before = atomic_fetch_or(&shared->marks[who][number], TAKEN);
        _Atomic int *last = &shared->last[who][events[i].values[FIELD_ticket_id].number % 10];
        if (before & FORGOTTEN)
            atomic_fetch_add(&shared->doubled, 1);
        if (!(before & TAKEN) && atomic_exchange(last, number) > number)
            atomic_fetch_add(&shared->disordered, 1);
        events[i].outcome = OUTCOME_INSERTED;
        pointers[i] = &events[i];
    }
    bool good = spool_forget(own, pointers, count);
    for (size_t i = 0; i < count; i++) {
        if (good)
            atomic_fetch_or(&shared->marks[events[i].values[FIELD_ticket_id].number / 10][atoi(events[i].body)],
                            FORGOTTEN);
        event_free(&events[i]);
    }
    if (count == 0)
        clock_sleep_ms(1);
}

static void drain_without_end(int who)
{
    (void)who;
    struct spool *own = spool_open(&conf);
    struct spool_status status;

    while (!spool_begin_drain(own))
        clock_sleep_ms(1);
    for (unsigned n = 0;; n++) {
        drain_marking(own);
        if (n % 8 == 0)
            (void)spool_look(own, &status);
    }
}

/* Three append, one drains, and each is killed again and again: what was answered comes out once, in order. */
static void test_kills(void **state)
{
    (void)state;
    pid_t children[APPENDERS + 1];
    const char *wanted = getenv("SPOOL_KILLS");
    int kills = wanted ? atoi(wanted) : 60, answered = 0, lost = 0;

    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i <= APPENDERS; i++)
        children[i] = begin(i < APPENDERS ? append_without_end : drain_without_end, i);
    for (int n = 0; n < kills; n++) {
        clock_sleep_ms(3 + rand() % 25);
        int i = rand() % (APPENDERS + 1);
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
        children[i] = begin(i < APPENDERS ? append_without_end : drain_without_end, i);
    }
    for (int i = 0; i <= APPENDERS; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    while (events_in(spool) > 0)
        drain_marking(spool);
    for (int who = 0; who < APPENDERS; who++)
        for (int i = 0; i < NUMBERS; i++) {
            answered += (shared->marks[who][i] & ANSWERED) != 0;
            lost += (shared->marks[who][i] & (ANSWERED | TAKEN)) == ANSWERED;
        }
    if (wanted)
        print_message("%d kills, %d answered, %d lost, %d doubled, %d out of order\n", kills, answered, lost,
                      shared->doubled, shared->disordered);
    assert_true(answered > 100);
    assert_int_equal(lost, 0);
    assert_int_equal(shared->doubled, 0);
    assert_int_equal(shared->disordered, 0);
    assert_false(has_said("damaged"));
    munmap(shared, sizeof(*shared));
}

static _Atomic int drained_by_threads;

static void *append_in_a_thread(void *argument)
{
    int ticket = (int)(intptr_t)argument;
    for (int i = 0; i < 40; i++) {
        append_numbers(spool, ticket, ticket + 1, 1000);
        (void)waits(spool, ticket);
    }
    return NULL;
}

static void *drain_in_a_thread(void *argument)
{
    struct event events[20], *pointers[20];
    for (int64_t until = clock_monotonic_ms() + 10000;
         atomic_load(&drained_by_threads) < 160 && clock_monotonic_ms() < until;) {
        size_t count = spool_take(spool, (unsigned)(intptr_t)argument, LANES(2), events, 20, SIZE_MAX);
        for (size_t i = 0; i < count; i++) {
            events[i].outcome = OUTCOME_UPDATED;
            pointers[i] = &events[i];
        }
        assert_true(spool_forget(spool, pointers, count));
        for (size_t i = 0; i < count; i++)
            event_free(&events[i]);
        atomic_fetch_add(&drained_by_threads, (int)count);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[6];

    log_redirect(NULL); /* for one thread only */
    log_setup(LOG_ERROR, LOG_LOGFMT);
    atomic_store(&drained_by_threads, 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < 4 ? append_in_a_thread : drain_in_a_thread,
                                        (void *)(intptr_t)(i % 4)),
                         0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&drained_by_threads), 160);
    assert_int_equal(events_in(spool), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_see_each_other),
        TEST(kills),
        TEST(threads),
    };
    cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
