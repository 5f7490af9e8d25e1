/* The spool where its file is damaged, cannot be read or removed, or memory runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "failing_malloc.h"
#include "spool_fixture.h"

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
    } else if (how == 5) { /* the number of the first row, 1 */
        run("python3 -c 'import sys; f = open(sys.argv[1], \"r+b\"); d = f.read()\n"
            "def first(n):\n"
            "    at = n + int.from_bytes(d[n + 8:n + 10], \"big\") + 1\n"
            "    while d[at - 1] & 128: at += 1\n"
            "    return at\n"
            "at = [first(n) for n in range(4096, len(d), 4096) if d[n] == 13 and d[n + 4] > 5 and d[first(n)] == "
            "1][0]\n"
            "f.seek(at); f.write(bytes([127]))' '%s'",
            in_directory("spool.db"));
    } else if (how == 6) { /* none, but the last row has the largest number */
        run("python3 -c 'import sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
            " db.execute(\"UPDATE events SET no = 9223372036854775807 WHERE no = 500\"); db.commit()' '%s'",
            in_directory("spool.db"));
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

static int good_reads = -1, good_reads_between,
           more_fail; /* pread(2) goes well so often and fails once; then again … */

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset)
{
    if (good_reads >= 0 && good_reads-- == 0) {
        good_reads = more_fail-- > 0 ? good_reads_between : -1;
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, bytes, count, offset);
}

static void test_failing_reads_are_no_damage(void **state)
{
    (void)state;
    static const int between[] = {0, 1, 2, 3, 4, 5, 6, 7, 15, 30, 45};
    enum { COUNT = sizeof(between) / sizeof(between[0]) };
    append_numbers(spool, 0, 500, 50);
    for (int n = 0; n < 60 * COUNT; n++) {
        struct spool *other = spool_open(&conf);
        good_reads_between = between[n % COUNT];
        more_fail = 4;
        good_reads = n / COUNT;
        append_short(other, 1000 + n);
        (void)!drain(other, 5, false);
        good_reads = -1;
        spool_close(other);
    }
    assert_int_equal(files_aside(), 0);
    assert_false(has_said("damaged"));
    assert_in_range(events_in(spool), 500, 500 + 60 * COUNT);
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

/* Adds a file of 500 events that is damaged in this way to another spool. Returns what spool_add says. */
static bool add_damaged(size_t how, uint64_t *count)
{
    struct conf other_conf = {.spool_dir = folder, .spool_max_mb = 64};
    struct spool *other = spool_open(&other_conf);

    append_numbers(spool, 0, 500, 50);
    spool_close(spool);
    checkpoint();
    damage(how);
    spool = spool_open(&conf);
    bool good = spool_add(other, in_directory("spool.db"), count);
    spool_close(other);
    return good;
}

/* Its last row cannot be found: what lies before it is, and the search ends. */
static void test_recovery_without_the_last_page(void **state)
{
    (void)state;
    uint64_t count;

    assert_false(add_damaged(4, &count));
    assert_in_range(count, 400, 499);
}

/* A first row that says it is another does not hide those before that one. */
static void test_recovery_of_a_wrong_number(void **state)
{
    (void)state;
    uint64_t count;

    assert_false(add_damaged(5, &count));
    assert_in_range(count, 490, 500);
}

/* A gap in the numbers of a good file, up to the largest there is, is passed over at once. */
static void test_recovery_of_the_largest_number(void **state)
{
    (void)state;
    uint64_t count;

    assert_true(add_damaged(6, &count));
    assert_int_equal(count, 500);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(damage),
        TEST(files_that_cannot_be_removed),
        TEST(failing_reads_are_no_damage),
        TEST(recovery),
        TEST(recovery_without_the_last_page),
        TEST(recovery_of_a_wrong_number),
        TEST(recovery_of_the_largest_number),
        TEST(without_memory),
    };
    cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
