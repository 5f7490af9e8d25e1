/* The spool where the disk or the directory does not take it: full, failing, closed, in the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spool_fixture.h"

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
    snprintf(command, sizeof(command), "mount -t tmpfs -o size=40m,mode=700 tmpfs '%s' 2>/dev/null", directory);
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
    snprintf(command, sizeof(command), "head -c 40m /dev/zero > '%s/others' 2>/dev/null", directory);
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

static void fail_to_forget(void)
{
    struct event event, *events[1] = {&event};

    assert_int_equal(spool_take(spool, 0, LANES(1), &event, 1, SIZE_MAX), 1);
    event.outcome = OUTCOME_INSERTED;
    good_syncs = 0;
    assert_false(spool_forget(spool, events, 1));
    event_free(&event);
}

/* The drain reads on, and fails each time: that is one line in the log. */
static void test_failing_for_long(void **state)
{
    (void)state;

    for (int times = 1; times <= 2; times++) {
        assert_int_equal(append_short(spool, 1), OUTCOME_SPOOLED);
        for (int i = 0; i < 3; i++)
            fail_to_forget();
        assert_int_equal(times_said("cannot be drained"), times);
        assert_int_equal(drain(spool, 1, true), 1);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(full),
        TEST(a_full_disk),
        TEST(the_wal_stays_small),
        TEST(space_is_given_back),
        TEST(failing_syncs),
        TEST(failing_for_long),
        TEST(a_file_that_cannot_be_opened_once),
        TEST(permissions),
        TEST(closed_directories),
        TEST(files_in_the_way),
        TEST(no_directory),
        TEST(in_memory),
        TEST(a_stopped_process),
    };
    cmocka_set_test_filter(getenv("TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
