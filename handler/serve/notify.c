/* Beside the path: what systemd knows of us. */
#include "serve/notify.h"
#include "base/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* sd_watchdog_enabled(3): WATCHDOG_PID says whose duty it is; without it, it is ours. */
static int64_t watchdog_ms(void)
{
    const char *microseconds = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (!microseconds || (pid && atol(pid) != (long)getpid()))
        return 0;
    int64_t milliseconds = atoll(microseconds) / 1000;
    return milliseconds > 0 ? milliseconds : 0;
}

void notify_open(struct notify *notify)
{
    const char *name = getenv("NOTIFY_SOCKET");
    size_t length = name ? strlen(name) : 0;

    *notify = (struct notify){.fd = -1, .address = {.sun_family = AF_UNIX}};
    if (length == 0)
        return;
    if ((*name != '/' && *name != '@') || length >= sizeof(notify->address.sun_path)) {
        log_line(LOG_WARNING, "the service manager is not told anything: bad NOTIFY_SOCKET", LOG_TEXT("value", name));
        return;
    }
    strcpy(notify->address.sun_path, name);
    if (*name == '@')
        notify->address.sun_path[0] = '\0';
    /* unix(7): the name of an abstract socket has no NUL at its end, that of a path has. */
    notify->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (*name == '/'));
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify->fd < 0)
        log_line(LOG_WARNING, "the service manager is not told anything", LOG_TEXT("why", strerror(errno)));
    else
        notify->watchdog_ms = watchdog_ms();
}

void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

void notify_say(const struct notify *notify, const char *state)
{
    if (notify->fd >= 0)
        (void)!sendto(notify->fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&notify->address,
                      notify->length);
}

void notify_reloading(const struct notify *notify)
{
    struct timespec now;
    char state[64];

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    notify_say(notify, state);
}
