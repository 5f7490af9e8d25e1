/* For the tests of spool/: a spool in a folder of its own, and events for it. Include cmocka.h before. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "spool/spool_file.h"

#define TEST(name)    cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
#define LANES(number) ((struct lanes){number, false})

static char folder[64], directory[80];
static struct conf conf;
static struct spool *spool;
static struct text said; /* what was logged */

static inline int setup(void **state)
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

static inline void run(const char *format, const char *argument)
{
    char command[600];
    snprintf(command, sizeof(command), format, argument);
    assert_int_equal(system(command), 0);
}

static inline int teardown(void **state)
{
    (void)state;
    spool_close(spool);
    log_redirect(NULL);
    text_free(&said);
    run("umount -l '%s' 2>/dev/null; true", directory); /* of a test that failed */
    run("rm -rf '%s'", folder);
    return 0;
}

static inline bool has_said(const char *words)
{
    return said.bytes && strstr(said.bytes, words);
}

static inline int times_said(const char *words)
{
    int count = 0;
    for (const char *at = said.bytes; at && (at = strstr(at, words)); at++)
        count++;
    return count;
}

static inline const char *in_directory(const char *name)
{
    static char path[200];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static inline int64_t file_bytes(void)
{
    static const char *const names[] = {"spool.db", "spool.db-wal"};
    struct stat status;
    int64_t bytes = 0;
    for (size_t i = 0; i < 2; i++)
        bytes += stat(in_directory(names[i]), &status) == 0 ? status.st_size : 0;
    return bytes;
}

/* ---- events */

static inline void make_event(struct event *event, int64_t ticket, const char *body, size_t length)
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
static inline void make_numbered(struct event *event, int64_t ticket, int number)
{
    char body[20];
    make_event(event, ticket, body, (size_t)snprintf(body, sizeof(body), "%d", number));
}

static inline enum outcome append_one(struct spool *into, int64_t ticket, const char *body, size_t length)
{
    struct event event, *events[1] = {&event};
    make_event(&event, ticket, body, length);
    spool_append(into, events, 1);
    enum outcome outcome = event.outcome;
    event_free(&event);
    return outcome;
}

static inline enum outcome append_short(struct spool *into, int64_t ticket)
{
    return append_one(into, ticket, "{}", 2);
}

/* Numbers from..to, each by the ticket of its remainder, in one batch. */
static inline void append_numbers(struct spool *into, int from, int to, int tickets)
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

static inline bool waits(struct spool *in, int64_t ticket)
{
    struct event event;
    make_event(&event, ticket, "", 0);
    bool result = spool_waits(in, &event);
    event_free(&event);
    return result;
}

/* What is taken, forgotten where `forget` says so. Returns how many. */
static inline size_t drain(struct spool *from, size_t most, bool forget)
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

static inline int64_t events_in(struct spool *in)
{
    struct spool_status status;
    assert_null(spool_look(in, &status));
    return status.events;
}

static inline int files_aside(void)
{
    struct spool_status status;
    assert_null(spool_look(spool, &status));
    return (int)status.aside;
}

/* Runs it in another process, which ends with this one. */
static inline pid_t begin(void (*work)(int), int who)
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
