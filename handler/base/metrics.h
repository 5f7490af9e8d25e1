/* Numbers for Prometheus (text exposition format 0.0.4). Kept in memory, of this process alone; any thread may call.
 *
 * They are global, like the log: what is counted concerns the process, and every module would have to carry a pointer
 * for it. Counting is one relaxed atomic addition. */
#ifndef TICKETD_METRICS_H
#define TICKETD_METRICS_H

#include "base/outcome.h"
#include "base/text.h"

#include <stdint.h>

enum metric {
#define METRIC(id, name, kind, labels, unit, help) METRIC_##id,
#include "base/metrics.def"
#undef METRIC
    METRIC_COUNT
};

/* A counter, or a gauge that follows what comes and goes. */
void metrics_add(enum metric metric, int64_t n);

/* A gauge; microseconds where its unit is SECONDS. */
void metrics_set(enum metric metric, int64_t value);

/* The same where it is higher than what there is. */
void metrics_raise(enum metric metric, int64_t value);

/* One value of a histogram; microseconds where its unit is SECONDS. */
void metrics_observe(enum metric metric, int64_t value);

/* One more request that was answered so, now. */
void metrics_count_request(enum outcome outcome);

/* One more of a counter with the labels EVENT. */
void metrics_count_event(enum metric metric, enum action action, enum outcome outcome);

/* The value of one without labels; microseconds where its unit is SECONDS. */
int64_t metrics_value(enum metric metric);

/* The value of one with the labels STATUS for this HTTP status; below 0: no request is ever answered so. */
int64_t metrics_by_status(enum metric metric, int status);

/* Appends all of them as text. */
void metrics_write(struct text *text);

#endif
