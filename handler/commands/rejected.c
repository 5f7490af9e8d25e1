/* `ticketd rejected list|retry [SINCE [UNTIL]]`: vcc.rejected_events for people, and once more through the decoding and
 * the store of every event. `ticketd rejected show|drop ID`: one of them. */
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

#define SHOWN     300 /* characters of a body */
#define TRY_AGAIN ": see ticketd check, then give the same command again"

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

/* `until`: where it is not said. */
static bool selection_open(struct selection *selection, const struct conf *conf, int64_t until, int argc, char **argv)
{
    *selection = (struct selection){.since = 0, .until = until};
    atomic_store(&selection->stop_at, INT64_MAX);
    if (argc > 1 && !parse_time("SINCE", argv[1], &selection->since))
        return false;
    if (argc > 2 && !parse_time("UNTIL", argv[2], &selection->until))
        return false;
    if (argc > 2 && selection->until <= selection->since) {
        fprintf(stderr, "ticketd: UNTIL is not later than SINCE\n");
        return false;
    }
    selection->store = store_open(conf, &selection->stop_at, NULL);
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

static int cannot(const char *why)
{
    fprintf(stderr, "ticketd: %s\n", why);
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

/* "018dacc6-5580-7000-8000-000000000001 2024-02-15T14:46:46.000Z project 130 16 bytes, 2 times since …" */
static void describe_row(struct text *text, const struct rejected *row)
{
    char id[37], first[CLOCK_TEXT];

    clock_uuid_text(row->last_event_id, id);
    text_append_format(text, "%s ", id);
    describe(text, row->last_received_at, row->project_id);
    text_append_format(text, " %zu bytes, %d time%s", row->length, row->attempts, row->attempts == 1 ? "" : "s");
    if (row->attempts > 1) {
        clock_text(row->first_received_at, first);
        text_append_format(text, " since %s", first);
    }
    text_append(text, "\n    ");
    text_append_visible(text, row->reason, strlen(row->reason));
    text_append(text, "\n");
}

static bool print(struct text *text, FILE *file)
{
    bool good = !text->failed && fputs(text->bytes, file) >= 0;

    if (!good)
        fprintf(stderr, "ticketd: %s\n", text->failed ? "out of memory" : "cannot write");
    text_free(text);
    return good;
}

static bool list_row(const struct rejected *row, bool first)
{
    struct text text = {0};
    size_t shown = cut(row->body, row->length);

    text_append(&text, first ? "" : "\n");
    describe_row(&text, row);
    text_append(&text, shown ? "    " : "");
    text_append_visible(&text, row->body, shown);
    text_append(&text, shown < row->length ? " …\n" : shown ? "\n" : "");
    return print(&text, stdout);
}

static int list(const struct conf *conf, int argc, char **argv)
{
    struct selection selection;
    struct rejected row;
    unsigned long long count = 0;
    bool written = true;

    if (!selection_open(&selection, conf, STORE_LAST_TIME, argc, argv))
        return EXIT_CANNOT_RUN;
    while (written && store_list_next(selection.list, &row))
        written = list_row(&row, count++ == 0);
    if (written && fflush(stdout) != 0) {
        fprintf(stderr, "ticketd: cannot write\n");
        written = false;
    }
    bool whole = selection_close(&selection);
    if (written && !whole && count == 0)
        return cannot("what was set aside cannot be listed" TRY_AGAIN);
    if (written && !whole)
        return cannot("only a part of what was set aside could be listed" TRY_AGAIN);
    if (!written)
        return EXIT_CANNOT_RUN;
    fprintf(stderr, count == 1 ? "%llu body\n" : "%llu bodies\n", count);
    return EXIT_SUCCESS;
}

static const char no_such_body[] =
    "there is no such body: see ticketd rejected list. A body that came once more has another identifier";

/* What a body was sent with may be a part of what opens it: of the iv no more is told than that it is there. */
static bool show_row(const struct rejected *row)
{
    struct text text = {0};

    describe_row(&text, row);
    text_append_format(&text, "    iv %s, content coding ", *row->iv ? "kept" : "none");
    text_append_visible(&text, *row->coding ? row->coding : "none", strlen(*row->coding ? row->coding : "none"));
    text_append(&text, "\n");
    if (!print(&text, stderr))
        return false;
    bool good = fwrite(row->body, 1, row->length, stdout) == row->length && fflush(stdout) == 0;
    if (!good)
        fprintf(stderr, "ticketd: cannot write\n");
    return good;
}

static int show_body(struct store *store, const uint8_t id[16])
{
    struct store_list *rows = store_find_rejected(store, id);
    struct rejected row;
    bool found = rows && store_list_next(rows, &row);
    bool written = found && show_row(&row);
    bool told = store_list_close(rows);

    if (found)
        return written ? EXIT_SUCCESS : EXIT_CANNOT_RUN;
    return cannot(told ? no_such_body : "it is not known whether there is such a body" TRY_AGAIN);
}

static int drop_body(struct store *store, const uint8_t id[16])
{
    bool found;
    char text[37];

    if (!store_drop_rejected(store, id, &found))
        return cannot("it is not known whether the body is removed" TRY_AGAIN);
    if (!found)
        return cannot(no_such_body);
    clock_uuid_text(id, text);
    printf("%s is removed\n", text);
    return EXIT_SUCCESS;
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
    event_keep(event->iv, row.iv);
    event_keep(event->coding, row.coding);
    if (!decrypt_again(retry->decrypt, row.reason, event)) {
        event_free(event);
        retry->failed = true;
        fprintf(stderr, "ticketd: out of memory\n");
        return false;
    }
    if (event->refusal != OUTCOME_NONE && row.project_id) /* it stays where it is */
        event->values[FIELD_project_id] = (struct value){.presence = PRESENT, .number = row.project_id};
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

    /* What arrives after the start is left alone: it would never end where the sender tries again as well. */
    if (!selection_open(&retry.selection, conf, clock_realtime_us(), argc, argv))
        return EXIT_CANNOT_RUN;
    retry.decrypt = decrypt_open(conf);
    struct store *store = store_open(conf, &retry.selection.stop_at, NULL);
    const struct replay replay = {
        .conf = conf, .store = store, .next = next_body, .settled = body_settled, .source = &retry};
    tally_start(&retry.tally, 0, "retrying", UINT64_MAX);
    bool good = store && retry.decrypt && replay_run(&replay) && !retry.failed;
    tally_end(&retry.tally);
    store_close(store);
    decrypt_close(retry.decrypt);
    good = selection_close(&retry.selection) && good;
    if (!good && retry.tally.events == 0)
        return cannot("nothing was tried again" TRY_AGAIN);
    tally_number("tried", retry.tally.events);
    tally_numbers(&retry.tally, "still refused");
    if (!good)
        return stopped();
    return retry.tally.complaints ? EXIT_SOME_LEFT : EXIT_SUCCESS;
}

static int with_id(const struct conf *conf, int argc, char **argv,
                   int (*run)(struct store *store, const uint8_t id[16]))
{
    _Atomic int64_t stop_at = INT64_MAX;
    uint8_t id[16];

    if (argc != 2 || !clock_uuid_parse(argv[1], id)) {
        fprintf(stderr, "ticketd: rejected %s takes the identifier of a body: see ticketd rejected list\n", argv[0]);
        return EXIT_CANNOT_RUN;
    }
    struct store *store = store_open(conf, &stop_at, NULL);
    int status = store ? run(store, id) : cannot("out of memory");
    store_close(store);
    return status;
}

int command_rejected(const struct conf *conf, int argc, char **argv)
{
    if (strcmp(argv[0], "show") == 0)
        return with_id(conf, argc, argv, show_body);
    if (strcmp(argv[0], "drop") == 0)
        return with_id(conf, argc, argv, drop_body);
    return (strcmp(argv[0], "list") == 0 ? list : retry)(conf, argc, argv);
}
