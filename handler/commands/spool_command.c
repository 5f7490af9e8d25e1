/* `ticketd spool status|list|drop|drain|add|adopt`: what waits in the spool, an operator's ways out, and bringing it
 * back by hand, for installations without a daemon: CGI processes append, none of them stays to drain. */
#include "base/clock.h"
#include "base/text.h"
#include "commands/commands.h"
#include "commands/progress.h"
#include "spool/spool.h"
#include "store/drain.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE    100 /* tickets that are read at once */
#define HELD_MS 100 /* how often what is held is tried */

static int failed(const char *why)
{
    fprintf(stderr, "ticketd: %s\n", why);
    return EXIT_CANNOT_RUN;
}

static void print_time(const char *name, int64_t time)
{
    char when[CLOCK_TEXT];

    if (!time)
        return;
    clock_text(time, when);
    printf("%-11s %s  %" PRId64 " s ago\n", name, when, (clock_realtime_us() - time) / 1000000);
}

static const char *look_at_spool(const struct conf *conf, struct spool *spool, struct spool_status *status)
{
    struct stat file;
    const char *why = spool_look(spool, status);

    return !why && stat(conf->spool_dir, &file) == 0 && !S_ISDIR(file.st_mode) ? "Not a directory" : why;
}

static int show_status(const struct conf *conf, struct spool *spool, const char *ignored)
{
    struct spool_status status;
    const char *unread = look_at_spool(conf, spool, &status), *problem = spool_problem(spool);

    (void)ignored;
    if (unread)
        return failed(unread);
    printf("%-11s %s\n%-11s %" PRId64 "\n%-11s %" PRId64 "\n", "directory", conf->spool_dir, "events", status.events,
           "tickets", status.tickets);
    printf("%-11s %s\n", "database", *status.identity ? status.identity : "any");
    print_time("oldest", status.oldest);
    printf("%-11s %" PRId64 " (ticketd spool list)\n", "held", status.held);
    print_time("held since", status.held_since);
    printf("%-11s %" PRId64 " of %d MiB\n", "bytes", status.bytes, conf->spool_max_mb);
    printf("%-11s %" PRId64 " (*.bad)\n", "kept aside", status.aside);
    printf("%-11s %s\n", "takes more",
           problem          ? problem
           : status.missing ? "yes: ticketd makes the directory, which is missing"
                            : "yes");
    bool nobody = status.missing || spool_begin_drain(spool);
    printf("%-11s %s\n", "drained by", nobody ? "nobody now" : "another process, while the database takes events");
    return EXIT_SUCCESS;
}

/* A line for each ticket that waits, tab-separated. */
static int list_tickets(const struct conf *conf, struct spool *spool, const char *ignored)
{
    struct spool_ticket tickets[PAGE], after = {.project = INT64_MIN, .ticket = INT64_MIN, .lone = INT64_MIN};
    struct spool_status status;
    const char *unread = look_at_spool(conf, spool, &status);
    size_t count;

    (void)ignored;
    if (unread)
        return failed(unread);
    puts("project\tticket\tevents\tsince\ttries\tnext try\toldest event\twhy");
    while ((count = spool_tickets(spool, &after, tickets, PAGE)) > 0) {
        for (size_t i = 0; i < count; i++) {
            char since[CLOCK_TEXT], next[CLOCK_TEXT] = "now", id[37];
            const struct spool_ticket *t = &tickets[i];
            struct text why = {0};
            clock_text(t->since, since);
            if (t->next_try > clock_realtime_us())
                clock_text(t->next_try, next);
            clock_uuid_text(t->oldest, id);
            text_append(&why, t->lone ? "a refused body: " : "");
            text_append(&why, *t->why ? "" : "the database has not taken it yet");
            text_append_visible(&why, t->why, strlen(t->why));
            printf("%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%s\t%u\t%s\t%s\t%s\n", t->project, t->ticket, t->events,
                   since, t->tries, next, id, why.bytes && !why.failed ? why.bytes : "");
            text_free(&why);
        }
        after = tickets[count - 1];
    }
    return EXIT_SUCCESS;
}

/* To vcc.rejected_events, by the same store as all. */
static int drop(const struct conf *conf, struct spool *spool, const char *argument)
{
    _Atomic int64_t stop_at = INT64_MAX;
    uint8_t id[16];
    struct event event, *events[] = {&event};

    if (!clock_uuid_parse(argument, id))
        return failed("spool drop takes the identifier of an event: see ticketd spool list");
    if (!spool_find(spool, id, &event))
        return failed("no such event waits in the spool");
    struct store *store = store_open(conf, &stop_at, NULL);
    event_refuse(&event, OUTCOME_UNPROCESSABLE, "", "dropped from the spool by hand");
    event.refusal = OUTCOME_UNPROCESSABLE;
    if (store)
        store_apply(store, events, 1, clock_monotonic_ms() + conf->db_timeout_ms);
    bool done = event.outcome != OUTCOME_NONE && spool_forget(spool, events, 1);
    if (done)
        printf("%s is set aside: ticketd rejected list shows it\n", argument);
    event_free(&event);
    store_close(store);
    return done ? EXIT_SUCCESS : failed("it stays in the spool: the database does not take it now, see ticketd check");
}

static int drain_all(const struct conf *conf, struct spool *spool, const char *ignored)
{
    _Atomic int64_t stop_at = INT64_MAX;
    struct spool_status status;
    const char *problem = look_at_spool(conf, spool, &status);
    struct progress progress;
    uint64_t total = 0;

    (void)ignored;
    if (!problem && status.events == 0) {
        fprintf(stderr, "ticketd: the spool is empty: there is nothing to drain\n");
        return EXIT_SUCCESS;
    }
    if (problem || !spool_begin_drain(spool))
        return failed(problem ? problem : "another process drains it");
    struct store *store = store_open(conf, &stop_at, NULL);
    struct drain *drain = store ? drain_open(conf, store, spool, 0, 1) : NULL;
    (void)!spool_hurry(spool); /* whoever asks for it does not wait for what was put off */
    progress_start(&progress, (uint64_t)status.events, "draining");
    for (int64_t now = clock_monotonic_ms(), until = now + conf->db_timeout_ms; drain && now < until;
         now = clock_monotonic_ms()) {
        size_t left = drain_step(drain, now + conf->db_timeout_ms);
        total += left;
        progress_update(&progress, total, total);
        if (left > 0) {
            until = clock_monotonic_ms() + conf->db_timeout_ms;
            continue;
        }
        if (store_is_away(store) || spool_look(spool, &status) || status.events == 0)
            break;
        clock_sleep_ms(HELD_MS); /* others hold what it needs, for a moment or for long */
        (void)!spool_hurry(spool);
    }
    double seconds = progress_end(&progress);
    printf("%" PRIu64 " event%s drained in %.1f s\n", total, total == 1 ? "" : "s", seconds);
    problem = look_at_spool(conf, spool, &status);
    const char *more = !store || store_was_away(store) ? "check" : "spool list";
    drain_close(drain);
    store_close(store);
    if (problem)
        return failed(problem);
    if (status.events > 0) {
        fprintf(stderr, "ticketd: %" PRId64 " event%s of %" PRId64 " ticket%s stay%s: see ticketd %s\n", status.events,
                status.events == 1 ? "" : "s", status.tickets, status.tickets == 1 ? "" : "s",
                status.events == 1 ? "s" : "", more);
        return EXIT_CANNOT_RUN;
    }
    fprintf(stderr, "ticketd: the spool is empty\n");
    return EXIT_SUCCESS;
}

static int add(const struct conf *conf, struct spool *spool, const char *file)
{
    uint64_t added = 0;

    (void)conf;
    if (faccessat(AT_FDCWD, file, R_OK, AT_EACCESS) != 0) {
        fprintf(stderr, "ticketd: cannot read %s: %s\n", file, strerror(errno));
        return EXIT_CANNOT_RUN;
    }
    bool good = spool_add(spool, file, &added);
    printf("%" PRIu64 " event%s in the spool now\n", added, added == 1 ? " is" : "s are");
    return good ? EXIT_SUCCESS : EXIT_CANNOT_RUN;
}

/* After a move to another database. */
static int adopt(const struct conf *conf, struct spool *spool, const char *ignored)
{
    _Atomic int64_t stop_at = INT64_MAX;
    struct store *store = store_open(conf, &stop_at, NULL);
    const char *identity = store ? store_identity(store, clock_monotonic_ms() + conf->db_timeout_ms) : NULL;
    bool good = identity != NULL;

    (void)ignored;
    if (good) {
        spool_is_for(spool, identity);
        good = spool_adopt(spool);
        printf("%s: what waits in the spool is meant for it\n", identity);
    }
    store_close(store);
    return good ? EXIT_SUCCESS : failed("the spool stays as it is: see ticketd check");
}

static const struct {
    const char *word;
    int (*run)(const struct conf *conf, struct spool *spool, const char *argument);
    bool needs_argument;
} words[] = {
    {"status", show_status, false},
    {"list", list_tickets, false},
    {"drop", drop, true},
    {"drain", drain_all, false},
    {"add", add, true},
    {"adopt", adopt, false},
};

int command_spool(const struct conf *conf, int argc, char **argv)
{
    size_t word = 0;

    if (!*conf->spool_dir)
        return failed("TICKETD_SPOOL_DIR is not set: there is no spool");
    while (strcmp(words[word].word, argv[0]) != 0)
        word++;
    if (words[word].needs_argument != (argc > 1)) {
        fprintf(stderr, "ticketd: spool %s %s\n", argv[0],
                argc > 1 ? "takes no argument" : "takes an argument: see ticketd --help");
        return EXIT_CANNOT_RUN;
    }
    struct spool *spool = spool_open(conf);
    if (!spool)
        return failed("out of memory");
    int result = words[word].run(conf, spool, argc > 1 ? argv[1] : NULL);
    spool_close(spool);
    return result;
}
