/* Beside the path: `ticketd import` and `ticketd rejected retry` tell what became of the events. */
#include "commands/tally.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void tally_start(struct tally *tally, uint64_t total, const char *label, uint64_t most)
{
    *tally = (struct tally){.most = most};
    progress_start(&tally->progress, total, label);
}

void tally_complain(struct tally *tally, const char *where, const char *why)
{
    struct text line = {0};

    if (tally->complaints++ >= tally->most)
        return;
    text_append_visible(&line, where, strlen(where));
    text_append(&line, ": ");
    text_append_visible(&line, why, strlen(why));
    progress_clear(&tally->progress);
    if (!line.failed)
        fprintf(stderr, "%s\n", line.bytes);
    text_free(&line);
}

void tally_event(struct tally *tally, const struct event *event, const char *where)
{
    tally->events++;
    tally->counts[event->outcome]++;
    if (event->refusal != OUTCOME_NONE)
        tally_complain(tally, where, event->reason ? event->reason : "refused");
}

void tally_end(struct tally *tally)
{
    tally->seconds = progress_end(&tally->progress);
    if (tally->complaints > tally->most)
        fprintf(stderr, "… and %" PRIu64 " more\n", tally->complaints - tally->most);
}

void tally_number(const char *name, uint64_t number)
{
    printf("%-13s %12" PRIu64 "\n", name, number);
}

void tally_numbers(const struct tally *tally, const char *refused)
{
    uint64_t applied = 0;

    for (enum outcome o = OUTCOME_NONE + 1; o < OUTCOME_COUNT; o++) {
        if (outcome_status(o) != 200 || o == OUTCOME_SPOOLED)
            continue;
        tally_number(outcome_word(o), tally->counts[o]);
        applied += tally->counts[o];
    }
    tally_number(refused, tally->events - applied);
    printf("%-13s %12.1f\n", "seconds", tally->seconds);
    tally_number("events/s", tally->seconds > 0 ? (uint64_t)((double)tally->events / tally->seconds) : 0);
}
