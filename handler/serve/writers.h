/* Writers: each commits or spools what waits in its lane of the queue, one batch after the other. */
#ifndef TICKETD_WRITERS_H
#define TICKETD_WRITERS_H

#include "serve/serve.h"
#include "store/store.h"

/* A thread: its argument is a struct thread, whose number is the lane. Ends when the server has stopped. Returns NULL.
 */
void *writers_run(void *thread);

/* A thread, like the former: brings back what is in the spool, by a connection of its own that is there only as long as
 * it is needed. Ends when stop_drain is posted. */
void *writers_drain(void *thread);

/* What a writer works with; belongs to one thread. */
struct writer;

/* Makes the writer of a lane, without connecting. NULL: out of memory. */
struct writer *writer_open(struct server *server, int lane) MUST_USE;
void writer_close(struct writer *writer);

/* Takes what waits in the lane, for at most `wait_ms` milliseconds, gives it verdicts, and notes in server->readiness
 * who took it. Returns how many events that were. */
size_t writer_write(struct writer *writer, int wait_ms);

/* Notes in server->readiness who would take an event now, where none comes by which to tell. */
void writer_look(struct writer *writer);

#endif
