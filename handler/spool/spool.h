/* Events that cannot be stored now: kept in a SQLite database until they can. What waits is a ticket: its events are in
 * order, and no other ticket waits for it.
 *
 * TICKETD_SPOOL_DIR holds spool.db with its -wal and -shm (SQLite's), spool.lock and drain.lock (flock(2)), and what
 * was kept aside, *.bad. Any number of processes of one user may share it; what is known is in the database, so that a
 * fault that is mended needs no restart. Any thread may call, on one struct spool a process. Where a process holds the
 * database and does not go on, a call waits two seconds for it. Times are microseconds since 1970-01-01T00:00:00Z. */
#ifndef TICKETD_SPOOL_H
#define TICKETD_SPOOL_H

#include "base/conf.h"
#include "event/event.h"

#include <stdbool.h>
#include <stdint.h>

struct spool;

/* Whether TICKETD_SPOOL_DIR can be one: its parent is there. Logs if not. All else that may be wrong with it can be
 * mended while ticketd runs. */
bool spool_valid_directory(const struct conf *conf) MUST_USE;

/* Makes the spool of TICKETD_SPOOL_DIR, and touches no file; where that is not set nothing ever goes into it. Borrows
 * conf's text. NULL: no memory. */
struct spool *spool_open(const struct conf *conf) MUST_USE;
void spool_close(struct spool *spool);

/* When a service stops: removes the files of a spool in which nothing waits and that nobody uses now, so that whoever
 * looks finds nothing there. */
void spool_remove_empty(struct spool *spool);

/* Makes the directory if it is missing, takes over what an older ticketd left there, and logs what is wrong. Before
 * the first event comes. */
void spool_prepare(struct spool *spool);

/* Why the spool would not take an event now; NULL: it would. A static string. Changes nothing. */
const char *spool_problem(struct spool *spool);

/* ---- in */

/* Whether events of its ticket wait: then it must join them. At once right about this process, and within 10 ms about
 * others. Where that cannot be known it logs why, says false and sets event->waited: others may have been overtaken. */
bool spool_waits(struct spool *spool, struct event *event);

/* Appends the events that have no verdict yet and gives them one: OUTCOME_SPOOLED, or event->refusal, when they are on
 * disk; OUTCOME_UNAVAILABLE when they could not be brought there; that is logged, once for each cause. One commit for
 * all; where not all have room, as many as have. */
void spool_append(struct spool *spool, struct event **events, size_t count);

/* Appends the events of another spool's file, as far as it can be read. Those that are here already are passed over, so
 * it may be called again. False: not all, which is logged. *added: how many are here now. */
bool spool_add(struct spool *spool, const char *file, uint64_t *added) MUST_USE;

/* ---- out */

/* Only one process drains: whether it is this one, until spool_end_drain or its end. Does not wait for another one.
 * False also where the spool belongs to another database or cannot be read, which is logged. */
bool spool_begin_drain(struct spool *spool) MUST_USE;
void spool_end_drain(struct spool *spool);

/* Takes at most `most` events with at most `bytes` of bodies, but one at least: the oldest of several tickets that are
 * due, each ticket's in order, of those tickets that event_lane() puts into `lane`. They stay in the spool and come
 * again until they are forgotten or put off. Returns how many; the caller frees each with event_free.
 *
 * They are not decoded, but know their ticket; a refused body has its refusal and reason, and lane 0. `waited` is set.
 * What goes wrong is logged. */
size_t spool_take(struct spool *spool, unsigned lane, struct lanes lanes, struct event *events, size_t most,
                  size_t bytes) MUST_USE;

/* Removes those of the events that have a verdict other than OUTCOME_SPOOLED and OUTCOME_UNAVAILABLE. False: they will
 * come again; logged. */
bool spool_forget(struct spool *spool, struct event **events, size_t count) MUST_USE;

/* The events' tickets could not be written: each is due again after 1 s, then 2 and so on to 60, a quarter less at
 * random. event->tries grows, unless they are `held`: that is no try of an event. `why` is for people. One commit for
 * all, so give one event of a ticket. */
void spool_put_off(struct spool *spool, struct event **events, size_t count, const char *why, bool held);

/* All that was put off is due now. False: logged. */
bool spool_hurry(struct spool *spool) MUST_USE;

/* Finds an event, as spool_take would; the caller frees it. False: it is not there. */
bool spool_find(struct spool *spool, const uint8_t id[16], struct event *event) MUST_USE;

/* ---- what waits */

struct spool_status {
    int64_t events, tickets;  /* a refused body counts as a ticket */
    int64_t held, held_since; /* tickets that were put off, and the oldest event's receipt among them */
    int64_t oldest;           /* received_at of the first event; 0: there is none */
    int64_t bytes, max_bytes; /* in use, and allowed */
    int64_t aside;            /* *.bad */
    bool missing;             /* the directory is: it is made when it is needed */
    char identity[160];       /* of the database that it belongs to; "": of any */
};

/* Looks, sets the metrics, and gives disk space back: to be called about once a second by who drains. NULL, or why it
 * cannot be read, a static string; then all is 0 but max_bytes and missing. */
const char *spool_look(struct spool *spool, struct spool_status *status);

struct spool_ticket {
    int64_t project, ticket, lone; /* lone: not 0 for a refused body */
    int64_t since, next_try, events;
    unsigned tries; /* since something of it last went out */
    uint8_t oldest[16];
    char why[160];
};

/* The next `most` tickets behind `after`, by project and ticket; {0} with all of INT64_MIN is before the first. Returns
 * how many. */
size_t spool_tickets(struct spool *spool, const struct spool_ticket *after, struct spool_ticket *tickets, size_t most);

/* This process has the database with this identity: what it puts in is meant for it. The file remembers the first that
 * puts something in while it is empty; then no process that has another one puts in or takes out. One that does not
 * know yet which it has is taken for the right one. Cheap where nothing changes. */
void spool_is_for(struct spool *spool, const char *identity);

/* What is there is meant for the database of this process from now on. False: logged. */
bool spool_adopt(struct spool *spool) MUST_USE;

/* NULL, or why its events are not safe in it, a static string. */
const char *spool_warning(const struct spool *spool);

#endif
