/* What serve.c shares with the connections that it serves. */
#ifndef TICKETD_SERVE_H
#define TICKETD_SERVE_H

#include "conf.h"
#include "connections.h"
#include "listener.h"
#include "queue.h"

#include <stdatomic.h>

struct server {
    const struct conf *conf;
    struct listener listener;
    struct queue *queue;
    struct connections *connections;
    _Atomic bool stopping;   /* connections close after their answer */
    _Atomic bool stopped;    /* nothing is in flight any more: writers end */
    _Atomic bool ready;      /* the database would take an event */
    _Atomic int64_t stop_at; /* monotonic milliseconds: no wait goes beyond this */
};

#endif
