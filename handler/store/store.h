/* Batches of events → PostgreSQL; what an SQLSTATE means. The only module that knows libpq.
 *
 * A store is one database connection and belongs to one thread. */
#ifndef TICKETD_STORE_H
#define TICKETD_STORE_H

#include "base/conf.h"
#include "event/event.h"
#include "store/nodes.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct store;

/* Makes a store without connecting. `stop_at` is looked at in every wait: no wait goes beyond that time (monotonic
 * milliseconds). What is known of nodes that are away is in `nodes`; NULL: for this store alone. None of them is
 * copied. NULL: no memory. */
struct store *store_open(const struct conf *conf, const _Atomic int64_t *stop_at, struct nodes *nodes) MUST_USE;
void store_close(struct store *store);

/* Applies the events, sets the refused among them aside, and gives each its verdict. Connects as needed and tries again
 * until `deadline` (monotonic milliseconds); a statement under way may take TICKETD_DB_TIMEOUT_MS longer.
 *
 * The results 200: committed. event->refusal: committed to vcc.rejected_events. There ends too what PostgreSQL does not
 * take while it takes another ticket's, or a made-up one. OUTCOME_NONE with event->held: its ticket, or the one before
 * it of its ticket, cannot be written now, others can: try again in a moment, and not soon where it is event->away.
 * OUTCOME_NONE: the database is away; the event may be committed all the same where the connection broke during its
 * commit.
 *
 * Each ticket's events are applied in the order given. Returns before the deadline where nothing else can be done. */
void store_apply(struct store *store, struct event **events, size_t count, int64_t deadline);

/* Bytes of bodies that one batch should hold at most: libpq keeps a copy of each until it is sent. */
#define STORE_BATCH_BYTES 4194304

/* Events that the next batch should have at most: TICKETD_BATCH, or fewer, so that a slow database takes it in half of
 * TICKETD_DB_TIMEOUT_MS. */
size_t store_batch(const struct store *store);

/* Whether stop_at has come. */
bool store_must_stop(const struct store *store);

/* Whether it is known that the database does not take events now, and not yet time to try again. */
bool store_is_away(const struct store *store);

/* Whether it did not take events when it was last tried. */
bool store_was_away(const struct store *store);

/* The same for a fifth of TICKETD_DB_TIMEOUT_MS and longer, tried again where that is due. A host that does not answer
 * takes TICKETD_DB_TIMEOUT_MS; then it is left alone for as long. */
bool store_stays_away(struct store *store) MUST_USE;

/* Whether the database, as it was when it was last connected, is distributed: then a call is of one project. */
bool store_is_distributed(const struct store *store);

/* Whether a node came back since it was last asked. */
bool store_is_whole_again(struct store *store);

/* Which database it is, for spool_is_for; connects if it must, not beyond `deadline`. NULL: the database is away. */
const char *store_identity(struct store *store, int64_t deadline) MUST_USE;

/* To be called about once a second while there is nothing to do: notices a lost connection, or a server that does not
 * answer within TICKETD_DB_TIMEOUT_MS, and connects again.
 * Returns whether the database would take an event now. */
bool store_idle(struct store *store);

/* When the database's last event was received, in microseconds since 1970, where it is connected; 0: there is none, or
 * it does not say. */
int64_t store_last_received(struct store *store);

/* A body that was set aside. */
struct rejected {
    uint8_t last_event_id[16];
    int64_t first_received_at, last_received_at; /* microseconds since 1970-01-01T00:00:00Z */
    int32_t attempts;
    int64_t project_id; /* 0: it does not say */
    const char *body;   /* length bytes */
    size_t length;
    const char *reason;
    const char *iv, *coding; /* what the body was sent with; "": nothing */
};

struct store_list;

#define STORE_LAST_TIME INT64_C(253402300799000000) /* of the year 9999 */

/* Lists what is in vcc.rejected_events and was received last from `since` on and before `until` (microseconds since
 * 1970), in that order, through a store that does nothing else meanwhile. Takes a page at a time, of 8 MiB of bodies or
 * one more: between two rows the caller may pause for as long as it likes. NULL: no memory. */
struct store_list *store_list_rejected(struct store *store, int64_t since, int64_t until) MUST_USE;

/* Sets *row, which points into the list until the next call. False: there are no more, or the database does not say. */
bool store_list_next(struct store_list *list, struct rejected *row) MUST_USE;

/* Ends the list. True: it was read to its end. False: it was not (the reason is logged, where there is one). */
bool store_list_close(struct store_list *list);

/* A list of the one body whose last receipt this is; or of none. NULL: no memory. */
struct store_list *store_find_rejected(struct store *store, const uint8_t last_event_id[16]) MUST_USE;

/* Removes that body. *found: there was one. Connects. False: the database did not say (logged). */
bool store_drop_rejected(struct store *store, const uint8_t last_event_id[16], bool *found) MUST_USE;

/* Notes that the file with this digest (SHA-256) is imported, now being `now`. *began: when that was first begun.
 * *ended: when it was imported to its end; 0: it was not. Connects. False: the database did not take it (logged). */
bool store_begin_import(struct store *store, const uint8_t digest[32], int64_t now, int64_t *began,
                        int64_t *ended) MUST_USE;

/* Notes that it was imported to its end now. The rest is as with store_begin_import. */
bool store_end_import(struct store *store, const uint8_t digest[32], int64_t now) MUST_USE;

/* Makes the journal's partition of the month of that time, where it is missing. True: it is there, or it cannot be made
 * (logged) and the default partition takes its events. False: somebody has that locked now. */
bool store_prepare_month(struct store *store, int64_t time) MUST_USE;

/* For a start and for `ticketd migrate`. Each logs what went wrong and returns false. */
bool store_valid_conninfo(const struct conf *conf) MUST_USE;
bool store_migrate(const struct conf *conf) MUST_USE;

/* For `ticketd check`: looks at the database, its schema and the role's rights, through a store that is not connected,
 * and says of each a name, a grade ("ok", "note", "wrong" or "not looked at") and words, which are valid during the
 * call. */
void store_check(struct store *store, int64_t deadline,
                 void (*say)(void *context, const char *name, const char *grade, const char *words), void *context);

/* Takes back the event that `ticketd check --url` has sent, through a store that is not connected. *was_there: this
 * database had it. NULL, or why not, in words that last until store_close. */
const char *store_forget_check(struct store *store, const uint8_t id[16], int64_t deadline, bool *was_there) MUST_USE;

#endif
