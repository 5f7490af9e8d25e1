/* The web server's connections, and the one epoll(7) set that watches them. Any thread may call.
 *
 * A connection is idle (watched) or busy: a worker reads or answers, or its event waits for the commit. No thread
 * belongs to one. */
#ifndef TICKETD_CONNECTIONS_H
#define TICKETD_CONNECTIONS_H

#include "base/outcome.h"
#include "web/request.h"

#include <stdbool.h>
#include <stdint.h>

struct connection {
    struct request *request;
    int number; /* from 0, below the most that there may be: for what its user keeps for each */
    int fd;
    int state;
    bool more;                      /* bytes arrived while it was busy */
    bool part;                      /* idle with a part of a request */
    int64_t part_began, part_since; /* monotonic milliseconds: when the first and the last of it came */
    uint32_t generation;            /* tells a late report about the connection that was here before */
    uint64_t idle_since;            /* the turn at which it became idle: the least is idle longest */
    int next_free;
};

enum wake { WAKE_LISTENER, WAKE_VERDICTS, WAKE_CLOCK, WAKE_STOP, WAKE_NOTHING, WAKE_CONNECTION };

struct connections;

/* Room for `most` connections, watching the listening socket and the descriptor of the verdicts. NULL: logged why. */
struct connections *connections_new(int most, int listener_fd, int verdicts_fd) MUST_USE;
void connections_free(struct connections *connections);

/* Waits until there is something to do, for about a second at most (then WAKE_NOTHING: the caller is alive). With
 * WAKE_CONNECTION the connection is busy and the caller's. What it returns is one thread's to do, who leads: the others
 * wait until it gives way, or does not come back for a second. `thread` is a number from 0 that tells it from others.
 */
enum wake connections_wait(struct connections *connections, int thread, struct connection **connection);

/* Called before what may take long: another thread leads, if this one does. */
void connections_give_way(struct connections *connections, int thread);

/* Accepts what is waiting at the listener, to the most that there is room for: a new connection takes the place of the
 * one that is idle longest. One on which a request waits to be read, or the rest of a request that is wanted, never
 * gives way: where there are no others, the listener is left alone until one closes or has nothing to do. */
void connections_accept(struct connections *connections);

/* Gives a busy connection back: to be watched for its next request or for the rest of one, or closed. One that waits
 * for the rest of a request keeps the time since which it is idle. */
void connections_watch(struct connections *connections, struct connection *connection);
void connections_wait_for_rest(struct connections *connections, struct connection *connection);
void connections_close(struct connections *connections, struct connection *connection);

/* With WAKE_CLOCK, about once a second: closes the connections whose request has stopped in its middle, all of which
 * was read; one with unread bytes of another request is reported again. */
void connections_close_stuck(struct connections *connections);

/* Stops watching the listener, after accepting what waits there. */
void connections_stop_listening(struct connections *connections);

/* Whether others wait for a place: then one closes after its answer, so that all have their turn. */
bool connections_wait_outside(struct connections *connections);

/* How many there are. */
int connections_open(struct connections *connections);

/* How many are busy, or idle with a request to be read. */
int connections_in_flight(struct connections *connections);

/* Makes connections_wait return WAKE_STOP in every thread, from now on. */
void connections_stop(struct connections *connections);

#endif
