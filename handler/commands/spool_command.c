/* `ticketd spool status|drain`: what waits in the spool, and bringing it back by hand, for installations without a
 * daemon: CGI processes append, none of them stays to drain. */
#include "base/clock.h"
#include "commands/commands.h"
#include "commands/progress.h"
#include "spool/spool.h"
#include "spool/spool_files.h"
#include "spool/spool_survey.h"
#include "store/drain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_time(const char *what, int64_t time, const char *text)
{
    char when[CLOCK_TEXT];
    clock_text(time, when);
    printf("%-11s %s  %s\n", what, when, text);
}

/* The later of what appending and what draining met. */
static void print_last_error(int directory)
{
    struct spool_note append, drain;
    int append_lock = spool_note(directory, SPOOL_APPEND), drain_lock = spool_note(directory, SPOOL_DRAIN);

    spool_read_note(append_lock, &append);
    spool_read_note(drain_lock, &drain);
    const struct spool_note *last = append.error_at > drain.error_at ? &append : &drain;
    if (last->error_at)
        print_time("last error", last->error_at, last->error);
    else
        printf("%-11s none\n", "last error");
    spool_close_file(append_lock);
    spool_close_file(drain_lock);
}

static bool is_being_drained(int directory)
{
    int lock = spool_lock(directory, SPOOL_DRAIN);
    spool_close_file(lock);
    return lock < 0;
}

static int status(const struct conf *conf, struct spool *spool)
{
    struct spool_survey survey = {0};
    struct spool_contents contents;
    const char *why;
    int directory = spool_directory(conf->spool_dir, &why);

    if (directory < 0 || !spool_list(directory, &contents)) {
        fprintf(stderr, "ticketd: %s cannot be read: %s\n", conf->spool_dir, directory < 0 ? why : spool_reason());
        spool_close_file(directory);
        return EXIT_CANNOT_RUN;
    }
    spool_survey_look(&survey, directory, &contents);
    const char *problem = spool_problem(spool);
    printf("%-11s %s\n%-11s %zu\n%-11s %" PRIu64 "\n%-11s %" PRId64 " of %d MiB\n", "directory", conf->spool_dir,
           "segments", contents.count, "events", survey.events, "bytes", contents.bytes, conf->spool_max_mb);
    if (survey.oldest) {
        char age[40];
        snprintf(age, sizeof(age), "%" PRId64 " s ago", (clock_realtime_us() - survey.oldest) / 1000000);
        print_time("oldest", survey.oldest, age);
    }
    printf("%-11s %zu segments (*.bad)\n", "kept aside", contents.bad);
    printf("%-11s %s\n", "takes more", problem ? problem : "yes");
    printf("%-11s %s\n", "drained by", is_being_drained(directory) ? "another process, now" : "nobody now");
    print_last_error(directory);
    spool_survey_free(&survey);
    spool_contents_free(&contents);
    close(directory);
    return EXIT_SUCCESS;
}

/* A drain that can be watched. */
struct watched {
    struct progress progress;
    uint64_t events;
    int64_t bytes;
};

static void show_progress(void *context, int64_t bytes_left)
{
    struct watched *watched = context;
    int64_t done = watched->bytes - bytes_left;
    progress_update(&watched->progress, done > 0 ? (uint64_t)done : 0, ++watched->events);
}

static const char *const endings[] = {
    [DRAINED] = "the spool is empty",
    [DRAIN_BUSY] = "another process drains it",
    [DRAIN_STOPPED] = "the database does not take its events now: what is left stays, in order",
    [DRAIN_FAILED] = "it cannot be drained: see the message above",
};

static int drain(const struct conf *conf)
{
    _Atomic int64_t stop_at = INT64_MAX;
    struct watched watched = {0};
    struct spool_contents contents;
    const char *why, *ending = "out of memory";
    enum drained result = DRAIN_FAILED;
    struct store *store = store_open(conf, &stop_at);
    struct drain *drain = store ? drain_open(conf, store, show_progress, &watched) : NULL;
    int directory = spool_directory(conf->spool_dir, &why);

    if (directory >= 0 && spool_list(directory, &contents)) {
        watched.bytes = contents.bytes;
        spool_contents_free(&contents);
    }
    spool_close_file(directory);
    if (drain) {
        progress_start(&watched.progress, (uint64_t)watched.bytes, "draining");
        result = drain_run(drain);
        double seconds = progress_end(&watched.progress);
        printf("%" PRIu64 " events drained in %.1f s\n", watched.events, seconds);
        ending = endings[result];
    }
    fprintf(stderr, "ticketd: %s\n", ending);
    drain_close(drain);
    store_close(store);
    return result == DRAINED ? EXIT_SUCCESS : EXIT_CANNOT_RUN;
}

int command_spool(const struct conf *conf, int argc, char **argv)
{
    (void)argc;
    if (!*conf->spool_dir) {
        fprintf(stderr, "ticketd: TICKETD_SPOOL_DIR is not set: there is no spool\n");
        return EXIT_CANNOT_RUN;
    }
    if (access(conf->spool_dir, F_OK) != 0 && errno == ENOENT) {
        printf("%s does not exist yet: nothing was ever spooled\n", conf->spool_dir);
        return EXIT_SUCCESS;
    }
    struct spool *spool = spool_open(conf);
    if (!spool) {
        fprintf(stderr, "ticketd: out of memory\n");
        return EXIT_CANNOT_RUN;
    }
    int result = strcmp(argv[0], "status") == 0 ? status(conf, spool) : drain(conf);
    spool_close(spool);
    return result;
}
