/* The spool back into the database: in order, in batches, by the same decoding and the same store as new events. */
#ifndef TICKETD_DRAIN_H
#define TICKETD_DRAIN_H

#include "base/conf.h"
#include "store/store.h"

enum drained {
    DRAINED,       /* the spool is empty */
    DRAIN_BUSY,    /* another process drains it */
    DRAIN_STOPPED, /* the database does not take its events now, or stop_at came: what is left stays, in order */
    DRAIN_FAILED   /* its files cannot be read or removed (logged) */
};

struct drain;

/* Makes a drain of the spool through `store`, which is borrowed. `report` is told of every event drained, with the
 * bytes that are left; where it is NULL the log is. Used by one thread. NULL: no memory. */
struct drain *drain_open(const struct conf *conf, struct store *store,
                         void (*report)(void *context, int64_t bytes_left), void *context) MUST_USE;
void drain_close(struct drain *drain);

/* Drains until the spool is empty or it cannot go on; the next call goes on from there. An event that PostgreSQL
 * refuses ends in vcc.rejected_events. A segment in which bytes are no record is kept aside once its records are
 * drained. */
enum drained drain_run(struct drain *drain) MUST_USE;

#endif
