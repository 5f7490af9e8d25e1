/* The spool's directory, and the spool and the decoding when memory runs out. What it does with a database is in
 * tests/e2e/test_spool.py. */
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "commands/commands.h"
#include "failing_malloc.h"
#include "sample_segment.h"
#include "spool/spool.h"
#include "spool/spool_files.h"
#include "standard_error.h"
#include "store/drain.h"
#include "store/store.h"

/* ---- memory that runs out */

/* At whichever allocation: refused as unavailable, or decoded just as with enough of it. */
static void test_decoding_without_memory(void **state)
{
    (void)state;
    static const char *const samples[] = {
        "{\"action\":\"add\",\"ticket\":{\"projectId\":1,\"ticketId\":\"2\",\"title\":\"a\",\"z\":1,\"y\":{\"x\":[1,"
        "null]}}}",
        "{\"action\":\"add\",\"ticket\":{\"projectId\":1,\"ticketId\":\"2\",\"title\":\"\\u0000\"}}",
        "{\"action\":\"close\",\"ticket\":{\"ticketId\":1.5,\"title\":7,\"softDeadline\":\"2023-02-29\"}}",
        "{\"action\":",
        "\xff",
        "",
    };

    for (size_t s = 0; s < sizeof(samples) / sizeof(samples[0]); s++) {
        struct event whole;
        make_event(&whole, samples[s]);
        assert_true(event_decode(&whole));
        bool failed = true;
        for (long n = 0; failed; n++) {
            struct event event;
            make_event(&event, samples[s]);
            fail_allocations_after(n);
            bool good = event_decode(&event);
            failed = stop_failing_allocations();
            if (good) {
                assert_int_equal(event.refusal, whole.refusal);
                assert_int_equal(event.extra_count, whole.extra_count);
                assert_int_equal(event.values[FIELD_ticket_id].number, whole.values[FIELD_ticket_id].number);
            } else {
                assert_true(failed);
            }
            assert_string_not_equal(event_reason(&event), "");
            event_free(&event);
            assert_true(n < 1000);
        }
        event_free(&whole);
    }
}

/* Reads back how many records there are, each whole. */
static int records_in(const char *path)
{
    struct spool_contents contents;
    struct segment_reader reader;
    struct event event;
    struct stat status;
    const char *why;
    int count = 0, directory = spool_directory(path, &why);

    if (directory < 0)
        return 0;
    assert_true(spool_list(directory, &contents));
    for (size_t i = 0; i < contents.count; i++) {
        int fd = spool_segment(directory, contents.segments[i]);
        assert_int_equal(fstat(fd, &status), 0);
        assert_int_equal(segment_open(&reader, fd, status.st_size), SEGMENT_END);
        while (segment_next(&reader, &event) == SEGMENT_RECORD) {
            count++;
            event_free(&event);
        }
        assert_int_equal(reader.at, reader.size);
        close(fd);
    }
    spool_contents_free(&contents);
    close(directory);
    return count;
}

static void remove_spool(const char *path)
{
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

/* At whichever allocation: what was said to be spooled is there, and nothing unfinished beside it. */
static void append_without_memory(bool prepared)
{
    char folder[] = "/tmp/ticketd-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/spool", folder);
    struct conf conf = {.spool_dir = path, .spool_max_mb = 1};
    struct spool *spool = spool_open(&conf);
    int expected = 0;
    bool failed = true;

    log_setup(LOG_ERROR, LOG_LOGFMT);
    if (prepared)
        spool_prepare(spool);
    for (long n = 0; failed; n++) {
        struct event events[2], *pointers[2] = {&events[0], &events[1]};
        make_event(&events[0], "{}");
        make_event(&events[1], "[]");
        event_refuse(&events[1], OUTCOME_UNPROCESSABLE, "", "must be an object");
        fail_allocations_after(n);
        spool_append(spool, pointers, 2);
        failed = stop_failing_allocations();
        bool spooled = events[0].outcome == OUTCOME_SPOOLED;
        assert_int_equal(events[0].outcome, spooled ? OUTCOME_SPOOLED : OUTCOME_UNAVAILABLE);
        assert_int_equal(events[1].outcome, spooled ? OUTCOME_UNPROCESSABLE : OUTCOME_UNAVAILABLE);
        assert_true(spooled || failed);
        expected += spooled ? 2 : 0;
        assert_int_equal(records_in(path), expected);
        assert_int_equal(spool_holds(spool), expected > 0);
        event_free(&events[0]);
        event_free(&events[1]);
        assert_true(n < 1000);
    }
    assert_true(expected > 0);
    spool_close(spool);
    remove_spool(folder);
}

/* By a process that ends then. */
static enum outcome append_one(const struct conf *conf, const char *body)
{
    struct spool *spool = spool_open(conf);
    struct event event, *events[1] = {&event};
    make_event(&event, body);
    spool_append(spool, events, 1);
    enum outcome outcome = event.outcome;
    event_free(&event);
    spool_close(spool);
    return outcome;
}

static void last_error(const char *path, enum spool_lock lock, struct spool_note *note)
{
    const char *why;
    int directory = spool_directory(path, &why), file = spool_note(directory, lock);
    spool_read_note(file, note);
    close(file);
    close(directory);
}

/* At whichever allocation of the drain: nothing is drained, nothing is lost, and it can go on. Nobody listens where its
 * database should be. */
static void test_draining_without_memory(void **state)
{
    (void)state;
    char path[] = "/tmp/ticketd-test-XXXXXX", database[64];
    assert_non_null(mkdtemp(path));
    snprintf(database, sizeof(database), "host=%s dbname=x user=x", path);
    struct conf conf = {.spool_dir = path, .spool_max_mb = 1, .batch = 1, .db_timeout_ms = 1, .database = database};
    _Atomic int64_t stop_at = INT64_MAX;
    struct spool *spool = spool_open(&conf);
    struct event events[3], *pointers[3];
    bool failed = true;

    setenv("PGPASSFILE", "/nonexistent", 1);
    log_setup(LOG_ERROR, LOG_LOGFMT);
    for (int i = 0; i < 3; i++) {
        make_event(&events[i], "{\"action\":\"add\",\"ticket\":{\"projectId\":1,\"ticketId\":1}}");
        pointers[i] = &events[i];
    }
    spool_append(spool, pointers, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(events[i].outcome, OUTCOME_SPOOLED);
        event_free(&events[i]);
    }
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (long n = 0; failed; n++) {
        struct store *store = store_open(&conf, &stop_at);
        struct drain *drain = drain_open(&conf, store, NULL, NULL);
        struct spool_note note;
        int before = redirect(nowhere);
        fail_allocations_after(n);
        enum drained result = drain_run(drain);
        failed = stop_failing_allocations();
        put_back(before);
        assert_true(result == DRAIN_STOPPED || (result == DRAIN_FAILED && failed));
        last_error(path, SPOOL_DRAIN, &note);
        assert_string_equal(note.error, result == DRAIN_FAILED
                                            ? "Cannot allocate memory"
                                            : "the database does not take its events: see the log, and ticketd check");
        assert_int_equal(records_in(path), 3);
        drain_close(drain);
        store_close(store);
        assert_true(n < 5000);
    }
    close(nowhere);
    spool_close(spool);
    remove_spool(path);
}

static void test_appending_without_memory(void **state)
{
    (void)state;
    append_without_memory(false);
    append_without_memory(true);
}

/* At whichever allocation: the command says that it could not do its work, and its status says so too. */
static void test_commands_without_memory(void **state)
{
    (void)state;
    static char status[] = "status", drain[] = "drain";
    char path[] = "/tmp/ticketd-test-XXXXXX", database[64];
    assert_non_null(mkdtemp(path));
    snprintf(database, sizeof(database), "host=%s dbname=x user=x", path);
    struct conf conf = {.spool_dir = path, .spool_max_mb = 1, .batch = 1, .db_timeout_ms = 1, .database = database};

    assert_int_equal(append_one(&conf, "{}"), OUTCOME_SPOOLED);
    fflush(stdout);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC), output = dup(STDOUT_FILENO);
    for (int drains = 0; drains < 2; drains++) {
        bool failed = true;
        for (long n = 0; failed; n++) {
            char *word = drains ? drain : status, text[4096];
            int file = memfd_create("errors", MFD_CLOEXEC), before = redirect(file);
            dup2(nowhere, STDOUT_FILENO);
            fail_allocations_after(n);
            int result = command_spool(&conf, 1, &word);
            failed = stop_failing_allocations();
            fflush(stdout);
            dup2(output, STDOUT_FILENO);
            put_back(before);
            read_back(file, text, sizeof(text));
            assert_int_equal(result, drains || *text ? EXIT_CANNOT_RUN : EXIT_SUCCESS);
            if (failed && n < (drains ? 3 : 1)) /* nothing is open yet */
                assert_string_equal(text, "ticketd: out of memory\n");
            assert_true(n < 5000);
        }
    }
    close(nowhere);
    close(output);
    remove_spool(path);
}

/* ---- a disk that fails */

static int good_syncs = -1; /* fdatasync(2) goes well so often and then fails once; below 0: it never fails */

int fdatasync(int fd)
{
    if (good_syncs >= 0 && good_syncs-- == 0) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* How long each segment is, the oldest first. Returns how many there are. */
static size_t segment_sizes(const char *path, int64_t sizes[3])
{
    struct spool_contents contents;
    const char *why;
    int directory = spool_directory(path, &why);

    assert_true(spool_list(directory, &contents));
    size_t count = contents.count;
    assert_in_range(count, 0, 3);
    for (size_t i = 0; i < count; i++) {
        struct stat status;
        int fd = spool_segment(directory, contents.segments[i]);
        assert_int_equal(fstat(fd, &status), 0);
        sizes[i] = status.st_size;
        close(fd);
    }
    spool_contents_free(&contents);
    close(directory);
    return count;
}

/* A segment whose fsync failed gets nothing more, from no process: the empty one that was put behind it stays, also
 * where an append to it fails. A segment that such an append has made is removed. */
static void test_segments_after_a_failed_append(void **state)
{
    (void)state;
    char path[] = "/tmp/ticketd-test-XXXXXX", *large = malloc((1 << 20) + 1);
    assert_non_null(mkdtemp(path));
    struct conf conf = {.spool_dir = path, .spool_max_mb = 1};
    int64_t before[3], after[3];

    memset(large, 'x', 1 << 20);
    large[1 << 20] = '\0';
    assert_int_equal(append_one(&conf, large), OUTCOME_UNAVAILABLE);
    assert_int_equal(segment_sizes(path, before), 0);

    good_syncs = 1; /* the new segment's */
    assert_int_equal(append_one(&conf, "{}"), OUTCOME_UNAVAILABLE);
    assert_int_equal(segment_sizes(path, before), 2);
    assert_int_equal(append_one(&conf, large), OUTCOME_UNAVAILABLE);
    assert_int_equal(append_one(&conf, "[]"), OUTCOME_SPOOLED);
    assert_int_equal(segment_sizes(path, after), 2);
    assert_int_equal(after[0], before[0]);
    assert_true(after[1] > before[1]);
    free(large);
    remove_spool(path);
}

/* ---- files in the way */

static const struct {
    const char *name; /* of what is in the way */
    char kind;        /* directory, link to itself, socket, or a file that is no segment */
    bool appends;     /* all the same */
    const char *why;  /* the drain fails */
} obstacles[] = {
    {"append.lock", 'd', false, "Is a directory"},
    {"drain.lock", 'd', true, "Is a directory"},
    {"5.segment", 'l', false, "Too many levels of symbolic links"}, /* the directory cannot be listed */
    {"5.segment", 's', true, "No such device or address"},          /* a segment cannot be opened */
    {"5.segment", 'd', true, "Is a directory"},                     /* or read */
    {"5.segment", 'f', true, "Is a directory"},                     /* or set aside: 5.bad is in the way */
};

static void put_in_the_way(const char *path, char kind)
{
    char folder[100];
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    switch (kind) {
    case 'd':
        assert_int_equal(mkdir(path, 0700), 0);
        break;
    case 'l':
        assert_int_equal(symlink(strrchr(path, '/') + 1, path), 0);
        break;
    case 's':
        strcpy(address.sun_path, path);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        close(fd);
        break;
    default:
        snprintf(folder, sizeof(folder), "%.*s/5.bad", (int)(strrchr(path, '/') - path), path);
        assert_int_equal(mkdir(folder, 0700), 0);
        close(open(path, O_WRONLY | O_CREAT, 0600));
        assert_int_equal(truncate(path, 100), 0);
    }
}

/* What is in the way hinders what needs it and nothing else, is named, and is no hindrance once it is gone. */
static void test_files_in_the_way(void **state)
{
    (void)state;
    log_setup(LOG_ERROR, LOG_LOGFMT);
    for (size_t i = 0; i < sizeof(obstacles) / sizeof(obstacles[0]); i++) {
        char folder[] = "/tmp/ticketd-test-XXXXXX", path[64], name[100];
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/spool", folder);
        snprintf(name, sizeof(name), "%s/%s", path, obstacles[i].name);
        struct conf conf = {.spool_dir = path, .spool_max_mb = 1, .batch = 10, .db_timeout_ms = 100};
        _Atomic int64_t stop_at = INT64_MAX;
        struct spool *spool = spool_open(&conf);
        struct store *store = store_open(&conf, &stop_at); /* never connects: there will be no record to drain */
        struct drain *drain = drain_open(&conf, store, NULL, NULL);
        struct event event, *events[1] = {&event};
        struct spool_note note;

        spool_prepare(spool);
        if (strcmp(obstacles[i].name, "append.lock") == 0) { /* it is wanted for a segment only */
            char segment[100];
            snprintf(segment, sizeof(segment), "%s/5.segment", path);
            close(open(segment, O_WRONLY | O_CREAT, 0600));
        }
        put_in_the_way(name, obstacles[i].kind);
        assert_int_equal(drain_run(drain), DRAIN_FAILED);
        last_error(path, SPOOL_DRAIN, &note);
        assert_string_equal(note.error, strcmp(obstacles[i].name, "drain.lock") == 0 ? "" : obstacles[i].why);

        make_event(&event, "{}");
        spool_append(spool, events, 1);
        assert_int_equal(event.outcome, obstacles[i].appends ? OUTCOME_SPOOLED : OUTCOME_UNAVAILABLE);
        assert_true(spool_holds(spool));
        last_error(path, SPOOL_APPEND, &note);
        assert_string_equal(note.error, obstacles[i].kind == 'l' ? obstacles[i].why : "");
        event_free(&event);

        remove_spool(path);
        make_event(&event, "{}");
        spool_append(spool, events, 1);
        assert_int_equal(event.outcome, OUTCOME_SPOOLED);
        assert_int_equal(records_in(path), 1);
        event_free(&event);
        remove_spool(path);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(drain_run(drain), DRAINED);
        assert_false(spool_holds(spool));

        drain_close(drain);
        store_close(store);
        spool_close(spool);
        remove_spool(folder);
    }
}

static void test_opening_without_memory(void **state)
{
    (void)state;
    char folder[] = "/tmp/ticketd-test-XXXXXX", segment[64];
    assert_non_null(mkdtemp(folder));
    snprintf(segment, sizeof(segment), "%s/5.segment", folder);
    struct conf conf = {.spool_dir = folder, .spool_max_mb = 1};
    bool failed = true;

    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        struct spool *spool = spool_open(&conf);
        struct drain *drain = drain_open(&conf, NULL, NULL, NULL);
        failed = stop_failing_allocations();
        assert_true((spool && drain) || failed);
        drain_close(drain);
        spool_close(spool);
        assert_true(n < 10);
    }

    /* What it says about itself, too, needs memory, and where there is none that is what it says. */
    struct spool *spool = spool_open(&conf);
    close(open(segment, O_WRONLY | O_CREAT, 0600));
    assert_null(spool_problem(spool));
    failed = true;
    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        const char *problem = spool_problem(spool);
        failed = stop_failing_allocations();
        assert_string_equal(problem ? problem : "", failed ? "Cannot allocate memory" : "");
        assert_true(n < 10);
    }
    assert_int_equal(truncate(segment, 1 << 20), 0);
    assert_non_null(strstr(spool_problem(spool), "TICKETD_SPOOL_MAX_MB"));
    spool_close(spool);
    remove_spool(folder);
}

/* Segments without a whole record need no database to be drained; what might have been one is kept aside. */
static void test_segments_without_records(void **state)
{
    (void)state;
    size_t ends[RECORDS];
    struct text bytes = make_segment(ends);
    const struct {
        size_t from, length;
        bool aside;
    } files[] = {
        {0, 0, false},                      /* nothing */
        {0, SEGMENT_HEAD - 1, false},       /* a part of the head */
        {0, SEGMENT_HEAD, false},           /* no record */
        {0, SEGMENT_HEAD + 10, false},      /* a part of one */
        {0, ends[0] - 1, false},            /* almost all of it */
        {1, SEGMENT_HEAD + 10, true},       /* no segment */
        {SEGMENT_HEAD, SEGMENT_HEAD, true}, /* likewise */
    };
    char path[] = "/tmp/ticketd-test-XXXXXX";
    assert_non_null(mkdtemp(path));
    struct conf conf = {.spool_dir = path, .spool_max_mb = 1, .batch = 10, .db_timeout_ms = 100};
    _Atomic int64_t stop_at = INT64_MAX;
    struct store *store = store_open(&conf, &stop_at);
    struct drain *drain = drain_open(&conf, store, NULL, NULL);
    size_t aside = 0;

    log_setup(LOG_ERROR, LOG_LOGFMT);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct spool_contents contents;
        char name[100];
        const char *why;
        snprintf(name, sizeof(name), "%s/%zu.segment", path, i + 1);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        assert_int_equal(write(fd, bytes.bytes + files[i].from, files[i].length), files[i].length);
        close(fd);
        assert_int_equal(drain_run(drain), DRAINED);
        aside += files[i].aside;
        int directory = spool_directory(path, &why);
        assert_true(spool_list(directory, &contents));
        assert_int_equal(contents.count, 0);
        assert_int_equal(contents.bad, aside);
        spool_contents_free(&contents);
        close(directory);
    }
    drain_close(drain);
    store_close(store);
    remove_spool(path);
    text_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding_without_memory),        cmocka_unit_test(test_appending_without_memory),
        cmocka_unit_test(test_draining_without_memory),        cmocka_unit_test(test_commands_without_memory),
        cmocka_unit_test(test_segments_after_a_failed_append), cmocka_unit_test(test_files_in_the_way),
        cmocka_unit_test(test_segments_without_records),       cmocka_unit_test(test_opening_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
