/* What the threads of a serving process share. */
#ifndef TICKETD_SERVE_H
#define TICKETD_SERVE_H

#include "base/conf.h"
#include "event/auth.h"
#include "serve/queue.h"
#include "spool/spool.h"
#include "web/connections.h"
#include "web/listener.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

/* Who would take an event now. */
enum readiness { NOT_READY, READY_BY_DATABASE, READY_BY_SPOOL };

struct server {
    const struct conf *conf;
    struct listener listener;
    struct auth *auth;
    struct queue *queue;
    struct connections *connections; /* NULL: this is a CGI process */
    struct dashboard *dashboard;     /* NULL: TICKETD_REPORT=off */
    _Atomic bool stopping;           /* connections close after their answer */
    _Atomic bool stopped;            /* nothing is in flight any more: writers end */
    struct spool *spool;
    sem_t stop_drain;
    _Atomic int64_t asked_at;      /* monotonic milliseconds: when the last request came */
    _Atomic int readiness;         /* enum readiness, as of the last batch or idle second */
    _Atomic int64_t stop_at;       /* monotonic milliseconds: no wait for the database goes beyond this */
    _Atomic int64_t stop_drain_at; /* the same for the drain, which may stop at once: what it leaves is kept */
};

/* A thread and the number that tells it from its like. */
struct thread {
    pthread_t id;
    int number;
    _Atomic int64_t passed_at; /* monotonic milliseconds: when a worker last came back for work */
    struct server *server;
};

#endif
