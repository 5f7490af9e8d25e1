/* The end of the path: a lane of the queue → database or spool → verdicts. And the way back: spool → database. */
#include "writers.h"
#include "clock.h"
#include "drain.h"
#include "log.h"
#include "spool_survey.h"

#include <stdlib.h>
#include <time.h>

#define IDLE_MS 1000 /* how often an idle writer looks at its connection, and the drain into the spool */

/* To the database or, where that does not take them, to the spool. While events wait there the others join them: none
 * overtakes one of its own ticket. */
static enum readiness settle(struct server *server, struct store *store, struct event **events, size_t count,
                             int64_t deadline)
{
    enum readiness readiness = READY_BY_SPOOL;

    if (!spool_holds(server->spool)) {
        readiness = READY_BY_DATABASE;
        store_settle(store, events, count, deadline);
    }
    spool_append(server->spool, events, count);
    for (size_t i = 0; i < count; i++) {
        if (events[i]->outcome == OUTCOME_UNAVAILABLE)
            return NOT_READY;
        if (events[i]->outcome == OUTCOME_SPOOLED)
            readiness = READY_BY_SPOOL;
    }
    return readiness;
}

enum readiness writers_look(struct server *server, struct store *store)
{
    if (!spool_holds(server->spool) && store_idle(store))
        return READY_BY_DATABASE;
    return spool_problem(server->spool) ? NOT_READY : READY_BY_SPOOL;
}

size_t writers_write(struct server *server, int lane, struct store *store, struct waiter **batch, struct event **events,
                     int wait_ms)
{
    size_t count = queue_take(server->queue, lane, batch, store_batch(store), wait_ms);
    if (count == 0)
        return 0;

    /* The oldest event sets the limit, and even that gets one try. */
    int64_t deadline = clock_monotonic_ms() + server->conf->db_timeout_ms / 5;
    if (batch[0]->deadline > deadline)
        deadline = batch[0]->deadline;
    for (size_t i = 0; i < count; i++)
        events[i] = &batch[i]->event;
    atomic_store(&server->readiness, settle(server, store, events, count, deadline));
    queue_finish(server->queue, batch, count);
    return count;
}

void *writers_run(void *argument)
{
    struct thread *thread = argument;
    struct server *server = thread->server;
    struct store *store = store_open(server->conf, &server->stop_at);
    struct waiter **batch = calloc((size_t)server->conf->batch, sizeof(*batch));
    struct event **events = calloc((size_t)server->conf->batch, sizeof(*events));

    if (!store || !batch || !events) {
        log_line(LOG_ERROR, "out of memory");
        abort();
    }
    int wait_ms = 0;
    while (!atomic_load(&server->stopped)) {
        if (writers_write(server, thread->number, store, batch, events, wait_ms) == 0)
            atomic_store(&server->readiness, writers_look(server, store));
        wait_ms = IDLE_MS;
    }
    store_close(store);
    free(batch);
    free(events);
    return NULL;
}

void *writers_drain(void *argument)
{
    struct server *server = ((struct thread *)argument)->server;
    struct store *store = NULL;
    struct drain *drain = NULL;
    struct spool_survey survey = {0};
    struct timespec next;

    do {
        spool_survey_measure(&survey, server->conf->spool_dir);
        if (!spool_holds(server->spool)) {
            drain_close(drain);
            store_close(store);
            drain = NULL;
            store = NULL;
        } else {
            if (!store)
                store = store_open(server->conf, &server->stop_drain_at);
            if (store && !drain)
                drain = drain_open(server->conf, store, NULL, NULL);
            if (drain)
                (void)!drain_run(drain); /* whatever comes of it: once more in a second */
        }
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += IDLE_MS / 1000;
    } while (sem_clockwait(&server->stop_drain, CLOCK_MONOTONIC, &next) != 0);
    drain_close(drain);
    store_close(store);
    spool_survey_free(&survey);
    return NULL;
}
