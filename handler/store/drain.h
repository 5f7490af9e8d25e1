/* The spool back into the database: by the same decoding and the same store as new events. */
#ifndef TICKETD_DRAIN_H
#define TICKETD_DRAIN_H

#include "base/conf.h"
#include "spool/spool.h"
#include "store/store.h"

struct drain;

/* Makes a drain of one of `lanes` lanes of the spool. Store and spool are borrowed. Used by one thread. NULL: no
 * memory.
 */
struct drain *drain_open(const struct conf *conf, struct store *store, struct spool *spool, int lane,
                         int lanes) MUST_USE;
void drain_close(struct drain *drain);

/* Connects if it must, not beyond `deadline`, and tells the spool which database this is: before it is first asked
 * whether something waits. False: the database is away. */
bool drain_meet(struct drain *drain, int64_t deadline) MUST_USE;

/* Takes a batch of what is due in the spool to the database, until `deadline` (monotonic milliseconds) or a little
 * longer. What has its verdict leaves the spool; a ticket that cannot be written is put off; where the database is away
 * all stays as it is. Returns how many left; 0 too where another process drains. */
size_t drain_step(struct drain *drain, int64_t deadline) MUST_USE;

#endif
