/* The path of every event: from a request to the queue, and from its verdict to the answer. */
#ifndef TICKETD_SERVE_H
#define TICKETD_SERVE_H

#include "base/conf.h"
#include "event/auth.h"
#include "event/decrypt.h"
#include "serve/dashboard.h"
#include "serve/queue.h"
#include "serve/shared.h"
#include "spool/spool.h"
#include "web/connections.h"
#include "web/listener.h"

#define SERVE_BODIES 64 /* bodies of the largest size that may wait for their commit */

/* What a serving process has, for all its threads. */
struct server {
    const struct conf *conf;
    struct listener listener;
    struct auth *auth;
    struct decrypt *decrypt;
    struct queue *queue;
    struct spool *spool;
    struct dashboard *dashboard;     /* NULL: TICKETD_REPORT=off */
    struct connections *connections; /* NULL: this is a CGI process */
    struct waiter *waiters;          /* one for each connection */
    struct shared shared;
};

/* What comes next for a request. */
enum next {
    ANSWER, /* its answer is written */
    WAIT,   /* it is no longer ours: its verdict, or its answer, will come */
    CLOSE   /* there is nobody to be answered */
};

/* The first half of the path: reads a request that is there whole, and answers it or submits its event. slot: the
 * number of the calling worker. The caller frees waiter->event and the answer; after WAIT, once the verdict is there.
 */
enum next serve_receive(struct server *server, int slot, struct request *request, struct waiter *waiter,
                        struct text *answer);

/* Counts a request that has its verdict, and logs it: at level warning what was refused, at debug the rest. */
void serve_note(const struct request *request, const struct waiter *waiter);

/* A worker: goes both halves for whatever is ready, until connections_stop. Takes a struct thread, whose context is the
 * server; returns NULL. */
void *serve_work(void *thread);

#endif
