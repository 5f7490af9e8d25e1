/* Beside the path: spool → event → store. An event keeps the identifier that it got at receipt: drained once more it
 * changes nothing. */
#include "store/drain.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <stdlib.h>
#include <string.h>

#define REPORT_MS 5000 /* between two lines in the log */

struct drain {
    const struct conf *conf;
    struct store *store;
    struct spool *spool;
    unsigned lane;
    struct lanes lanes;
    struct event *events; /* room for conf->batch, and the same as the store wants them */
    struct event **tried;
    int64_t drained, said_at; /* since the log told of it */
};

struct drain *drain_open(const struct conf *conf, struct store *store, struct spool *spool, int lane, int lanes)
{
    struct drain *drain = calloc(1, sizeof(*drain));
    if (!drain)
        return NULL;

    *drain = (struct drain){conf, store, spool, (unsigned)lane, {(unsigned)lanes, false}, NULL, NULL, 0, 0};
    drain->events = calloc((size_t)conf->batch, sizeof(*drain->events));
    drain->tried = calloc((size_t)conf->batch, sizeof(*drain->tried));
    if (!drain->events || !drain->tried) {
        drain_close(drain);
        return NULL;
    }
    return drain;
}

void drain_close(struct drain *drain)
{
    if (!drain)
        return;
    free(drain->events);
    free(drain->tried);
    free(drain);
}

/* A refused body is of none. */
static bool same_ticket(const struct event *a, const struct event *b)
{
    return a->refusal == OUTCOME_NONE && b->refusal == OUTCOME_NONE &&
           a->values[FIELD_project_id].number == b->values[FIELD_project_id].number &&
           a->values[FIELD_ticket_id].number == b->values[FIELD_ticket_id].number;
}

/* Whether this event's ticket is to be put off for its sake: of a ticket the first counts. What was not tried is still
 * due. */
static bool is_first_held(struct event **tried, size_t at)
{
    if (tried[at]->outcome != OUTCOME_NONE || !tried[at]->held || !*tried[at]->why)
        return false;
    for (size_t i = 0; i < at; i++)
        if (tried[i]->outcome == OUTCOME_NONE && same_ticket(tried[i], tried[at]))
            return false;
    return true;
}

/* Puts off the tickets of held events, those with one reason in one go. */
static void put_off_held(struct drain *drain, size_t count, const unsigned *tries)
{
    struct event **group = calloc(count, sizeof(*group));

    for (size_t i = 0; group && i < count; i++) {
        const struct event *first = drain->tried[i];
        bool failed = first->tries > tries[i];
        size_t size = 0;
        if (!is_first_held(drain->tried, i))
            continue;
        for (size_t k = i; k < count; k++) {
            struct event *event = drain->tried[k];
            if (!is_first_held(drain->tried, k) || strcmp(event->why, first->why) != 0 ||
                (event->tries > tries[k]) != failed)
                continue;
            event->tries = tries[k]; /* the spool counts them */
            group[size++] = event;
        }
        spool_put_off(drain->spool, group, size, first->why, !failed);
        for (size_t g = 0; g < size; g++)
            group[g]->held = false;
    }
    free(group);
}

static void report(struct drain *drain, size_t left)
{
    int64_t now = clock_monotonic_ms();

    drain->drained += (int64_t)left;
    metrics_add(METRIC_DRAINED, (int64_t)left);
    if (left == 0 || now - drain->said_at < REPORT_MS)
        return;
    log_line(LOG_INFO, "draining the spool", LOG_NUMBER("drained", drain->drained));
    drain->drained = 0;
    drain->said_at = now;
}

bool drain_meet(struct drain *drain, int64_t deadline)
{
    const char *identity = store_identity(drain->store, deadline);

    if (identity)
        spool_is_for(drain->spool, identity);
    return identity != NULL;
}

size_t drain_step(struct drain *drain, int64_t deadline)
{
    unsigned tries[4096]; /* the most that conf.def allows of a batch */

    if (!drain_meet(drain, deadline) || !spool_begin_drain(drain->spool))
        return 0;
    drain->lanes.by_project = store_is_distributed(drain->store);
    if (store_is_whole_again(drain->store))
        (void)!spool_hurry(drain->spool);
    size_t count = spool_take(drain->spool, drain->lane, drain->lanes, drain->events, store_batch(drain->store),
                              STORE_BATCH_BYTES);
    size_t tried = 0, left = 0;
    for (size_t i = 0; i < count; i++) {
        struct event *event = &drain->events[i];
        if (event->refusal != OUTCOME_NONE || event_decode(event)) {
            tries[tried] = event->tries;
            drain->tried[tried++] = event;
        }
    }
    if (tried > 0)
        store_apply(drain->store, drain->tried, tried, deadline);
    for (size_t i = 0; i < tried; i++)
        left += drain->tried[i]->outcome != OUTCOME_NONE;
    if (left > 0 && !spool_forget(drain->spool, drain->tried, tried))
        left = 0;
    if (left < tried)
        put_off_held(drain, tried, tries);
    report(drain, left);
    for (size_t i = 0; i < count; i++)
        event_free(&drain->events[i]);
    return left;
}
