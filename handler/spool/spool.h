/* Events that the database does not take now: kept in files until it does. Any thread may call, unless said otherwise.
 *
 * A directory holds segments, NUMBER.segment (their format: segment.h), drained in the order of their numbers and
 * removed then. Any number of processes of one user may share it: who appends holds append.lock for the time of a
 * write, who drains holds drain.lock (flock(2): the kernel lets go of them when a process dies). What is known is in
 * the directory, nothing in a process, so that a fault that is mended needs no restart. */
#ifndef TICKETD_SPOOL_H
#define TICKETD_SPOOL_H

#include "base/conf.h"
#include "event/event.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct spool;

/* Whether TICKETD_SPOOL_DIR can be one: its parent is there. Logs if not. All else that may be wrong with it can be
 * mended while ticketd runs. */
bool spool_valid_directory(const struct conf *conf) MUST_USE;

/* Makes the spool of TICKETD_SPOOL_DIR; where that is not set nothing ever goes into it. NULL: no memory. */
struct spool *spool_open(const struct conf *conf) MUST_USE;

/* Makes the directory if it is missing, and logs what is wrong with it now. */
void spool_prepare(struct spool *spool);

void spool_close(struct spool *spool);

/* Whether events wait in it, those of other processes too: as long as they do, a new event must join them. If the
 * directory cannot be read, returns what was last known; if it was never read, false where this user may not open it,
 * else true. */
bool spool_holds(struct spool *spool);

/* Why the spool would not take an event now; NULL: it would. A static string. Changes nothing. */
const char *spool_problem(struct spool *spool);

/* Appends the events that have no verdict yet and gives them one: OUTCOME_SPOOLED, or event->refusal, when they are on
 * disk (fdatasync(2)), OUTCOME_UNAVAILABLE when they could not be brought there; that is logged, once for each cause.
 *
 * Takes the time of one write and one fdatasync for all of them, at most two seconds where another process holds the
 * lock. While the spool is being drained it lets two events out for each one in, for half a second at most: the drain
 * always gets to its end. */
void spool_append(struct spool *spool, struct event **events, size_t count);

#endif
