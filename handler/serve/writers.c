/* The end of the path: a lane of the queue → database or spool → verdicts. And the way back: spool → database. */
#include "serve/writers.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/drain.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#define IDLE_MS  1000 /* how often an idle writer looks at its connection and the spool */
#define HELD_MS  20   /* how often what is held is tried */
#define EMPTY_MS 200  /* how often it is looked whether there is something to drain */

struct writer {
    const struct writers *all;
    int lane;
    struct store *store;
    struct drain *drain;    /* NULL: there is no spool */
    struct waiter **batch;  /* what is held, then what was taken: room for conf->batch of these, and all that wait */
    struct waiter **done;   /* … with a verdict */
    struct event **events;  /* … for the store */
    struct event **spooled; /* … for the spool */
    size_t held;            /* of batch */
    size_t most;            /* events of the next batch */
    size_t joined;          /* how many of the last the spool had to take */
    bool met;               /* it was seen whether the spool is that of the database */
    int64_t late_since; /* monotonic milliseconds: since when all that it takes is past its deadline; 0: it is not */
    bool remembers;     /* the first one asked the database when the last event came, before the start */
    int64_t taken_at;   /* monotonic milliseconds: when it took its last batch, */
    int64_t looked_at;  /* … when it last looked at the spool, and */
    int64_t drain_at;   /* … when it drains again */
};

struct writer *writer_open(const struct writers *writers, int lane)
{
    const struct conf *conf = writers->conf;
    size_t room = (size_t)conf->batch + (size_t)conf->connections;
    struct writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        return NULL;

    writer->all = writers;
    writer->lane = lane;
    writer->most = (size_t)conf->batch;
    writer->store = store_open(conf, &writers->shared->stop_at, &writers->shared->nodes);
    writer->batch = calloc(room, sizeof(*writer->batch));
    writer->done = calloc(room, sizeof(*writer->done));
    writer->events = calloc(room, sizeof(*writer->events));
    writer->spooled = calloc(room, sizeof(*writer->spooled));
    if (writer->store && *conf->spool_dir)
        writer->drain = drain_open(conf, writer->store, writers->spool, lane, conf->writers);
    if (!writer->store || !writer->batch || !writer->done || !writer->events || !writer->spooled ||
        (*conf->spool_dir && !writer->drain)) {
        writer_close(writer);
        return NULL;
    }
    return writer;
}

void writer_close(struct writer *writer)
{
    if (!writer)
        return;
    drain_close(writer->drain);
    store_close(writer->store);
    free(writer->batch);
    free(writer->done);
    free(writer->events);
    free(writer->spooled);
    free(writer);
}

size_t writer_held(const struct writer *writer)
{
    return writer->held;
}

/* More comes than the database takes: what still waits at its deadline is tried for a moment, to catch up, and then
 * given up at once. Each batch would be later than the one before it, until nobody waits for the answers any more. */
static bool is_too_late(struct writer *writer, size_t count)
{
    int64_t now = clock_monotonic_ms();

    if (count == writer->held || now < writer->batch[count - 1]->deadline) {
        writer->late_since = 0;
        return false;
    }
    if (!writer->late_since)
        writer->late_since = now;
    if (now - writer->late_since < writer->all->conf->db_timeout_ms / 5)
        return false;
    log_line(LOG_WARNING, "more events come than the database takes", LOG_NUMBER("given_up", (int64_t)count));
    return true;
}

static int64_t soon(const struct writer *writer)
{
    return clock_monotonic_ms() + writer->all->conf->db_timeout_ms / 5;
}

/* How long the store may try: the oldest event sets the limit, and even that gets a try. Where there is a spool nobody
 * waits long for a database that was away. */
static int64_t batch_deadline(const struct writer *writer)
{
    int64_t least = soon(writer), oldest = writer->batch[0]->deadline;

    return oldest < least || (writer->drain && store_was_away(writer->store)) ? least : oldest;
}

/* Gives up those of the first `count` that have no verdict, but for what is held and has time left. What waits for a
 * ticket of which something is in the spool goes there too. */
static void spool_rest(struct writer *writer, size_t count)
{
    int64_t now = clock_monotonic_ms();

    writer->joined = 0;
    for (int round = 0; round < 2; round++) {
        size_t spooled = 0;
        for (size_t i = 0; i < count; i++) {
            struct waiter *waiter = writer->batch[i];
            struct event *event = &waiter->event;
            bool may_wait = event->held && !event->away && now < waiter->deadline && !store_is_away(writer->store) &&
                            !store_must_stop(writer->store);
            if (event->outcome == OUTCOME_NONE && (!may_wait || spool_waits(writer->all->spool, event)))
                writer->spooled[spooled++] = event;
        }
        if (spooled == 0)
            return;
        spool_append(writer->all->spool, writer->spooled, spooled);
        writer->joined += spooled;
    }
}

/* Hands the events with a verdict back, and keeps the others. Returns how many those are. */
static size_t finish_batch(struct writer *writer, size_t count)
{
    bool refused = false;
    size_t done = 0;

    writer->held = 0;
    for (size_t i = 0; i < count; i++) {
        struct waiter *waiter = writer->batch[i];
        enum outcome outcome = waiter->event.outcome;
        if (outcome == OUTCOME_NONE)
            writer->batch[writer->held++] = waiter;
        else
            writer->done[done++] = waiter;
        refused |= outcome == OUTCOME_UNAVAILABLE;
    }
    if (done > 0) {
        atomic_store(&writer->all->shared->readiness, done > writer->joined ? READY_BY_DATABASE
                                                      : refused             ? NOT_READY
                                                                            : READY_BY_SPOOL);
        queue_finish(writer->all->queue, writer->done, done);
    }
    return done;
}

size_t writer_write(struct writer *writer, int wait_ms)
{
    struct spool *spool = writer->all->spool;
    size_t tried = 0;

    if (writer->held > 0 && wait_ms > HELD_MS)
        wait_ms = HELD_MS;
    size_t count = writer->held +
                   queue_take(writer->all->queue, writer->lane, writer->batch + writer->held, writer->most, wait_ms);
    writer->taken_at = clock_monotonic_ms();
    if (count == 0) {
        writer->late_since = 0;
        writer->joined = 0;
        return 0;
    }
    if (writer->drain && !writer->met) /* tickets that wait in the spool of another database are not ours */
        (void)!drain_meet(writer->drain, clock_monotonic_ms() + writer->all->conf->db_timeout_ms);
    writer->met = true;
    bool given_up = is_too_late(writer, count) || (writer->drain && store_stays_away(writer->store));
    for (size_t i = 0; i < count; i++) {
        struct event *event = &writer->batch[i]->event;
        event->held = false;
        event->away = false;
        if (!given_up && !spool_waits(spool, event)) /* else it joins those that wait there */
            writer->events[tried++] = event;
    }
    if (tried > 0)
        store_apply(writer->store, writer->events, tried, batch_deadline(writer));
    if (store_is_distributed(writer->store))
        queue_divide_by_project(writer->all->queue);
    /* What is given up does not ask the database: as many at once as there may be, else those behind wait too. */
    writer->most = given_up ? (size_t)writer->all->conf->batch : store_batch(writer->store);
    spool_rest(writer, count);
    return finish_batch(writer, count);
}

void writer_look(struct writer *writer)
{
    enum readiness readiness = READY_BY_DATABASE;

    if (!store_idle(writer->store)) {
        readiness = spool_problem(writer->all->spool) ? NOT_READY : READY_BY_SPOOL;
    } else if (writer->lane == 0 && !writer->remembers) {
        writer->remembers = true;
        metrics_raise(METRIC_LAST_EVENT, store_last_received(writer->store));
    }
    atomic_store(&writer->all->shared->readiness, readiness);
}

/* A batch from the spool, between two of the queue. Returns how many left it. */
static size_t drain(struct writer *writer)
{
    int64_t now = clock_monotonic_ms();
    struct spool_status status;

    if (!writer->drain)
        return 0;
    if (writer->lane == 0 && now - writer->looked_at >= IDLE_MS) {
        (void)!spool_look(writer->all->spool, &status);
        writer->looked_at = now;
    }
    if (now < writer->drain_at || store_must_stop(writer->store) || atomic_load(&writer->all->shared->stopping) ||
        store_stays_away(writer->store))
        return 0;
    size_t drained = drain_step(writer->drain, soon(writer));
    int64_t end = clock_monotonic_ms(); /* what took long, and for nothing, gives others as much time */
    writer->drain_at = drained > 0 ? 0 : end + (end - now) + EMPTY_MS;
    if (drained > 0)
        atomic_store(&writer->all->shared->readiness, READY_BY_DATABASE);
    return drained;
}

/* More than came in with the last batch: who is answered by the spool sends the next event at once, and would outrun a
 * slow database. Not for long, for others wait since that batch was taken. */
static size_t drain_more(struct writer *writer)
{
    int64_t until = writer->taken_at + writer->all->conf->db_timeout_ms / 2;
    size_t drained = 0, now;

    do {
        now = drain(writer);
        drained += now;
    } while (now > 0 && drained <= 2 * writer->joined && clock_monotonic_ms() < until);
    return drained;
}

void *writers_run(void *argument)
{
    struct thread *thread = argument;
    const struct writers *writers = thread->context;
    struct writer *writer = writer_open(writers, thread->number);

    if (!writer) {
        log_line(LOG_ERROR, "out of memory");
        abort();
    }
    int wait_ms = 0;
    int64_t idle_since = 0;
    while (!atomic_load(&writers->shared->stopped)) {
        size_t written = writer_write(writer, wait_ms), drained = drain_more(writer);
        int64_t now = clock_monotonic_ms();
        if (written + drained + writer->held > 0)
            idle_since = now;
        else if (now - idle_since >= IDLE_MS || wait_ms == 0) {
            writer_look(writer);
            idle_since = now;
        }
        wait_ms = drained > 0 ? 0 : writer->drain ? EMPTY_MS : IDLE_MS;
    }
    writer_close(writer);
    return NULL;
}
