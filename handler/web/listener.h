/* The listening socket: inherited, or opened by TICKETD_LISTEN. */
#ifndef TICKETD_LISTENER_H
#define TICKETD_LISTENER_H

#include <stdbool.h>

struct listener {
    int fd;
    const char *path;            /* of a unix socket that we made; NULL otherwise. Borrowed. */
    unsigned long device, inode; /* of that path, so that only our own is unlinked */
};

/* The listening socket that was inherited: descriptor 3 by sd_listen_fds(3), else descriptor 0 (spawn-fcgi, mod_fcgid).
 * False: none was. */
bool listener_inherit(struct listener *listener);

/* Whether an address can be meant: unix:PATH with a path that fits, HOST:PORT with a port from 1 to 65535, or "".
 * False: logged as a bad TICKETD_LISTEN. */
bool listener_valid(const char *address);

/* Opens such an address, a unix socket with mode 0660. False: logged why. A live socket is never replaced, a stale one
 * is. */
bool listener_open(struct listener *listener, const char *address);

/* Closes the socket and removes the path where it is ours. Never shuts it down: an inherited one is its parent's too.
 */
void listener_close(struct listener *listener);

#endif
