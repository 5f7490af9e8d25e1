/* The spool by itself: what it takes and gives, in which order. What it does with a database is in
 * tests/e2e/test_spool.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "spool_fixture.h"

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

/* Tickets take turns: those that are new in the spool do not outrun one that has more to come. */
static void test_turns(void **state)
{
    (void)state;
    struct event event, *events[1] = {&event};

    append_numbers(spool, 0, 5, 1);
    for (int number = 0; number < 5; number++) {
        append_numbers(spool, 100 + number, 101 + number, 1000); /* another ticket */
        for (int of = 0; of < (number ? 2 : 1); of++) {
            assert_int_equal(spool_take(spool, 0, LANES(1), &event, 1, SIZE_MAX), 1);
            assert_int_equal(atoi(event.body), number == 0 ? 0 : of == 0 ? 99 + number : number);
            event.outcome = OUTCOME_UPDATED;
            assert_true(spool_forget(spool, events, 1));
            event_free(&event);
        }
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(order),   TEST(what_is_taken),     TEST(turns),    TEST(refused_bodies),
        TEST(put_off), TEST(what_is_forgotten), TEST(identity),
    };
    cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
