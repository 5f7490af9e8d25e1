/* Beside the path: source → event → store, for events that nobody waits to be answered. Two batches take turns: one is
 * filled by a thread while the other is settled. */
#include "store/replay.h"
#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>

#define HELD_MS 20

struct batch {
    const struct replay *replay;
    struct event *events;  /* in the order in which next gave them */
    struct event **sorted; /* the same, as the store likes them */
    size_t count;
    size_t most; /* how many it may get */
    bool ended;  /* next has no more */
    bool failed; /* out of memory: the events before that are good */
};

static bool batch_init(struct batch *batch, const struct replay *replay)
{
    size_t most = (size_t)replay->conf->batch;
    *batch = (struct batch){.replay = replay};
    batch->events = calloc(most, sizeof(*batch->events));
    batch->sorted = calloc(most, sizeof(*batch->sorted));
    if (batch->events && batch->sorted)
        return true;
    log_line(LOG_ERROR, "out of memory");
    return false;
}

static void batch_empty(struct batch *batch)
{
    while (batch->count > 0)
        event_free(&batch->events[--batch->count]);
}

static void batch_free(struct batch *batch)
{
    batch_empty(batch);
    free(batch->events);
    free(batch->sorted);
}

/* Adds the next event. False: there is none, or no memory for it. */
static bool add_next(struct batch *batch)
{
    const struct replay *replay = batch->replay;
    struct event *event = &batch->events[batch->count];

    event_init(event, NULL, 0);
    batch->ended = !replay->next(replay->source, event);
    event->waited = true;
    batch->failed = !batch->ended && event->refusal == OUTCOME_NONE && !event_decode(event);
    if (batch->failed)
        log_line(LOG_ERROR, "out of memory");
    if (batch->ended || batch->failed) {
        event_free(event);
        return false;
    }
    batch->count++;
    return true;
}

static void *fill(void *argument)
{
    struct batch *batch = argument;
    size_t bytes = 0;

    while (batch->count < batch->most && bytes < STORE_BATCH_BYTES && add_next(batch))
        bytes += batch->events[batch->count - 1].length;
    return NULL;
}

/* Gives the events their verdicts, while `next_batch` is filled where that is not NULL. */
static void apply_batch(struct batch *batch, struct batch *next_batch)
{
    const struct replay *replay = batch->replay;
    pthread_t filler;
    if (replay->before)
        replay->before(replay->source);
    if (next_batch)
        next_batch->most = store_batch(replay->store); /* not by the thread: it changes while it settles */
    bool started = next_batch && pthread_create(&filler, NULL, fill, next_batch) == 0;

    int64_t deadline = clock_monotonic_ms() + replay->conf->db_timeout_ms;
    size_t left = batch->count;
    for (size_t i = 0; i < batch->count; i++)
        batch->sorted[i] = &batch->events[i];
    while (left > 0) {
        size_t count = left;
        store_apply(replay->store, batch->sorted, count, deadline);
        left = 0;
        for (size_t i = 0; i < count; i++)
            if (batch->sorted[i]->outcome == OUTCOME_NONE)
                batch->sorted[left++] = batch->sorted[i];
        if (left > 0 && (clock_monotonic_ms() >= deadline || store_must_stop(replay->store)))
            break;
        if (left > 0) /* what is held may be written in a moment */
            clock_sleep_ms(HELD_MS);
    }
    if (started)
        pthread_join(filler, NULL);
    else if (next_batch)
        fill(next_batch); /* no thread for it: one after the other, then */
}

/* Reports the verdicts, up to the first event that has none. False: there is such an event. */
static bool hand_over(const struct batch *batch)
{
    const struct replay *replay = batch->replay;

    for (size_t i = 0; i < batch->count; i++) {
        if (batch->events[i].outcome == OUTCOME_NONE)
            return false;
        replay->settled(replay->source, &batch->events[i]);
    }
    return true;
}

bool replay_run(const struct replay *replay)
{
    struct batch batches[2] = {{0}};
    bool good = batch_init(&batches[0], replay);
    good &= batch_init(&batches[1], replay);

    if (good) {
        batches[0].most = store_batch(replay->store);
        fill(&batches[0]);
    }
    for (int turn = 0; good && batches[turn].count > 0; turn = !turn) {
        struct batch *batch = &batches[turn], *other = &batches[!turn];
        apply_batch(batch, batch->ended || batch->failed ? NULL : other);
        good = hand_over(batch) && !batch->failed;
        batch_empty(batch);
    }
    good = good && !batches[0].failed && !batches[1].failed;
    batch_free(&batches[0]);
    batch_free(&batches[1]);
    return good;
}
