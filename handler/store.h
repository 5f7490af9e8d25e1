/* Batches of events → PostgreSQL; what an SQLSTATE means. The only module that knows libpq.
 *
 * A store is one database connection and belongs to one thread. */
#ifndef TICKETD_STORE_H
#define TICKETD_STORE_H

#include "conf.h"
#include "event.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct store;

/* Makes a store without connecting. `stop_at` is looked at in every wait: no wait goes beyond that time (monotonic
 * milliseconds). Neither is copied. NULL: no memory. */
struct store *store_open(const struct conf *conf, const _Atomic int64_t *stop_at) MUST_USE;
void store_close(struct store *store);

/* Applies the events, sets the refused among them aside, and gives each its verdict. Connects as needed and tries again
 * until `deadline` (monotonic milliseconds); a statement under way may take TICKETD_DB_TIMEOUT_MS longer.
 *
 * The results 200: committed. event->refusal: committed to vcc.rejected_events; an event that PostgreSQL refuses ends
 * there too, and does not touch the others. OUTCOME_NONE: out of time; the event may be committed all the same where
 * the connection broke during its commit.
 *
 * Sorts `events` by ticket, each ticket's in the order given: hosts that take locks in the same order do not
 * deadlock. */
void store_settle(struct store *store, struct event **events, size_t count, int64_t deadline);

/* To be called about once a second while there is nothing to do: notices a lost connection and connects again.
 * Returns whether the database would take an event now. */
bool store_idle(struct store *store);

/* The parts of `ticketd check` and `ticketd migrate`. Each logs what went wrong and returns false. */
bool store_valid_conninfo(const struct conf *conf) MUST_USE;
bool store_check(struct store *store, int64_t deadline) MUST_USE;
bool store_migrate(const struct conf *conf) MUST_USE;

#endif
