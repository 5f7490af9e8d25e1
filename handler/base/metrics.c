/* Beside the path: what happened on it, counted. */
#include "base/metrics.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdatomic.h>

#ifndef VERSION
#define VERSION "unknown"
#endif

#define CELLS (ACTION_COUNT * OUTCOME_COUNT) /* of the metric that has most */

enum kind { COUNTER, GAUGE, HISTOGRAM, AGE };
enum labels { NONE, STATUS, EVENT };
enum unit { ONE, SECONDS };

static const struct {
    const char *name;
    enum kind kind;
    enum labels labels;
    enum unit unit;
    const char *help;
} metrics[METRIC_COUNT] = {
#define METRIC(id, name, kind, labels, unit, help) {name, kind, labels, unit, help},
#include "base/metrics.def"
#undef METRIC
};

static const char *const types[] = {
    [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram", [AGE] = "gauge"};

/* The upper bounds of a histogram's buckets, inclusive, by its unit. */
#define BOUNDS 14
static const int64_t bounds[][BOUNDS] = {
    [ONE] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, INT64_MAX},
    [SECONDS] = {500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 10000000,
                 INT64_MAX},
};
#define SUM BOUNDS /* the cell behind the buckets */

static _Atomic int64_t cells[METRIC_COUNT][CELLS];

static void add_to_cell(enum metric metric, int cell, int64_t n)
{
    atomic_fetch_add_explicit(&cells[metric][cell], n, memory_order_relaxed);
}

static int64_t get(enum metric metric, int cell)
{
    return atomic_load_explicit(&cells[metric][cell], memory_order_relaxed);
}

void metrics_add(enum metric metric, int64_t n)
{
    add_to_cell(metric, 0, n);
}

void metrics_set(enum metric metric, int64_t value)
{
    atomic_store_explicit(&cells[metric][0], value, memory_order_relaxed);
}

void metrics_raise(enum metric metric, int64_t value)
{
    int64_t before = get(metric, 0);

    while (before < value && !atomic_compare_exchange_weak(&cells[metric][0], &before, value)) {
        /* another thread was faster: before is what it set */
    }
}

void metrics_observe(enum metric metric, int64_t value)
{
    int bucket = 0;

    while (value > bounds[metrics[metric].unit][bucket])
        bucket++;
    add_to_cell(metric, bucket, 1);
    add_to_cell(metric, SUM, value);
}

void metrics_count_request(enum outcome outcome)
{
    add_to_cell(METRIC_REQUESTS, (int)outcome, 1);
    atomic_store_explicit(&cells[METRIC_LAST_REQUEST][outcome], clock_realtime_us(), memory_order_relaxed);
}

void metrics_count_event(enum metric metric, enum action action, enum outcome outcome)
{
    add_to_cell(metric, (int)action * OUTCOME_COUNT + (int)outcome, 1);
}

static void write_value(struct text *text, enum unit unit, int64_t value)
{
    if (unit == SECONDS)
        text_append_format(text, " %.6f\n", (double)value / 1e6);
    else
        text_append_format(text, " %" PRId64 "\n", value);
}

static void write_plain(struct text *text, enum metric metric)
{
    int64_t value = get(metric, 0);

    if (metrics[metric].kind == AGE && value)
        value = clock_realtime_us() - value;
    text_append(text, metrics[metric].name);
    write_value(text, metrics[metric].unit, value);
}

static void write_histogram(struct text *text, enum metric metric)
{
    const char *name = metrics[metric].name;
    enum unit unit = metrics[metric].unit;
    int64_t count = 0;

    for (int i = 0; i < BOUNDS; i++) {
        int64_t bound = bounds[unit][i];
        count += get(metric, i);
        if (bound == INT64_MAX)
            text_append_format(text, "%s_bucket{le=\"+Inf\"}", name);
        else
            text_append_format(text, "%s_bucket{le=\"%.9g\"}", name, (double)bound / (unit == SECONDS ? 1e6 : 1));
        write_value(text, ONE, count);
    }
    text_append_format(text, "%s_sum", name);
    write_value(text, unit, get(metric, SUM));
    text_append_format(text, "%s_count", name);
    write_value(text, ONE, count);
}

/* Several outcomes may have one status: they are counted together, and the latest of their times counts. */
int64_t metrics_by_status(enum metric metric, int status)
{
    int64_t value = -1;

    for (enum outcome o = OUTCOME_NONE + 1; o < OUTCOME_COUNT; o++) {
        int64_t own = get(metric, (int)o);
        if (outcome_status(o) == status)
            value = value < 0 ? own : metrics[metric].kind == COUNTER ? value + own : value > own ? value : own;
    }
    return value;
}

static void write_by_status(struct text *text, enum metric metric)
{
    for (int status = 100; status < 600; status++) {
        int64_t value = metrics_by_status(metric, status);
        if (value < 0)
            continue;
        text_append_format(text, "%s{status=\"%d\"}", metrics[metric].name, status);
        write_value(text, metrics[metric].unit, value);
    }
}

static void write_by_event(struct text *text, enum metric metric)
{
    for (enum action action = 0; action < ACTION_COUNT; action++)
        for (enum outcome o = OUTCOME_NONE + 1; o < OUTCOME_COUNT; o++) {
            if (outcome_status(o) != 200)
                continue;
            text_append_format(text, "%s{action=\"%s\",result=\"%s\"}", metrics[metric].name, action_name(action),
                               outcome_word(o));
            write_value(text, ONE, get(metric, (int)action * OUTCOME_COUNT + (int)o));
        }
}

int64_t metrics_value(enum metric metric)
{
    return get(metric, 0);
}

void metrics_write(struct text *text)
{
    static void (*const write_labelled[])(struct text * text, enum metric metric) = {
        [STATUS] = write_by_status,
        [EVENT] = write_by_event,
    };

    for (enum metric metric = 0; metric < METRIC_COUNT; metric++) {
        const char *name = metrics[metric].name;
        text_append_format(text, "# HELP %s %s\n# TYPE %s %s\n", name, metrics[metric].help, name,
                           types[metrics[metric].kind]);
        if (metrics[metric].labels != NONE)
            write_labelled[metrics[metric].labels](text, metric);
        else if (metrics[metric].kind == HISTOGRAM)
            write_histogram(text, metric);
        else
            write_plain(text, metric);
    }
    text_append(text, "# HELP ticketd_build_info What runs: 1.\n# TYPE ticketd_build_info gauge\n"
                      "ticketd_build_info{version=\"" VERSION "\"} 1\n");
}
