/* What the threads of a serving process tell each other. */
#ifndef TICKETD_SHARED_H
#define TICKETD_SHARED_H

#include "store/nodes.h"
#include "web/endpoints.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* Times are monotonic milliseconds. */
struct shared {
    _Atomic bool stopping;    /* connections close after their answer */
    _Atomic bool stopped;     /* nothing is in flight any more: writers end */
    _Atomic int64_t asked_at; /* when the last request came */
    _Atomic int readiness;    /* enum readiness, as of the last batch or idle second */
    _Atomic int64_t stop_at;  /* no wait for the database goes beyond this */
    struct nodes nodes;       /* of a distributed database: those that are away */
};

static inline enum readiness shared_readiness(struct shared *shared)
{
    return atomic_load(&shared->stopping) ? NOT_READY : (enum readiness)atomic_load(&shared->readiness);
}

/* A thread, what it works with, and the number that tells it from its like. */
struct thread {
    pthread_t id;
    void *context;
    int number;
    _Atomic int64_t passed_at; /* when a worker last came back for work */
};

#endif
