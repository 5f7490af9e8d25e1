/* What the service manager is told: the datagrams of sd_notify(3), without libsystemd. Where NOTIFY_SOCKET is not set
 * every call does nothing. The main thread only. */
#ifndef TICKETD_NOTIFY_H
#define TICKETD_NOTIFY_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: there is nobody to tell */
    struct sockaddr_un address;
    socklen_t length;
    int64_t
        watchdog_ms; /* WATCHDOG_USEC; 0: nobody waits for signs of life, or not for ours. From 3 s on it is of use */
};

/* Reads NOTIFY_SOCKET (a path, or @ and a name of the abstract namespace), WATCHDOG_USEC and WATCHDOG_PID. Where these
 * are no good it logs so and stays silent: the service itself works. notify_close closes. */
void notify_open(struct notify *notify);
void notify_close(struct notify *notify);

/* Sends `state`, for instance "READY=1". A datagram that cannot be sent is lost: the manager's time-outs tell. */
void notify_say(const struct notify *notify, const char *state);

/* RELOADING=1 with the time, which `notify_say(…, "READY=1")` must follow. */
void notify_reloading(const struct notify *notify);

#endif
