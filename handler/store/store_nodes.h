/* A distributed database (Citus) of which a node is away: events of its projects are held, those of others go on. A
 * pipeline is of one project there. Only the store's files include this. */
#ifndef TICKETD_STORE_NODES_H
#define TICKETD_STORE_NODES_H

#include "store/store_faults.h"

/* Tries the nodes that are away and due to be tried, with a made-up event. */
void nodes_try(struct store *store);

/* Holds the jobs whose project is known not to be written now. */
void nodes_hold(struct store *store, struct work *work);

/* The pipeline of the chosen jobs failed in this way, after so many milliseconds. True: because of their node, or of
 * their project. Then that is noted and its jobs are held; or all is away, and that is noted. */
bool nodes_blamed(struct store *store, struct work *work, const struct attempt *attempt, enum sqlstate_class class,
                  int64_t took) MUST_USE;

/* A made-up event of the project failed, with this SQLSTATE, or the connection is lost. As nodes_blamed. */
void nodes_refuse(struct store *store, struct work *work, int64_t project, const char *state, int64_t took);

#endif
