/* `ticketd rejected list|retry [SINCE [UNTIL]]`: vcc.rejected_events for people, and once more through the decoding and
 * the store of every event. */
#include "base/clock.h"
#include "base/text.h"
#include "commands/commands.h"
#include "commands/tally.h"
#include "event/decrypt.h"
#include "event/timestamp.h"
#include "store/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN 300 /* characters of a body */

/* The rows that are meant, and the connection that reads them. */
struct selection {
    int64_t since, until;
    _Atomic int64_t stop_at;
    struct store *store;
    struct store_list *list;
};

static bool parse_time(const char *name, const char *text, int64_t *time)
{
    const char *wrong = timestamp_parse(text, strlen(text), time);
    if (wrong)
        fprintf(stderr, "ticketd: %s '%s': %s\n", name, text, wrong);
    return !wrong;
}

/* What arrives after the start is left alone: a retry would never end where the sender tries again as well. */
static bool selection_open(struct selection *selection, const struct conf *conf, int argc, char **argv)
{
    *selection = (struct selection){.since = 0, .until = clock_realtime_us()};
    atomic_store(&selection->stop_at, INT64_MAX);
    if (argc > 1 && !parse_time("SINCE", argv[1], &selection->since))
        return false;
    if (argc > 2 && !parse_time("UNTIL", argv[2], &selection->until))
        return false;
    selection->store = store_open(conf, &selection->stop_at);
    selection->list =
        selection->store ? store_list_rejected(selection->store, selection->since, selection->until) : NULL;
    if (selection->list)
        return true;
    fprintf(stderr, "ticketd: out of memory\n");
    store_close(selection->store);
    return false;
}

/* False: the list was not read to its end. */
static bool selection_close(struct selection *selection)
{
    bool whole = store_list_close(selection->list);
    store_close(selection->store);
    return whole;
}

static int stopped(void)
{
    fprintf(stderr, "ticketd: stopped half-way: what is done is done. Give the same command again for the rest\n");
    return EXIT_CANNOT_RUN;
}

/* "2024-02-15T14:46:46.000Z project 130" */
static void describe(struct text *line, int64_t received_at, int64_t project_id)
{
    char time[CLOCK_TEXT];
    clock_text(received_at, time);
    text_append(line, time);
    if (project_id)
        text_append_format(line, " project %lld", (long long)project_id);
}

/* The length of the first SHOWN characters. */
static size_t cut(const char *bytes, size_t length)
{
    size_t at = 0;
    for (int count = 0; at < length && count < SHOWN; count++) {
        size_t size = text_utf8((const unsigned char *)bytes + at, length - at);
        at += size ? size : 1;
    }
    return at;
}

static void show(const struct rejected *row)
{
    struct text text = {0};
    size_t shown = cut(row->body, row->length);

    describe(&text, row->last_received_at, row->project_id);
    text_append_format(&text, " %zu bytes", row->length);
    if (row->attempts > 1) {
        char first[CLOCK_TEXT];
        clock_text(row->first_received_at, first);
        text_append_format(&text, ", %d times since %s", row->attempts, first);
    }
    text_append(&text, "\n    ");
    text_append_visible(&text, row->reason, strlen(row->reason));
    text_append(&text, shown ? "\n    " : "");
    text_append_visible(&text, row->body, shown);
    text_append(&text, shown < row->length ? " …\n" : "\n");
    if (text.failed)
        fprintf(stderr, "ticketd: out of memory\n");
    else
        fputs(text.bytes, stdout);
    text_free(&text);
}

static int list(const struct conf *conf, int argc, char **argv)
{
    struct selection selection;
    struct rejected row;
    unsigned long long count = 0;

    if (!selection_open(&selection, conf, argc, argv))
        return EXIT_CANNOT_RUN;
    while (store_list_next(selection.list, &row)) {
        fputs(count++ ? "\n" : "", stdout);
        show(&row);
    }
    fflush(stdout);
    fprintf(stderr, count == 1 ? "%llu body\n" : "%llu bodies\n", count);
    return selection_close(&selection) ? EXIT_SUCCESS : stopped();
}

struct retry {
    struct selection selection;
    struct tally tally;
    struct decrypt *decrypt; /* for bodies that could not be decrypted */
    bool failed;             /* out of memory */
};

/* See struct replay. The event is the one that was received last, with its identifier: where that was applied already,
 * it is recognised. */
static bool next_body(void *source, struct event *event)
{
    struct retry *retry = source;
    struct rejected row;

    if (!store_list_next(retry->selection.list, &row))
        return false;
    char *body = malloc(row.length + 1);
    if (!body) {
        retry->failed = true;
        fprintf(stderr, "ticketd: out of memory\n");
        return false;
    }
    memcpy(body, row.body, row.length);
    body[row.length] = '\0';
    event_init(event, body, row.length);
    if (!decrypt_again(retry->decrypt, row.reason, event)) {
        event_free(event);
        retry->failed = true;
        fprintf(stderr, "ticketd: out of memory\n");
        return false;
    }
    memcpy(event->id, row.last_event_id, sizeof(event->id));
    event->received_at = row.last_received_at;
    event->was_rejected = true;
    return true;
}

static void body_settled(void *source, const struct event *event)
{
    struct retry *retry = source;
    struct text where = {0};

    describe(&where, event->received_at, event_project(event));
    tally_event(&retry->tally, event, where.failed ? "" : where.bytes);
    text_free(&where);
    progress_update(&retry->tally.progress, 0, retry->tally.events);
}

static int retry(const struct conf *conf, int argc, char **argv)
{
    struct retry retry = {0};

    if (!selection_open(&retry.selection, conf, argc, argv))
        return EXIT_CANNOT_RUN;
    retry.decrypt = decrypt_open(conf);
    struct store *store = store_open(conf, &retry.selection.stop_at);
    const struct replay replay = {
        .conf = conf, .store = store, .next = next_body, .settled = body_settled, .source = &retry};
    tally_start(&retry.tally, 0, "retrying", UINT64_MAX);
    bool good = store && retry.decrypt && replay_run(&replay) && !retry.failed;
    tally_end(&retry.tally);
    tally_number("tried", retry.tally.events);
    tally_numbers(&retry.tally, "still refused");
    store_close(store);
    decrypt_close(retry.decrypt);
    if (!selection_close(&retry.selection) || !good)
        return stopped();
    return retry.tally.complaints ? EXIT_SOME_LEFT : EXIT_SUCCESS;
}

int command_rejected(const struct conf *conf, int argc, char **argv)
{
    return (strcmp(argv[0], "list") == 0 ? list : retry)(conf, argc, argv);
}
