/* `ticketd check`: what an administrator wants to know before the first event comes, or when none comes any more. */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "commands/check_socket.h"
#include "commands/commands.h"
#include "event/auth.h"
#include "serve/dashboard.h"
#include "spool/spool.h"
#include "spool/spool_survey.h"
#include "store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

struct report {
    const struct conf *conf;
    bool wrong;
};

/* "database   wrong: why, and what to do"; of a text of several lines the others stand below. */
static void say(void *context, const char *name, const char *grade, const char *words)
{
    struct report *report = context;

    printf("%-10s %s%s", name, grade, *words ? ": " : "");
    for (; *words; words += *words == '\n') {
        size_t length = strcspn(words, "\n");
        struct text line = {0};
        text_append_visible(&line, words, length);
        printf("%s", line.failed || !line.bytes ? "" : line.bytes);
        text_free(&line);
        words += length;
        if (*words)
            printf("\n%-11s", "");
    }
    putchar('\n');
    fflush(stdout);
    report->wrong = report->wrong || strcmp(grade, "wrong") == 0;
}

/* The same with the words of a text, which is freed. */
static void say_text(struct report *report, const char *name, const char *grade, struct text *words)
{
    say(report, name, grade, words->failed ? "out of memory" : words->bytes ? words->bytes : "");
    text_free(words);
}

static void check_socket(struct report *report)
{
    struct text words = {0};
    const char *grade = check_socket_look(report->conf->listen, &words);
    say_text(report, "socket", grade, &words);
}

/* Tokens, cipher and keys; what there is to be warned of, or wrong, auth.c says itself. */
static void check_access(struct report *report)
{
    struct text said = {0}, words = {0};

    log_redirect(&said);
    struct auth *auth = auth_open(report->conf);
    log_redirect(NULL);
    bool open = auth && auth_token_count(auth) == 0;
    if (open)
        text_append(&words, "TICKETD_AUTH=none: whoever reaches the location can send events");
    else if (auth)
        text_append_format(&words, "%zu token%s", auth_token_count(auth), auth_token_count(auth) == 1 ? "" : "s");
    if (auth && auth_encrypted(auth))
        text_append_format(&words, "; bodies are encrypted with %s, %zu key%s", report->conf->cipher,
                           auth_key_count(auth), auth_key_count(auth) == 1 ? "" : "s");
    else if (auth)
        text_append(&words, "; bodies are not encrypted");
    if (said.length) {
        text_append(&words, words.length ? "\n" : "");
        text_append(&words, said.bytes);
    }
    say_text(report, "access", !auth ? "wrong" : open || said.length ? "note" : "ok", &words);
    text_free(&said);
    auth_close(auth);
}

/* Bytes that the disk of a directory, or of what is above one that is not there yet, has for ordinary users. */
static int64_t room_on_disk(const char *path)
{
    struct statvfs volume;
    char *copy = strdup(path), *slash;
    int64_t room = -1;

    while (copy && room < 0) {
        if (statvfs(*copy ? copy : "/", &volume) == 0)
            room = (int64_t)volume.f_bavail * (int64_t)volume.f_frsize;
        else if ((slash = strrchr(copy, '/')))
            *slash = '\0';
        else
            break;
    }
    free(copy);
    return room;
}

static void check_spool(struct report *report)
{
    const char *path = report->conf->spool_dir;
    struct spool_survey survey = {0};
    struct text words = {0};

    if (!*path) {
        say(report, "spool", "note",
            "TICKETD_SPOOL_DIR is not set: while the database is away events are answered 503");
        return;
    }
    struct spool *spool = spool_open(report->conf);
    const char *problem = spool ? spool_problem(spool) : "out of memory", *grade = problem ? "wrong" : "ok";
    spool_survey_measure(&survey, path);
    int64_t most = (int64_t)report->conf->spool_max_mb * 1048576, room = room_on_disk(path);

    text_append_format(&words, "%" PRIu64 " event%s wait%s in ", survey.events, survey.events == 1 ? "" : "s",
                       survey.events == 1 ? "s" : "");
    text_append(&words, path);
    if (problem) {
        text_append(&words, ", which can take no more: ");
        text_append(&words, problem);
    } else if (room >= 0 && room < most - survey.bytes) {
        grade = "note";
        text_append_format(&words, "; the disk has room for %" PRId64 " MB, less than TICKETD_SPOOL_MAX_MB=%d",
                           room / 1048576, report->conf->spool_max_mb);
    }
    say_text(report, "spool", grade, &words);
    spool_survey_free(&survey);
    spool_close(spool);
}

static void check_database(struct report *report)
{
    _Atomic int64_t stop_at = INT64_MAX;
    struct store *store = store_open(report->conf, &stop_at);

    if (store)
        store_check(store, clock_monotonic_ms() + report->conf->db_timeout_ms, say, report);
    else
        say(report, "database", "wrong", "out of memory");
    store_close(store);
}

int command_check(const struct conf *conf, int argc, char **argv)
{
    struct report report = {.conf = conf};
    struct text zone = {0};

    (void)argc;
    (void)argv;
    text_append(&zone, "times without an offset are those of ");
    text_append(&zone, conf->time_zone);
    say_text(&report, "settings", "ok", &zone); /* conf_read, which comes first, found them good */
    check_socket(&report);
    check_access(&report);
    check_spool(&report);
    check_database(&report);
    if (conf->report) {
        const char *problem = dashboard_problem(conf);
        say(&report, "reports", problem ? "wrong" : "ok", problem ? problem : "the dashboard has its data");
    }
    return report.wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
