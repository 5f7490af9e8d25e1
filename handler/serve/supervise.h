/* The main thread of a serving process: signals, the watchdog of systemd, the orderly end. */
#ifndef TICKETD_SUPERVISE_H
#define TICKETD_SUPERVISE_H

#include "event/auth.h"
#include "event/decrypt.h"
#include "serve/dashboard.h"
#include "serve/queue.h"
#include "serve/shared.h"
#include "web/connections.h"
#include "web/listener.h"

#include <signal.h>

/* What it looks after; all of it is borrowed. */
struct supervised {
    struct auth *auth;
    struct decrypt *decrypt;
    struct listener *listener;
    struct connections *connections;
    struct queue *queue;
    struct dashboard *dashboard; /* NULL: there is none */
    struct shared *shared;
    const struct thread *workers;
    int worker_count;
};

/* Blocks the signals that supervise() waits for, before any thread is there, and readies libfcgi, which would take
 * SIGTERM: one that comes early waits. False: libfcgi cannot be used. */
bool supervise_init(sigset_t *signals) MUST_USE;

/* Waits for signals until one of them ends the service; then stops listening, lets what is in flight be answered,
 * within ten seconds, and tells the threads to end. If a worker hangs for 30 s the watchdog of systemd restarts
 * ticketd: it is told only while all workers work. */
void supervise(const struct supervised *supervised, const sigset_t *signals);

#endif
