/* Beside the path: `ticketd import` and `ticketd rejected retry` tell what became of the events. */
#include "commands/report.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void report_start(struct report *report, uint64_t total, const char *label, uint64_t most)
{
    *report = (struct report){.most = most};
    progress_start(&report->progress, total, label);
}

void report_complain(struct report *report, const char *where, const char *why)
{
    struct text line = {0};

    if (report->complaints++ >= report->most)
        return;
    text_append_visible(&line, where, strlen(where));
    text_append(&line, ": ");
    text_append_visible(&line, why, strlen(why));
    progress_clear(&report->progress);
    if (!line.failed)
        fprintf(stderr, "%s\n", line.bytes);
    text_free(&line);
}

void report_event(struct report *report, const struct event *event, const char *where)
{
    report->events++;
    report->counts[event->outcome]++;
    if (event->refusal != OUTCOME_NONE)
        report_complain(report, where, event->reason ? event->reason : "refused");
}

void report_end(struct report *report)
{
    report->seconds = progress_end(&report->progress);
    if (report->complaints > report->most)
        fprintf(stderr, "… and %" PRIu64 " more\n", report->complaints - report->most);
}

void report_number(const char *name, uint64_t number)
{
    printf("%-13s %12" PRIu64 "\n", name, number);
}

void report_numbers(const struct report *report, const char *refused)
{
    uint64_t applied = 0;

    for (enum outcome o = OUTCOME_NONE + 1; o < OUTCOME_COUNT; o++) {
        if (outcome_status(o) != 200 || o == OUTCOME_SPOOLED)
            continue;
        report_number(outcome_word(o), report->counts[o]);
        applied += report->counts[o];
    }
    report_number(refused, report->events - applied);
    printf("%-13s %12.1f\n", "seconds", report->seconds);
    report_number("events/s", report->seconds > 0 ? (uint64_t)((double)report->events / report->seconds) : 0);
}
