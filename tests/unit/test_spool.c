/* The spool by itself. What it does with a database is in tests/e2e/test_spool.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "failing_malloc.h"
#include "spool/spool_file.h"

/* ---- a spool in a folder of its own */

#define LANES(number) ((struct lanes){number, false})

static char folder[64], directory[80];
static struct conf conf;
static struct spool *spool;
static struct text said; /* what was logged */

static int setup(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/ticketd-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(directory, sizeof(directory), "%s/spool", folder);
    conf = (struct conf){.spool_dir = directory, .spool_max_mb = 64};
    log_setup(LOG_INFO, LOG_LOGFMT);
    log_redirect(&said);
    spool = spool_open(&conf);
    assert_non_null(spool);
    return 0;
}

static void run(const char *format, const char *argument)
{
    char command[600];
    snprintf(command, sizeof(command), format, argument);
    assert_int_equal(system(command), 0);
}

static int teardown(void **state)
{
    (void)state;
    spool_close(spool);
    log_redirect(NULL);
    text_free(&said);
    run("umount -l '%s' 2>/dev/null; true", directory); /* of a test that failed */
    run("rm -rf '%s'", folder);
    return 0;
}

static bool has_said(const char *words)
{
    return said.bytes && strstr(said.bytes, words);
}

static int times_said(const char *words)
{
    int count = 0;
    for (const char *at = said.bytes; at && (at = strstr(at, words)); at++)
        count++;
    return count;
}

static const char *in_directory(const char *name)
{
    static char path[200];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static int64_t file_bytes(void)
{
    static const char *const names[] = {"spool.db", "spool.db-wal"};
    struct stat status;
    int64_t bytes = 0;
    for (size_t i = 0; i < 2; i++)
        bytes += stat(in_directory(names[i]), &status) == 0 ? status.st_size : 0;
    return bytes;
}

/* ---- events */

static void make_event(struct event *event, int64_t ticket, const char *body, size_t length)
{
    char *copy = malloc(length + 1);
    assert_non_null(copy);
    memcpy(copy, body, length);
    copy[length] = '\0';
    event_init(event, copy, length);
    event->received_at = clock_realtime_us();
    clock_uuid(event->id, event->received_at);
    event->values[FIELD_project_id] = (struct value){.presence = PRESENT, .number = 7};
    event->values[FIELD_ticket_id] = (struct value){.presence = PRESENT, .number = ticket};
}

/* An event whose body is a number. */
static void make_numbered(struct event *event, int64_t ticket, int number)
{
    char body[20];
    make_event(event, ticket, body, (size_t)snprintf(body, sizeof(body), "%d", number));
}

static enum outcome append_one(struct spool *into, int64_t ticket, const char *body, size_t length)
{
    struct event event, *events[1] = {&event};
    make_event(&event, ticket, body, length);
    spool_append(into, events, 1);
    enum outcome outcome = event.outcome;
    event_free(&event);
    return outcome;
}

static enum outcome append_short(struct spool *into, int64_t ticket)
{
    return append_one(into, ticket, "{}", 2);
}

/* Numbers from..to, each by the ticket of its remainder, in one batch. */
static void append_numbers(struct spool *into, int from, int to, int tickets)
{
    size_t count = (size_t)(to - from);
    struct event *events = calloc(count, sizeof(*events)), **pointers = calloc(count, sizeof(*pointers));
    for (size_t i = 0; i < count; i++) {
        make_numbered(&events[i], (from + (int)i) % tickets, from + (int)i);
        pointers[i] = &events[i];
    }
    spool_append(into, pointers, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(events[i].outcome, OUTCOME_SPOOLED);
        event_free(&events[i]);
    }
    free(events);
    free(pointers);
}

static bool waits(struct spool *in, int64_t ticket)
{
    struct event event;
    make_event(&event, ticket, "", 0);
    bool result = spool_waits(in, &event);
    event_free(&event);
    return result;
}

/* What is taken, forgotten where `forget` says so. Returns how many. */
static size_t drain(struct spool *from, size_t most, bool forget)
{
    struct event *events = calloc(most, sizeof(*events)), **pointers = calloc(most, sizeof(*pointers));
    size_t count = spool_take(from, 0, LANES(1), events, most, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        pointers[i] = &events[i];
        events[i].outcome = OUTCOME_INSERTED;
    }
    if (forget)
        assert_true(spool_forget(from, pointers, count));
    for (size_t i = 0; i < count; i++)
        event_free(&events[i]);
    free(events);
    free(pointers);
    return count;
}

static int64_t events_in(struct spool *in)
{
    struct spool_status status;
    assert_null(spool_look(in, &status));
    return status.events;
}

/* ---- order, and what comes out */

static void test_order(void **state)
{
    (void)state;
    struct event events[64], *pointers[64];
    int next[3] = {0, 1, 2};

    assert_false(waits(spool, 1));
    for (int i = 0; i < 90; i += 10)
        append_numbers(spool, i, i + 10, 3);
    assert_true(waits(spool, 1));
    assert_false(waits(spool, 3));
    assert_false(waits(spool, -1));
    for (size_t count; (count = spool_take(spool, 0, LANES(1), events, 64, SIZE_MAX)) > 0;) {
        for (size_t i = 0; i < count; i++) {
            int64_t ticket = events[i].values[FIELD_ticket_id].number;
            assert_int_equal(events[i].values[FIELD_project_id].number, 7);
            assert_int_equal(atoi(events[i].body), next[ticket]);
            assert_true(events[i].waited);
            next[ticket] += 3;
            events[i].outcome = i % 2 ? OUTCOME_UPDATED : OUTCOME_IGNORED;
            pointers[i] = &events[i];
        }
        assert_true(spool_forget(spool, pointers, count));
        for (size_t i = 0; i < count; i++)
            event_free(&events[i]);
    }
    for (int ticket = 0; ticket < 3; ticket++) {
        assert_int_equal(next[ticket], 90 + ticket);
        assert_false(waits(spool, ticket));
    }
    assert_int_equal(events_in(spool), 0);
}

static void test_what_is_taken(void **state)
{
    (void)state;
    struct event events[600];

    append_numbers(spool, 0, 2000, 1); /* a hot ticket */
    append_numbers(spool, 0, 500, 500);
    for (int turn = 0; turn < 2; turn++) {
        size_t count = spool_take(spool, 0, LANES(1), events, 600, SIZE_MAX), hot = 0;
        assert_int_equal(count, 600); /* one of each ticket, and more of the hot one, in its order */
        for (size_t i = 0; i < count; i++) {
            if (events[i].values[FIELD_ticket_id].number == 0)
                assert_int_equal(atoi(events[i].body), (int)hot++);
            event_free(&events[i]);
        }
        assert_int_equal(hot, 600 - 499);
    }
    size_t count;

    struct lanes by_project = {3, true};
    for (unsigned lane = 0; lane < 3; lane++) {
        count = spool_take(spool, lane, by_project, events, 600, SIZE_MAX);
        assert_int_equal(count, lane == event_lane(7, 0, by_project) ? 600 : 0);
        while (count > 0)
            event_free(&events[--count]);
    }
    size_t all = 0;
    bool seen[500] = {false};
    struct lanes lanes = LANES(3);
    for (unsigned lane = 0; lane < 3; lane++) { /* each ticket in its lane */
        for (int again = 0; again < 2; again++) {
            count = spool_take(spool, lane, lanes, events, 600, SIZE_MAX);
            for (size_t i = 0; i < count; i++) {
                int64_t ticket = events[i].values[FIELD_ticket_id].number;
                assert_int_equal(event_lane(7, ticket, lanes), lane);
                all += !seen[ticket];
                seen[ticket] = true;
                event_free(&events[i]);
            }
        }
    }
    assert_int_equal(all, 500);
    assert_int_equal(spool_take(spool, 0, LANES(1), events, 600, 0), 1); /* one at least */
    event_free(&events[0]);
    count = spool_take(spool, 0, LANES(1), events, 600, 20);
    assert_in_range(count, 5, 20);
    while (count > 0)
        event_free(&events[--count]);
}

static void test_refused_bodies(void **state)
{
    (void)state;
    static const char body[] = "\xef\xbb\xbf{\0\xff";
    struct event events[3], *pointers[3] = {&events[0], &events[1], &events[2]}, taken[3];

    for (int i = 0; i < 3; i++) {
        make_event(&events[i], 5, body, sizeof(body) - 1);
        event_refuse(&events[i], i ? OUTCOME_BAD_REQUEST : OUTCOME_UNPROCESSABLE, "/a", "is wrong");
        events[i].tries = 2;
        event_keep(events[i].iv, i ? "00ff" : "");
        event_keep(events[i].coding, i ? "" : "gzip");
    }
    spool_append(spool, pointers, 3);
    assert_false(waits(spool, 5));
    assert_int_equal(spool_take(spool, 1, LANES(2), taken, 3, SIZE_MAX), 0);
    assert_int_equal(spool_take(spool, 0, LANES(2), taken, 3, SIZE_MAX), 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(events[i].outcome, events[i].refusal);
        struct event *event = memcmp(taken[0].id, events[i].id, 16) == 0   ? &taken[0]
                              : memcmp(taken[1].id, events[i].id, 16) == 0 ? &taken[1]
                                                                           : &taken[2];
        assert_memory_equal(event->id, events[i].id, 16);
        size_t length;
        const char *received = event_received(event, &length);
        assert_int_equal(length, sizeof(body) - 1);
        assert_memory_equal(received, body, length);
        assert_int_equal(event->refusal, events[i].refusal);
        assert_string_equal(event_reason(event), "/a is wrong");
        assert_int_equal(event->received_at, events[i].received_at);
        assert_int_equal(event_project(event), 7);
        assert_int_equal(event->tries, 2);
        assert_string_equal(event->iv, events[i].iv);
        assert_string_equal(event->coding, events[i].coding);
    }
    for (int i = 0; i < 3; i++) {
        event_free(&events[i]);
        event_free(&taken[i]);
    }
}

/* ---- put off */

static void test_put_off(void **state)
{
    (void)state;
    struct event events[8], *first = &events[0];
    struct spool_ticket before = {.project = INT64_MIN, .ticket = INT64_MIN, .lone = INT64_MIN}, tickets[8];
    struct spool_status status;

    append_numbers(spool, 0, 4, 2); /* 0 and 2 of ticket 0, 1 and 3 of ticket 1 */
    assert_int_equal(spool_take(spool, 0, LANES(1), events, 1, SIZE_MAX), 1);
    spool_put_off(spool, &first, 1, "its row is locked", true);
    assert_int_equal(first->tries, 0);
    spool_put_off(spool, &first, 1, "time-out", false);
    assert_int_equal(first->tries, 1);
    int64_t now = clock_realtime_us();
    spool_put_off(spool, &first, 1, "time-out again", false);
    assert_int_equal(first->tries, 2);
    assert_int_equal(spool_tickets(spool, &before, tickets, 8), 2);
    assert_int_equal(tickets[0].ticket, 0);
    assert_int_equal(tickets[0].events, 2);
    assert_int_equal(tickets[0].tries, 3);
    assert_int_equal(tickets[1].tries, 0);
    assert_string_equal(tickets[0].why, "time-out again");
    assert_memory_equal(tickets[0].oldest, first->id, 16);
    assert_int_equal(tickets[0].since, first->received_at);
    assert_in_range(tickets[0].next_try, now + 3000000, now + 4500000);
    assert_int_equal(spool_tickets(spool, &tickets[0], tickets, 8), 1);
    assert_null(spool_look(spool, &status));
    assert_int_equal(status.held, 1);
    assert_int_equal(status.held_since, first->received_at);
    assert_int_equal(status.tickets, 2);
    assert_int_equal(status.oldest, first->received_at);

    assert_int_equal(drain(spool, 8, true), 2); /* the other ticket goes on */
    assert_true(waits(spool, 0));
    for (int i = 0; i < 10; i++)
        spool_put_off(spool, &first, 1, "x", true);
    now = clock_realtime_us();
    assert_int_equal(spool_tickets(spool, &before, tickets, 8), 1);
    assert_in_range(tickets[0].next_try, now + 40000000, now + 61000000);
    assert_true(spool_find(spool, first->id, &events[1]));
    assert_int_equal(events[1].tries, 2);
    event_free(&events[1]);

    first->outcome = OUTCOME_UPDATED; /* as a drop by hand would */
    assert_true(spool_forget(spool, &first, 1));
    assert_false(spool_find(spool, first->id, &events[1]));
    assert_int_equal(spool_tickets(spool, &before, tickets, 8), 1);
    assert_int_equal(tickets[0].tries, 0);
    assert_string_equal(tickets[0].why, "");
    event_free(first);
    assert_int_equal(drain(spool, 8, true), 1);
    assert_int_equal(events_in(spool), 0);
}

/* An event without a verdict, or that could not be stored, stays. */
static void test_what_is_forgotten(void **state)
{
    (void)state;
    static const enum outcome outcomes[] = {OUTCOME_NONE, OUTCOME_SPOOLED, OUTCOME_UNAVAILABLE, OUTCOME_UNPROCESSABLE};
    struct event events[4], *pointers[4];

    append_numbers(spool, 0, 4, 1);
    assert_int_equal(spool_take(spool, 0, LANES(1), events, 4, SIZE_MAX), 4);
    for (int i = 0; i < 4; i++) {
        events[i].outcome = outcomes[i];
        pointers[i] = &events[i];
    }
    assert_true(spool_forget(spool, pointers, 4));
    assert_int_equal(events_in(spool), 3);
    events[0].outcome = OUTCOME_DELETED;
    memset(events[0].id, 0, 16); /* another event */
    assert_true(spool_forget(spool, pointers, 1));
    assert_int_equal(events_in(spool), 3);
    for (int i = 0; i < 4; i++)
        event_free(&events[i]);
}

/* ---- several processes */

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

static pid_t begin(void (*work)(int), int who)
{
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        log_redirect(NULL);
        log_setup(LOG_ERROR, LOG_LOGFMT);
        work(who);
        _exit(0);
    }
    return child;
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

/* ---- full, failing, closed */

static void test_full(void **state)
{
    (void)state;
    static char large[700000], large_why[4000];
    memset(large_why, 'y', sizeof(large_why) - 1);
    struct event events[5], *pointers[5];
    struct spool_status status;

    spool_close(spool);
    conf.spool_max_mb = 1;
    spool = spool_open(&conf);
    assert_null(spool_problem(spool));
    for (int i = 0; i < 5; i++) { /* the second and the fourth large one have no room */
        make_event(&events[i], i, large, i % 2 ? 10 : sizeof(large));
        pointers[i] = &events[i];
    }
    spool_append(spool, pointers, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(events[i].outcome, i == 0 || i % 2 ? OUTCOME_SPOOLED : OUTCOME_UNAVAILABLE);
        assert_int_equal(waits(spool, i), events[i].outcome == OUTCOME_SPOOLED);
        event_free(&events[i]);
    }
    assert_int_equal(append_one(spool, 9, large, sizeof(large)), OUTCOME_UNAVAILABLE);
    assert_int_equal(times_said("TICKETD_SPOOL_MAX_MB is reached"), 1);
    int ticket = 100;
    while (append_one(spool, ticket, large, 300) == OUTCOME_SPOOLED)
        ticket++;
    assert_in_range(ticket, 300, 2000);
    assert_non_null(strstr(spool_problem(spool), "TICKETD_SPOOL_MAX_MB"));
    run("test $(stat -c %%s '%s') -le 1048576", in_directory("spool.db"));

    struct event held[100]; /* what it says of them needs pages */
    size_t taken = spool_take(spool, 0, LANES(1), held, 100, SIZE_MAX);
    for (size_t i = 0; i < taken; i++) {
        struct event *event = &held[i];
        spool_put_off(spool, &event, 1, large_why, true);
    }
    assert_null(spool_look(spool, &status));
    assert_true(status.held > 90);
    for (size_t i = 0; i < taken; i++)
        event_free(&held[i]);
    clock_sleep_ms(999);
    clock_sleep_ms(50);
    while (drain(spool, 2, true) > 0)
        ;
    assert_int_equal(events_in(spool), 0);
    assert_null(spool_problem(spool));
    assert_null(spool_look(spool, &status));
    assert_in_range(file_bytes(), 0, 1048576);
    assert_int_equal(append_one(spool, 9, large, sizeof(large)), OUTCOME_SPOOLED);
    assert_true(has_said("takes events again"));
    assert_true(waits(spool, 9));
}

/* A disk without room takes no more, and lets out what is there. */
static void test_a_full_disk(void **state)
{
    (void)state;
    static char large[50000];
    char command[200];

    assert_int_equal(mkdir(directory, 0700), 0);
    snprintf(command, sizeof(command), "mount -t tmpfs -o size=24m,mode=700 tmpfs '%s' 2>/dev/null", directory);
    if (geteuid() != 0 || system(command) != 0)
        skip();
    spool_close(spool);
    conf.spool_max_mb = 100;
    spool = spool_open(&conf);
    int count = 0;
    while (append_one(spool, count, large, sizeof(large)) == OUTCOME_SPOOLED)
        count++;
    assert_in_range(count, 100, 400);
    assert_true(has_said("no room on the disk"));
    assert_non_null(spool_problem(spool));
    snprintf(command, sizeof(command), "head -c 30m /dev/zero > '%s/others' 2>/dev/null", directory);
    (void)!system(command); /* others leave nothing of it */
    while (drain(spool, 10, true) > 0)
        count -= 10;
    assert_true(count <= 0);
    assert_int_equal(events_in(spool), 0);
    spool_close(spool);
    spool = spool_open(&conf);
}

/* The -wal is brought into the file where SQLite itself did not come to it, as somebody was reading all the time. */
static void test_the_wal_stays_small(void **state)
{
    (void)state;
    static char large[3000000];
    struct spool_status status;

    assert_int_equal(append_one(spool, 1, large, sizeof(large)), OUTCOME_SPOOLED);
    struct spool *reader = spool_open(&conf);
    const char *why;
    assert_int_equal(spool_begin(reader, &reader->in, SPOOL_READ, &why), SQLITE_OK);
    assert_int_equal(spool_number(reader->in.statements[SQL_ANY]), 1);
    for (int i = 0; i < 4; i++) {
        append_numbers(spool, 0, 1, 1);
        assert_int_equal(append_one(spool, 1, large, sizeof(large)), OUTCOME_SPOOLED);
    }
    struct stat wal;
    for (int i = 0; i < 12; i++)
        append_numbers(spool, 0, 1500, 1);
    assert_int_equal(stat(in_directory("spool.db-wal"), &wal), 0);
    assert_true(wal.st_size > 17000000);
    assert_int_equal(spool_end(reader, &reader->in, SQLITE_OK, &why), SQLITE_OK);
    spool_close(reader);
    assert_null(spool_look(spool, &status));
    assert_int_equal(stat(in_directory("spool.db-wal"), &wal), 0);
    assert_int_equal(wal.st_size, 0);
    assert_int_equal(status.events, 5 + 4 + 12 * 1500);
}

/* What was large is small again once it is empty. */
static void test_space_is_given_back(void **state)
{
    (void)state;
    static char large[100000];
    struct spool *other = spool_open(&conf);
    struct spool_status status;

    for (int i = 0; i < 50; i++)
        assert_int_equal(append_one(i % 2 ? other : spool, i, large, sizeof(large)), OUTCOME_SPOOLED);
    assert_null(spool_look(spool, &status));
    assert_in_range(file_bytes(), 5000000, 16000000);
    assert_in_range(status.bytes, 5000000, 6000000);
    while (drain(spool, 10, true) > 0)
        ;
    assert_null(spool_look(spool, &status));
    assert_in_range(file_bytes(), 0, 1048576);
    assert_int_equal(append_short(other, 1), OUTCOME_SPOOLED);
    assert_int_equal(append_short(spool, 2), OUTCOME_SPOOLED);
    spool_close(other); /* takes nothing with it */
    spool_close(spool);
    spool = spool_open(&conf);
    assert_int_equal(events_in(spool), 2);
    assert_true(waits(spool, 1) && waits(spool, 2));
}

static int good_syncs = -1; /* fdatasync(2) goes well so often and then fails once; below 0: it never fails */

int fdatasync(int fd)
{
    if (good_syncs >= 0 && good_syncs-- == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static void test_failing_syncs(void **state)
{
    (void)state;
    int64_t good = 0;

    assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
    for (int n = 0; n < 3; n++) {
        good_syncs = n;
        enum outcome outcome;
        do
            good += (outcome = append_short(spool, 2)) == OUTCOME_SPOOLED;
        while (good_syncs >= 0 && outcome == OUTCOME_SPOOLED);
        assert_int_equal(outcome, OUTCOME_UNAVAILABLE);
        assert_int_equal(events_in(spool), 1 + good);
        good += append_short(spool, 2) == OUTCOME_SPOOLED;
        assert_int_equal(events_in(spool), 1 + good);
    }
    assert_true(has_said("disk I/O error"));
    assert_int_equal(times_said("takes events again"), 3);
    spool_close(spool);
    spool = spool_open(&conf);
    assert_int_equal(events_in(spool), 1 + good);
}

/* Where SQLite cannot open a file for writing once, it opens it for reading only. */
static const char *fails_once; /* how the path of the file ends */

static int open_badly(const char *path, int flags, int mode)
{
    size_t length = fails_once ? strlen(fails_once) : 0;

    if (length && strlen(path) > length && strcmp(path + strlen(path) - length, fails_once) == 0 &&
        (flags & O_ACCMODE) == O_RDWR) {
        fails_once = NULL;
        errno = EMFILE;
        return -1;
    }
    return open(path, flags, mode);
}

static void test_a_file_that_cannot_be_opened_once(void **state)
{
    (void)state;
    static const char *const names[] = {"spool.db", "spool.db-wal", "spool.db-shm"};
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

    vfs->xSetSystemCall(vfs, "open", (sqlite3_syscall_ptr)open_badly);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
        spool_close(spool);
        spool = spool_open(&conf);
        fails_once = names[i];
        (void)append_short(spool, 2);
        assert_null(fails_once);
        assert_int_equal(append_short(spool, 3), OUTCOME_SPOOLED);
        while (events_in(spool) > 0)
            assert_true(drain(spool, 10, true) > 0);
    }
    vfs->xSetSystemCall(vfs, "open", NULL);
}

static void test_permissions(void **state)
{
    (void)state;
    mode_t before = umask(0);
    static const char *const names[] = {"", "spool.db", "spool.db-wal", "spool.db-shm", "spool.lock", "drain.lock"};
    struct stat status;

    assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
    assert_true(spool_begin_drain(spool));
    umask(before);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(stat(in_directory(names[i]), &status), 0);
        assert_int_equal(status.st_mode & 0777, i ? 0600 : 0700);
    }
}

static void find_it_closed(int how)
{
    struct event event;
    assert_int_equal(setuid(65534), 0);
    spool = spool_open(&conf);
    make_event(&event, 1, "{}", 2);
    bool known = !spool_waits(spool, &event) && !event.waited;
    bool refused = append_short(spool, 1) == OUTCOME_UNAVAILABLE && spool_problem(spool);
    _exit(refused && known == (how == 0) ? 0 : 1);
}

/* Without a file nothing waits; one that cannot be read may hold something. */
static void test_closed_directories(void **state)
{
    (void)state;
    int result;

    if (geteuid() != 0)
        skip();
    assert_int_equal(chmod(folder, 0755), 0);
    for (int how = 0; how < 2; how++) {
        if (how) {
            assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
            run("chown -R 65534 '%s'", directory);
            run("chmod 0 '%s'/spool.db", directory);
        } else {
            assert_int_equal(mkdir(directory, 0700), 0);
            assert_int_equal(chown(directory, 65534, 65534), 0);
            assert_int_equal(chmod(directory, 0500), 0);
        }
        waitpid(begin(find_it_closed, how), &result, 0);
        assert_int_equal(result, 0);
        if (how == 0)
            assert_int_equal(chown(directory, 0, 0), 0);
    }
    spool_close(spool);
    spool = spool_open(&conf);
    assert_int_equal(append_short(spool, 1), OUTCOME_UNAVAILABLE);
    assert_true(has_said("it belongs to another user"));
}

/* What is in the way is named, and no hindrance once it is gone. */
static void test_files_in_the_way(void **state)
{
    (void)state;
    static const char *const names[] = {"spool.lock", "spool.db", "spool.db-wal"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        spool_prepare(spool);
        assert_int_equal(mkdir(in_directory(names[i]), 0700), 0);
        struct event event;
        make_event(&event, 1, "{}", 2);
        assert_int_equal(append_short(spool, 1), OUTCOME_UNAVAILABLE);
        assert_true(has_said("the spool cannot take events"));
        assert_false(spool_waits(spool, &event));
        event_free(&event);
        run("rm -rf '%s'", directory);
        assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
        clock_sleep_ms(990); /* so long it stays unknown */
        clock_sleep_ms(20);
        assert_true(waits(spool, 1));
        assert_int_equal(events_in(spool), 1);
        run("rm -rf '%s'", directory); /* while it is open */
        clock_sleep_ms(20);
        assert_false(waits(spool, 1));
    }
    assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
    assert_int_equal(events_in(spool), 1);
}

static void test_no_directory(void **state)
{
    (void)state;
    struct spool_status status;
    struct conf none = {.spool_dir = "", .spool_max_mb = 1}, wrong = {.spool_dir = "/nonexistent/a/b"};
    struct spool *nothing = spool_open(&none);

    spool_prepare(nothing);
    assert_false(waits(nothing, 1));
    assert_int_equal(append_short(nothing, 1), OUTCOME_UNAVAILABLE);
    assert_int_equal(drain(nothing, 3, true), 0);
    assert_non_null(spool_problem(nothing));
    assert_false(spool_begin_drain(nothing));
    assert_null(spool_look(nothing, &status));
    spool_is_for(nothing, "a");
    assert_null(spool_warning(nothing));
    spool_close(nothing);
    assert_true(spool_valid_directory(&none));
    assert_true(spool_valid_directory(&conf));
    assert_false(spool_valid_directory(&wrong));
    assert_false(waits(spool, 1)); /* asking makes nothing */
    assert_int_equal(access(directory, F_OK), -1);
    assert_null(spool_problem(spool));
}

/* A process that stopped in the middle keeps others out for two seconds, not for good. */
static void test_in_memory(void **state)
{
    (void)state;
    char memory[] = "/dev/shm/ticketd-test-XXXXXX";
    assert_non_null(mkdtemp(memory));
    struct conf volatile_conf = {.spool_dir = memory, .spool_max_mb = 1};
    struct spool *in_memory = spool_open(&volatile_conf);

    spool_prepare(in_memory);
    assert_true(has_said("it is in memory"));
    spool_close(in_memory);
    run("rm -rf '%s'", memory);
    assert_null(spool_warning(spool));
}

static void test_a_stopped_process(void **state)
{
    (void)state;
    assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
    pid_t child = fork();
    if (child == 0) {
        int fd = open(in_directory("spool.lock"), O_RDWR);
        (void)!flock(fd, LOCK_EX);
        raise(SIGSTOP);
        _exit(0);
    }
    int result;
    waitpid(child, &result, WUNTRACED);
    int64_t start = clock_monotonic_ms();
    assert_int_equal(append_short(spool, 1), OUTCOME_UNAVAILABLE);
    assert_in_range(clock_monotonic_ms() - start, 1500, 4000);
    assert_true(has_said("another process holds it and does not go on"));
    kill(child, SIGKILL);
    waitpid(child, &result, 0);
    assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
    assert_int_equal(events_in(spool), 2);
}

/* ---- damage */

/* Brings all of the -wal into the file. */
static void checkpoint(void)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(in_directory("spool.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void damage(size_t how)
{
    char garbage[4096];
    memset(garbage, 0x5a, sizeof(garbage));
    if (how == 0) { /* its first page */
        int fd = open(in_directory("spool.db"), O_WRONLY);
        assert_int_equal(pwrite(fd, garbage, 100, 0), 100);
        close(fd);
    } else if (how == 1) { /* all others */
        int fd = open(in_directory("spool.db"), O_WRONLY);
        for (int page = 1; page < 12; page++)
            assert_int_equal(pwrite(fd, garbage, sizeof(garbage), page * 4096), sizeof(garbage));
        close(fd);
    } else if (how >= 3) { /* one page with events; the last */
        char wanted[240];
        snprintf(wanted, sizeof(wanted), "%d '%s'", how == 3 ? 100 : 499, in_directory("spool.db"));
        run("python3 -c 'import sys; f = open(sys.argv[2], \"r+b\"); d = f.read(); w = sys.argv[1].encode();"
            " n = [n for n in range(8192, len(d), 4096) if d[n] == 13 and w in d[n:n + 4096]][0];"
            " f.seek(n); f.write(b\"Z\" * 4096)' %s",
            wanted);
    } else { /* its end */
        assert_int_equal(truncate(in_directory("spool.db"), 8192), 0);
    }
}

static int files_aside(void)
{
    struct spool_status status;
    assert_null(spool_look(spool, &status));
    return (int)status.aside;
}

static void test_damage(void **state)
{
    (void)state;
    for (size_t how = 0; how < 3; how++) {
        append_numbers(spool, 0, 500, 50);
        spool_close(spool);
        checkpoint();
        struct spool *other = spool_open(&conf);
        if (how != 0)
            assert_int_equal(append_short(other, 77), OUTCOME_SPOOLED); /* it has the file open */
        checkpoint();
        damage(how);
        spool = spool_open(&conf);
        assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
        assert_int_equal(files_aside(), (int)how + 1);
        assert_int_equal(times_said("the spool is damaged"), (int)how + 1);
        assert_true(has_said("ticketd spool add"));
        assert_int_equal(append_short(other, 2), OUTCOME_SPOOLED); /* not into the one aside */
        spool_close(other);
        spool_close(spool);
        spool = spool_open(&conf);
        assert_int_equal(events_in(spool), 2);
        assert_true(waits(spool, 1) && waits(spool, 2));
        assert_false(waits(spool, 3));
        while (drain(spool, 100, true) > 0)
            ;
    }
}

static int good_unlinks = -1; /* unlink(2) goes well so often and then fails once; below 0: it never fails */

int unlink(const char *path)
{
    if (good_unlinks >= 0 && good_unlinks-- == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_unlink, path);
}

/* Nothing that left comes back, and nothing new is lost. */
static void test_files_that_cannot_be_removed(void **state)
{
    (void)state;
    for (int n = 0; n < 3; n++) {
        append_numbers(spool, 0, 300, 50);
        checkpoint();
        while (drain(spool, 100, true) > 0)
            ;
        good_unlinks = n;
        spool_remove_empty(spool);
        good_unlinks = -1;
        assert_int_equal(events_in(spool), 0);
        good_unlinks = n;
        append_short(spool, 1);
        good_unlinks = -1;
        assert_int_equal(append_short(spool, 2), OUTCOME_SPOOLED);
        spool_close(spool);
        spool = spool_open(&conf);
        assert_in_range(events_in(spool), 1, 2);
        assert_true(waits(spool, 2) && !waits(spool, 3));
        while (drain(spool, 100, true) > 0)
            ;
    }
}

static int good_reads = -1, good_reads_between; /* pread(2) goes well so often and fails once, and so a second time */

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset)
{
    if (good_reads >= 0 && good_reads-- == 0) {
        good_reads = good_reads_between;
        good_reads_between = -1;
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, bytes, count, offset);
}

static void test_failing_reads_are_no_damage(void **state)
{
    (void)state;
    append_numbers(spool, 0, 500, 50);
    for (int n = 0; n < 60 * 8; n++) {
        struct spool *other = spool_open(&conf);
        good_reads_between = n % 8;
        good_reads = n / 8;
        append_short(other, 1000 + n);
        (void)!drain(other, 5, false);
        good_reads = -1;
        spool_close(other);
    }
    assert_int_equal(files_aside(), 0);
    assert_false(has_said("damaged"));
    assert_in_range(events_in(spool), 500, 500 + 60 * 8);
}

/* What is left of a damaged file comes back by the command that the log names. */
static void test_recovery(void **state)
{
    (void)state;
    struct event event, *events[1] = {&event}, taken[600];
    char aside[200];
    uint64_t count;

    append_numbers(spool, 0, 500, 50);
    make_event(&event, 5, "[]", 2);
    event_refuse(&event, OUTCOME_UNPROCESSABLE, "", "must be an object");
    spool_append(spool, events, 1);
    event_free(&event);
    spool_close(spool);
    checkpoint();
    damage(3);
    spool = spool_open(&conf);
    assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED); /* beside the damage */
    assert_false(has_said("damaged"));
    (void)drain(spool, 600, false);
    assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
    assert_true(has_said("ticketd spool add"));
    sscanf(strstr(said.bytes, "spool add") + 11, "%199[^']", aside);
    for (int again = 0; again < 2; again++) {          /* once more changes nothing */
        assert_false(spool_add(spool, aside, &count)); /* not all */
        assert_in_range(count, 300, 501);
        assert_int_equal(events_in(spool), count + 1);
    }
    assert_true(has_said("not all events of the file could be added"));
    assert_true(waits(spool, 49));
    size_t found = spool_take(spool, 0, LANES(1), taken, 600, SIZE_MAX), refused = 0;
    assert_int_equal(found, count + 1);
    while (found > 0) {
        refused += taken[--found].refusal != OUTCOME_NONE;
        event_free(&taken[found]);
    }
    assert_int_equal(refused, 1);
    assert_false(spool_add(spool, "/nonexistent", &count));
}

/* ---- memory */

/* Its last row cannot be found: what lies before it is, and the search ends. */
static void test_recovery_without_the_last_page(void **state)
{
    (void)state;
    struct conf other_conf = {.spool_dir = folder, .spool_max_mb = 64};
    struct spool *other = spool_open(&other_conf);
    uint64_t count;

    append_numbers(spool, 0, 500, 50);
    spool_close(spool);
    checkpoint();
    damage(4);
    spool = spool_open(&conf);
    assert_false(spool_add(other, in_directory("spool.db"), &count));
    assert_in_range(count, 400, 499);
    spool_close(other);
}

static void test_without_memory(void **state)
{
    (void)state;
    int64_t expected = 0;
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC), before = dup(STDERR_FILENO);

    for (int opened = 0; opened < 2; opened++) {
        bool failed = true;
        for (long n = 0; failed; n++) {
            struct event events[2], *pointers[2] = {&events[0], &events[1]};
            if (!opened) {
                spool_close(spool);
                spool = spool_open(&conf);
            }
            log_redirect(NULL);
            log_setup(LOG_ERROR, LOG_LOGFMT);
            make_numbered(&events[0], 1, 1);
            make_event(&events[1], 1, "[]", 2);
            event_refuse(&events[1], OUTCOME_UNPROCESSABLE, "", "must be an object");
            dup2(nowhere, STDERR_FILENO);
            fail_allocations_after(n);
            spool_append(spool, pointers, 2);
            failed = stop_failing_allocations();
            dup2(before, STDERR_FILENO);
            bool good = events[0].outcome == OUTCOME_SPOOLED;
            assert_int_equal(events[0].outcome, good ? OUTCOME_SPOOLED : OUTCOME_UNAVAILABLE);
            assert_int_equal(events[1].outcome, good ? OUTCOME_UNPROCESSABLE : OUTCOME_UNAVAILABLE);
            assert_true(good || failed);
            expected += good ? 2 : 0;
            assert_int_equal(events_in(spool), expected);
            event_free(&events[0]);
            event_free(&events[1]);
            assert_true(n < 5000);
        }
    }
    bool failed = true;
    for (long n = 0; failed; n++) {
        dup2(nowhere, STDERR_FILENO);
        fail_allocations_after(n);
        struct event taken[10];
        size_t count = spool_take(spool, 0, LANES(1), taken, 10, SIZE_MAX);
        failed = stop_failing_allocations();
        dup2(before, STDERR_FILENO);
        assert_true(failed || count == (expected < 10 ? (size_t)expected : 10));
        while (count > 0)
            event_free(&taken[--count]);
        assert_int_equal(events_in(spool), expected);
    }
    close(nowhere);
    close(before);
}

/* ---- the database that it is for */

static void test_identity(void **state)
{
    (void)state;
    struct spool *other = spool_open(&conf);

    assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED); /* nobody knows any database yet */
    spool_is_for(other, "b");
    assert_int_equal(append_short(other, 1), OUTCOME_SPOOLED); /* which says so, */
    spool_is_for(spool, "a");
    assert_false(waits(spool, 1)); /* and now it is not the other's */
    assert_int_equal(append_short(spool, 2), OUTCOME_UNAVAILABLE);
    assert_int_equal(drain(spool, 10, true), 0);
    assert_true(has_said("it belongs to another database"));
    assert_non_null(spool_problem(spool));
    assert_true(waits(other, 1));

    assert_true(spool_adopt(spool));
    assert_int_equal(append_short(other, 2), OUTCOME_UNAVAILABLE);
    assert_int_equal(append_short(spool, 2), OUTCOME_SPOOLED);
    assert_int_equal(drain(spool, 10, true), 3);
    assert_int_equal(append_short(other, 1), OUTCOME_SPOOLED); /* an empty one is for anybody */
    assert_int_equal(append_short(spool, 1), OUTCOME_UNAVAILABLE);
    spool_close(other);
}

/* ---- the format of ticketd 0.1.0 */

static void append_old(struct text *bytes, const char *body, const char *reason)
{
    struct {
        char marker[8];
        uint8_t id[16];
        int64_t received_at, project;
        uint32_t reason_length, body_length, payload_crc, head_crc;
    } head = {.received_at = clock_realtime_us(), .project = *reason ? 3 : 0};
    memcpy(head.marker, "12345678", 8);
    clock_uuid(head.id, head.received_at);
    head.reason_length = (uint32_t)strlen(reason);
    head.body_length = (uint32_t)strlen(body);
    head.payload_crc =
        (uint32_t)crc32(crc32(0, (const Bytef *)reason, head.reason_length), (const Bytef *)body, head.body_length);
    head.head_crc = (uint32_t)crc32(0, (const Bytef *)&head, sizeof(head) - 4);
    text_append_bytes(bytes, (const char *)&head, sizeof(head));
    text_append(bytes, reason);
    text_append(bytes, body);
}

static void write_segment(const char *name, const char *bytes, size_t length)
{
    int fd = open(in_directory(name), O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), (ssize_t)length);
    close(fd);
}

static void test_the_old_format(void **state)
{
    (void)state;
    static const char body[] =
        "{\"action\":\"update\",\"ticket\":{\"projectId\":1,\"ticketId\":\"2\",\"title\":\"%d\"}}";
    struct text bytes = {0};
    struct event events[20];
    size_t ends[8];

    assert_int_equal(mkdir(directory, 0700), 0);
    text_append(&bytes, "ticketd spool 1\n12345678");
    for (int i = 0; i < 6; i++) {
        char text[200];
        snprintf(text, sizeof(text), body, i);
        append_old(&bytes, i == 3 ? "[1" : text, i == 3 ? "is not JSON" : "");
        ends[i] = bytes.length;
    }
    write_segment("20.segment", bytes.bytes, ends[2]);      /* whole: 0 to 2 */
    write_segment("100.segment", bytes.bytes, 24);          /* no record */
    write_segment("101.segment", bytes.bytes, 7);           /* a part of a head */
    write_segment("102.segment", bytes.bytes, ends[5] - 1); /* torn: the same, 3, 4 */
    bytes.bytes[ends[5] - 1] ^= 1;
    write_segment("105.segment", bytes.bytes, ends[5]); /* damaged in the last */
    bytes.bytes[ends[5] - 1] ^= 1;
    bytes.bytes[ends[4] - 5] ^= 1;
    write_segment("103.segment", bytes.bytes, ends[5]); /* damaged in 4, 5 is whole */
    write_segment("104.segment", "something else, and no segment", 30);
    write_segment("other", "x", 1);
    spool_prepare(spool);
    text_free(&bytes);

    assert_int_equal(events_in(spool), 6);
    size_t count = spool_take(spool, 0, LANES(1), events, 20, SIZE_MAX);
    assert_int_equal(count, 6);
    for (size_t i = 0, number = 0; i < count; i++) {
        char text[200];
        snprintf(text, sizeof(text), body, (int)number);
        if (events[i].refusal != OUTCOME_NONE) {
            assert_string_equal(events[i].body, "[1");
            assert_string_equal(event_reason(&events[i]), "is not JSON");
            assert_int_equal(event_project(&events[i]), 3);
        } else {
            assert_string_equal(events[i].body, text);
            assert_int_equal(events[i].values[FIELD_ticket_id].number, 2);
            number += number == 2 ? 2 : 1;
        }
        event_free(&events[i]);
    }
    struct event event;
    make_event(&event, 2, "", 0);
    event.values[FIELD_project_id].number = 1;
    assert_true(spool_waits(spool, &event));
    event_free(&event);
    assert_int_equal(files_aside(), 3);
    assert_int_equal(access(in_directory("105.bad"), F_OK), 0);
    assert_int_equal(access(in_directory("103.bad"), F_OK), 0);
    assert_int_equal(access(in_directory("104.bad"), F_OK), 0);
    assert_int_equal(access(in_directory("other"), F_OK), 0);
    assert_int_equal(access(in_directory("20.segment"), F_OK), -1);
    assert_int_equal(access(in_directory("102.segment"), F_OK), -1);
    assert_true(has_said("segment=103"));
    spool_prepare(spool);
    assert_int_equal(events_in(spool), 6);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(order),
        TEST(what_is_taken),
        TEST(refused_bodies),
        TEST(put_off),
        TEST(what_is_forgotten),
        TEST(two_see_each_other),
        TEST(kills),
        TEST(threads),
        TEST(full),
        TEST(a_full_disk),
        TEST(the_wal_stays_small),
        TEST(space_is_given_back),
        TEST(failing_syncs),
        TEST(a_file_that_cannot_be_opened_once),
        TEST(permissions),
        TEST(closed_directories),
        TEST(files_in_the_way),
        TEST(no_directory),
        TEST(in_memory),
        TEST(a_stopped_process),
        TEST(damage),
        TEST(failing_reads_are_no_damage),
        TEST(files_that_cannot_be_removed),
        TEST(recovery),
        TEST(recovery_without_the_last_page),
        TEST(without_memory),
        TEST(identity),
        TEST(the_old_format),
    };
    cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
