/* A statement that reads, of which neither the database nor our session is to suffer. For the store's files alone. */
#ifndef TICKETD_STORE_READ_H
#define TICKETD_STORE_READ_H

#include "store/store_connection.h"

struct limited_read {
    const char *sql;
    int count;
    const char *const *values; /* count parameters, as text */
    int limit_ms;              /* of the statement in the server, and of its waits for locks */
};

/* Its rows, read in a transaction that only reads, over the connection that is there. NULL: *error, or where that is
 * NULL too the connection, says why. The caller clears both; then, once that was told, store_read_end closes a
 * connection that is of no more use. */
PGresult *store_read(struct store *store, const struct limited_read *reading, int64_t deadline,
                     PGresult **error) MUST_USE;
void store_read_end(struct store *store);

#endif
