/* The end of the path: a lane of the queue → database or spool → verdicts. And the way back: spool → database. */
#include "serve/writers.h"
#include "base/clock.h"
#include "base/log.h"
#include "spool/spool_survey.h"
#include "store/drain.h"
#include "store/store.h"

#include <stdlib.h>
#include <time.h>

#define IDLE_MS 1000 /* how often an idle writer looks at its connection, and the drain into the spool */

struct writer {
    const struct writers *all;
    int lane;
    struct store *store;
    struct waiter **batch; /* both have room for conf->batch */
    struct event **events;
    size_t most;        /* events of the next batch */
    int64_t late_since; /* monotonic milliseconds: since when all that it takes is past its deadline; 0: it is not */
};

struct writer *writer_open(const struct writers *writers, int lane)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    if (!writer)
        return NULL;

    writer->all = writers;
    writer->lane = lane;
    writer->most = (size_t)writers->conf->batch;
    writer->store = store_open(writers->conf, &writers->shared->stop_at);
    writer->batch = calloc((size_t)writers->conf->batch, sizeof(*writer->batch));
    writer->events = calloc((size_t)writers->conf->batch, sizeof(*writer->events));
    if (!writer->store || !writer->batch || !writer->events) {
        writer_close(writer);
        return NULL;
    }
    return writer;
}

void writer_close(struct writer *writer)
{
    if (!writer)
        return;
    store_close(writer->store);
    free(writer->batch);
    free(writer->events);
    free(writer);
}

/* More comes than the database takes: what still waits at its deadline is tried for a moment, to catch up, and then
 * given up at once. Each batch would be later than the one before it, until nobody waits for the answers any more. */
static bool is_too_late(struct writer *writer, size_t count)
{
    int64_t now = clock_monotonic_ms();

    if (now < writer->batch[count - 1]->deadline) {
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

/* To the database or, where that does not take them, to the spool. While events wait there the others join them: none
 * overtakes one of its own ticket. */
static enum readiness write_batch(struct writer *writer, size_t count)
{
    const struct conf *conf = writer->all->conf;
    struct spool *spool = writer->all->spool;
    struct event **events = writer->events;
    enum readiness readiness = READY_BY_SPOOL;
    bool too_late = is_too_late(writer, count), holds = spool_holds(spool);

    for (size_t i = 0; i < count; i++)
        events[i] = &writer->batch[i]->event;
    if (!too_late && !holds) {
        readiness = READY_BY_DATABASE;
        /* The oldest event sets the limit, and even that gets one try. */
        int64_t deadline = clock_monotonic_ms() + conf->db_timeout_ms / 5;
        if (writer->batch[0]->deadline > deadline)
            deadline = writer->batch[0]->deadline;
        store_apply(writer->store, events, count, deadline);
    }
    writer->most = holds ? (size_t)conf->batch : store_batch(writer->store);
    spool_append(spool, events, count);
    for (size_t i = 0; i < count; i++) {
        if (events[i]->outcome == OUTCOME_UNAVAILABLE)
            return NOT_READY;
        if (events[i]->outcome == OUTCOME_SPOOLED)
            readiness = READY_BY_SPOOL;
    }
    return readiness;
}

void writer_look(struct writer *writer)
{
    struct spool *spool = writer->all->spool;
    enum readiness readiness = READY_BY_DATABASE;

    if (spool_holds(spool) || !store_idle(writer->store))
        readiness = spool_problem(spool) ? NOT_READY : READY_BY_SPOOL;
    atomic_store(&writer->all->shared->readiness, readiness);
}

size_t writer_write(struct writer *writer, int wait_ms)
{
    struct queue *queue = writer->all->queue;
    size_t count = queue_take(queue, writer->lane, writer->batch, writer->most, wait_ms);

    if (count > 0) {
        atomic_store(&writer->all->shared->readiness, write_batch(writer, count));
        queue_finish(queue, writer->batch, count);
    } else {
        writer->late_since = 0;
    }
    return count;
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
    while (!atomic_load(&writers->shared->stopped)) {
        if (writer_write(writer, wait_ms) == 0)
            writer_look(writer);
        wait_ms = IDLE_MS;
    }
    writer_close(writer);
    return NULL;
}

void *writers_drain(void *argument)
{
    const struct writers *writers = ((struct thread *)argument)->context;
    struct store *store = NULL;
    struct drain *drain = NULL;
    struct spool_survey survey = {0};
    struct timespec next;

    do {
        spool_survey_measure(&survey, writers->conf->spool_dir);
        if (!spool_holds(writers->spool)) {
            drain_close(drain);
            store_close(store);
            drain = NULL;
            store = NULL;
        } else {
            if (!store)
                store = store_open(writers->conf, &writers->shared->stop_drain_at);
            if (store && !drain)
                drain = drain_open(writers->conf, store, NULL, NULL);
            if (drain)
                (void)!drain_run(drain); /* whatever comes of it: once more in a second */
        }
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += IDLE_MS / 1000;
    } while (sem_clockwait(&writers->shared->stop_drain, CLOCK_MONOTONIC, &next) != 0);
    drain_close(drain);
    store_close(store);
    spool_survey_free(&survey);
    return NULL;
}
