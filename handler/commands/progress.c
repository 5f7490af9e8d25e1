/* Beside the path: what people see of a replay while it runs. */
#include "commands/progress.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_MS 100
#define LOG_MS    5000
#define RECENT_S  3.0 /* rates follow the last seconds */
#define WIDTH     80  /* of a terminal that does not say */
#define BAR_MIN   10  /* a narrower bar shows nothing */
#define BAR_MAX   60

void progress_start(struct progress *progress, uint64_t total, const char *label)
{
    const char *kind = getenv("TERM");
    int64_t now = clock_monotonic_ms();

    *progress = (struct progress){.label = label, .total = total, .started = now, .shown = now};
    progress->terminal = isatty(STDERR_FILENO) && kind && strcmp(kind, "dumb") != 0;
}

static size_t terminal_width(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : WIDTH;
}

/* The numbers behind the bar: "  45 %  9012 events  5012/s  1:21 left". */
static void append_numbers(struct text *line, const struct progress *progress)
{
    if (progress->total)
        text_append_format(line, " %3d %%", (int)(100 * (double)progress->done / (double)progress->total));
    text_append_format(line, "  %llu events  %.0f/s", (unsigned long long)progress->events, progress->events_rate);
    if (progress->total && progress->done_rate > 0 && progress->done <= progress->total) {
        double left = (double)(progress->total - progress->done) / progress->done_rate;
        unsigned long long seconds = left < 1e9 ? (unsigned long long)left : 0;
        if (seconds >= 3600)
            text_append_format(line, "  %llu:%02llu:%02llu left", seconds / 3600, seconds / 60 % 60, seconds % 60);
        else
            text_append_format(line, "  %llu:%02llu left", seconds / 60, seconds % 60);
    }
}

static void append_bar(struct text *line, const struct progress *progress, size_t room)
{
    size_t width = room > BAR_MAX ? BAR_MAX : room;
    size_t filled = (size_t)((double)width * (double)progress->done / (double)progress->total);

    text_append(line, " [");
    for (size_t i = 0; i < width; i++)
        text_append(line, i < filled ? "#" : "-");
    text_append(line, "]");
}

/* The cursor is left where the bar begins: whatever another part of the program writes overwrites it. */
static void draw(struct progress *progress)
{
    size_t width = terminal_width() - 1; /* the last column may wrap */
    struct text numbers = {0}, line = {0};

    append_numbers(&numbers, progress);
    text_append(&line, "\r");
    text_append(&line, progress->label);
    size_t taken = line.length - 1 + numbers.length + strlen(" []");
    if (progress->total && width >= taken + BAR_MIN)
        append_bar(&line, progress, width - taken);
    text_append_bytes(&line, numbers.bytes ? numbers.bytes : "", numbers.length);
    if (!line.failed && !numbers.failed) {
        fprintf(stderr, "%.*s\033[K\r", (int)(line.length > width + 1 ? width + 1 : line.length), line.bytes);
        fflush(stderr);
        progress->visible = true;
    }
    text_free(&numbers);
    text_free(&line);
}

static double recent(double rate, double measured, double seconds, bool first)
{
    return first ? measured : rate + (measured - rate) * seconds / (seconds + RECENT_S);
}

void progress_update(struct progress *progress, uint64_t done, uint64_t events)
{
    int64_t now = clock_monotonic_ms();
    double seconds = (double)(now - progress->shown) / 1000;
    bool first = progress->shown == progress->started;

    progress->done = done;
    progress->events = events;
    if (now - progress->shown < (progress->terminal ? REDRAW_MS : LOG_MS))
        return;
    progress->done_rate = recent(progress->done_rate, (double)(done - progress->shown_done) / seconds, seconds, first);
    progress->events_rate =
        recent(progress->events_rate, (double)(events - progress->shown_events) / seconds, seconds, first);
    progress->shown = now;
    progress->shown_done = done;
    progress->shown_events = events;
    if (progress->terminal)
        draw(progress);
    else
        log_line(LOG_INFO, progress->label, LOG_NUMBER("events", (int64_t)events),
                 LOG_NUMBER("percent", progress->total ? (int64_t)(done * 100 / progress->total) : 0),
                 LOG_NUMBER("events_per_second", (int64_t)progress->events_rate));
}

void progress_clear(struct progress *progress)
{
    if (progress->visible) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    progress->visible = false;
}

double progress_end(struct progress *progress)
{
    progress_clear(progress);
    return (double)(clock_monotonic_ms() - progress->started) / 1000;
}
