/* The main thread of a serving process: signals, signs of life, the orderly end. */
#ifndef TICKETD_SUPERVISE_H
#define TICKETD_SUPERVISE_H

#include "serve/serve.h"

#include <signal.h>

/* Blocks the signals that supervise() waits for, before any thread is there, and readies libfcgi, which would take
 * SIGTERM: one that comes early waits. False: libfcgi cannot be used. */
bool supervise_init(sigset_t *signals) MUST_USE;

/* Waits for signals until one of them ends the service; then stops listening, lets what is in flight be answered,
 * within ten seconds, and tells the threads to end. `workers` are those of the server's threads. */
void supervise(struct server *server, const struct thread *workers, const sigset_t *signals);

#endif
