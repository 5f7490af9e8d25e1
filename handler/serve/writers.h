/* Writers: each commits or spools what waits in its lane of the queue, and drains its lane of the spool. */
#ifndef TICKETD_WRITERS_H
#define TICKETD_WRITERS_H

#include "base/conf.h"
#include "serve/queue.h"
#include "serve/shared.h"
#include "spool/spool.h"

/* What all writers of a process work with. */
struct writers {
    const struct conf *conf;
    struct queue *queue;
    struct spool *spool;
    struct shared *shared;
};

/* A thread: its argument is a struct thread, whose context is a struct writers and whose number is the lane. Ends when
 * shared->stopped is set. Returns NULL. */
void *writers_run(void *thread);

/* One writer; belongs to one thread. */
struct writer;

/* Makes the writer of a lane, without connecting. NULL: out of memory. */
struct writer *writer_open(const struct writers *writers, int lane) MUST_USE;
void writer_close(struct writer *writer);

/* Takes what waits in the lane, for at most `wait_ms` milliseconds, and gives verdicts. An event whose ticket cannot be
 * written now is held until its deadline and tried again by each call, while others go. Returns how many events got
 * their verdict. */
size_t writer_write(struct writer *writer, int wait_ms);

/* How many events are held. */
size_t writer_held(const struct writer *writer);

/* Notes in shared->readiness who would take an event now, where none comes by which to tell. */
void writer_look(struct writer *writer);

#endif
