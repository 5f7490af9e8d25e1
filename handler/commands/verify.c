/* `ticketd verify [--rebuild] [PROJECT]`: is vcc.tickets what the journal says? */
#include "base/text.h"
#include "commands/commands.h"
#include "commands/tally.h"
#include "store/store_report.h"
#include "store/store_verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct verification {
    struct store *reader, *writer; /* writer: NULL without --rebuild */
    struct progress progress;
    struct verify_portion portion;
    uint64_t rebuilt;
    int64_t *tickets; /* of the portion, that differ */
    size_t count;
    bool failed;
};

/* A line that begins with the ticket. What follows may hold what anybody sent. */
static void print_line(struct verification *verification, int64_t ticket, const char *what, const char *how)
{
    struct text line = {0};

    text_append_format(&line, "project %" PRId64 " ticket %" PRId64 ": ", verification->portion.project, ticket);
    text_append_visible(&line, what, strlen(what));
    text_append(&line, how);
    progress_clear(&verification->progress);
    verification->failed |= line.failed || puts(line.bytes) < 0;
    text_free(&line);
}

/* Notes the ticket, once, for --rebuild: it is done when the portion is read. */
static void note_difference(void *context, const struct verify_difference *difference)
{
    struct verification *verification = context;
    struct text how = {0};

    if (*difference->held)
        text_append_format(&how, ": the journal says %s, the table %s", difference->journal, difference->held);
    else
        text_append_format(&how, ": %s", difference->journal);
    print_line(verification, difference->ticket, difference->what, how.failed ? "" : how.bytes);
    text_free(&how);
    if (verification->count > 0 && verification->tickets[verification->count - 1] == difference->ticket)
        return;
    int64_t *more = realloc(verification->tickets, (verification->count + 1) * sizeof(*more));
    verification->failed |= !more;
    if (more) {
        verification->tickets = more;
        more[verification->count++] = difference->ticket;
    }
}

static bool rebuild(struct verification *verification)
{
    char answer[256];

    for (size_t i = 0; i < verification->count; i++) {
        int64_t ticket = verification->tickets[i];
        if (!store_rebuild_ticket(verification->writer, verification->portion.project, ticket, answer))
            return false;
        bool rebuilt = strcmp(answer, VERIFY_REBUILT) == 0;
        verification->rebuilt += rebuilt;
        print_line(verification, ticket, rebuilt ? answer : "not rebuilt: ", rebuilt ? "" : answer);
    }
    return true;
}

static bool verify_project(struct verification *verification, int64_t project)
{
    struct verify_portion *portion = &verification->portion;
    bool good = true;

    portion->project = project;
    portion->begun = portion->ended = false;
    while (good && !portion->ended) {
        verification->count = 0;
        good = store_verify_portion(verification->reader, portion, note_difference, verification) &&
               (!verification->writer || rebuild(verification)) && !verification->failed;
        if (verification->progress.total < portion->events) /* more came meanwhile */
            verification->progress.total = portion->events;
        progress_update(&verification->progress, portion->events, portion->events);
    }
    return good;
}

static bool verify_all(struct verification *verification, const int64_t *project)
{
    struct verify_project *projects = NULL;
    size_t count = 0;
    uint64_t events = 0;
    bool good = store_verify_projects(verification->reader, project, &projects, &count);

    if (good && project && count == 0) {
        fprintf(stderr, "ticketd: there is no ticket and no event of project %" PRId64 "\n", *project);
        good = false;
    }
    for (size_t i = 0; i < count && projects; i++)
        events += projects[i].events;
    progress_start(&verification->progress, events, "verifying");
    for (size_t i = 0; good && i < count; i++)
        good = verify_project(verification, projects[i].project);
    progress_end(&verification->progress);
    free(projects);
    return good;
}

static int tell_numbers(const struct verification *verification, bool whole)
{
    const struct verify_portion *portion = &verification->portion;

    tally_number("verified", portion->equal + portion->differ);
    tally_number("differ", portion->differ);
    if (verification->writer)
        tally_number("rebuilt", verification->rebuilt);
    tally_number("no history", portion->no_history);
    if (!whole)
        fprintf(stderr, "ticketd: stopped half-way in project %" PRId64 "\n", portion->project);
    return !whole ? EXIT_CANNOT_RUN : portion->differ > verification->rebuilt ? EXIT_SOME_LEFT : EXIT_SUCCESS;
}

/* `--rebuild` and a project, each at most once, in any order. */
static bool read_arguments(int argc, char **argv, bool *rebuilds, bool *one, int64_t *project)
{
    for (int i = 0; i < argc; i++) {
        bool option = strcmp(argv[i], "--rebuild") == 0;
        bool *given = option ? rebuilds : one;
        if (*given || (!option && !text_integer(argv[i], project))) {
            fprintf(stderr, "ticketd: '%s'%s\n", argv[i],
                    *given ? " is one too many" : ": PROJECT is a number, or --rebuild is meant");
            return false;
        }
        *given = true;
    }
    return true;
}

int command_verify(const struct conf *conf, int argc, char **argv)
{
    const _Atomic int64_t stop_at = INT64_MAX;
    const struct conf reading = store_report_conf(conf);
    struct verification verification = {0};
    bool rebuilds = false, one = false;
    int64_t project = 0;
    int status = EXIT_CANNOT_RUN;

    if (!read_arguments(argc, argv, &rebuilds, &one, &project))
        return EXIT_CANNOT_RUN;
    verification.reader = store_open(&reading, &stop_at, NULL);
    verification.writer = rebuilds ? store_open(conf, &stop_at, NULL) : NULL;
    if (verification.reader && (verification.writer || !rebuilds)) {
        bool whole = verify_all(&verification, one ? &project : NULL);
        if (whole || verification.portion.begun)
            status = tell_numbers(&verification, whole);
    } else {
        fprintf(stderr, "ticketd: out of memory\n");
    }
    free(verification.tickets);
    store_close(verification.reader);
    store_close(verification.writer);
    return status;
}
