/* Writers: each commits or spools what waits in its lane of the queue, one batch after the other. */
#ifndef TICKETD_WRITERS_H
#define TICKETD_WRITERS_H

#include "serve.h"
#include "store.h"

/* A thread: its argument is a struct thread, whose number is the lane. Ends when the server has stopped. Returns NULL.
 */
void *writers_run(void *thread);

/* A thread, like the former: brings back what is in the spool, by a connection of its own that is there only as long as
 * it is needed. Ends when stop_drain is posted. */
void *writers_drain(void *thread);

/* Takes what waits in a lane, for at most `wait_ms` milliseconds, and gives it verdicts. Returns how many events that
 * were. `batch` and `events` have room for conf->batch. */
size_t writers_write(struct server *server, int lane, struct store *store, struct waiter **batch, struct event **events,
                     int wait_ms);

/* Who would take an event now, where none comes by which to tell. */
enum readiness writers_look(struct server *server, struct store *store);

#endif
