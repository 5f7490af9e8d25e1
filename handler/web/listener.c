/* Sockets opened here and not by FCGX_OpenSocket, which unlinks live sockets and exits on errors. */
#include "web/listener.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG     4096 /* a full backlog is an immediate 502; the kernel caps it at net.core.somaxconn */
#define LOCK_MS     2000
#define SOCKET_MODE 0660 /* the web server comes in by the group */

static bool is_listening(int fd)
{
    int listening = 0;
    socklen_t size = sizeof(listening);
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

static bool make_ready(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

bool listener_inherit(struct listener *listener)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    int fd = pid && count && atol(pid) == (long)getpid() && atoi(count) >= 1 ? 3 : STDIN_FILENO;

    *listener = (struct listener){.fd = fd};
    return is_listening(fd) && make_ready(fd);
}

static bool fail(const char *address, const char *why)
{
    log_line(LOG_ERROR, "cannot listen", LOG_TEXT("name", "TICKETD_LISTEN"), LOG_TEXT("address", address),
             LOG_TEXT("why", why));
    return false;
}

/* 0: nothing is there. 1: a socket that nobody listens on. -1: something that is not ours to remove (errno). */
static int look_at(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0)
        return errno == ENOENT ? 0 : -1;
    if (!S_ISSOCK(status.st_mode)) {
        errno = EEXIST;
        return -1;
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return -1;
    int connected = connect(probe, (const struct sockaddr *)address, sizeof(*address));
    int error = errno;
    close(probe);
    if (connected < 0 && error == ECONNREFUSED)
        return 1;
    errno = connected == 0 || error == EAGAIN ? EADDRINUSE : error;
    return -1;
}

static int bind_unix(const struct sockaddr_un *address)
{
    int found = look_at(address);
    if (found < 0 || (found == 1 && unlink(address->sun_path) < 0))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    mode_t before = umask(0777 & ~SOCKET_MODE);
    int bound = bind(fd, (const struct sockaddr *)address, sizeof(*address));
    umask(before);
    if (bound == 0 && listen(fd, BACKLOG) == 0 && make_ready(fd))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static bool open_unix(struct listener *listener, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char copy[sizeof(address.sun_path)];
    struct stat status;

    strcpy(address.sun_path, path);
    strcpy(copy, path);

    /* Two that start at once must not both find the socket stale: the directory is the lock. Who else may read it can
     * hold the lock too: a start needs it for a moment. */
    int directory = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool locked = directory >= 0 && clock_lock_within(directory, LOCK_EX, LOCK_MS);
    if (!locked && directory >= 0 && errno == EWOULDBLOCK) {
        log_line(LOG_WARNING, "another process keeps the socket's directory locked: starting all the same",
                 LOG_TEXT("address", path));
        locked = true;
    }
    if (!locked) {
        int error = errno;
        if (directory >= 0)
            close(directory);
        return fail(path, strerror(error));
    }
    int fd = bind_unix(&address);
    bool good = fd >= 0 && lstat(path, &status) == 0;
    int error = errno;
    close(directory);
    if (!good) {
        if (fd >= 0)
            close(fd);
        return fail(path, error == EADDRINUSE ? "another process listens there" : strerror(error));
    }
    *listener = (struct listener){.fd = fd, .path = path, .device = status.st_dev, .inode = status.st_ino};
    return true;
}

static int bind_tcp(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0 && make_ready(fd))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static bool open_tcp(struct listener *listener, const char *address)
{
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    char host[256];

    snprintf(host, sizeof(host), "%.*s", (int)(colon - address), address);
    if (host[0] == '[' && host[strlen(host) - 1] == ']') {
        memmove(host, host + 1, strlen(host));
        host[strlen(host) - 1] = '\0';
    }
    int status = getaddrinfo(host, colon + 1, &hints, &found);
    if (status != 0)
        return fail(address, gai_strerror(status));
    int fd = bind_tcp(found);
    int error = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return fail(address, strerror(error));
    if (strncmp(host, "127.", 4) != 0 && strcmp(host, "localhost") != 0 && strcmp(host, "::1") != 0)
        log_line(LOG_WARNING,
                 "whoever reaches this address can send events and can crash libfcgi: keep it behind a firewall",
                 LOG_TEXT("address", address));
    *listener = (struct listener){.fd = fd};
    return true;
}

static bool is_tcp_port(const char *digits)
{
    size_t length = strspn(digits, "0123456789");
    return length > 0 && length < 6 && !digits[length] && atoi(digits) > 0 && atoi(digits) < 65536;
}

bool listener_valid(const char *address)
{
    const char *path = strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL, *colon = strrchr(address, ':');
    const char *expected = NULL;

    if (path && (!*path || strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)))
        expected = "unix:PATH, with a path of 1 to 107 bytes";
    else if (!path && *address && (!colon || colon == address || !is_tcp_port(colon + 1)))
        expected = "unix:PATH, or HOST:PORT with a port from 1 to 65535 (for all addresses say 0.0.0.0:PORT)";
    if (expected)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", "TICKETD_LISTEN"), LOG_TEXT("value", address),
                 LOG_TEXT("expected", expected));
    return !expected;
}

bool listener_open(struct listener *listener, const char *address)
{
    return strncmp(address, "unix:", 5) == 0 ? open_unix(listener, address + 5) : open_tcp(listener, address);
}

void listener_close(struct listener *listener)
{
    struct stat status;

    if (listener->path && lstat(listener->path, &status) == 0 && status.st_dev == listener->device &&
        status.st_ino == listener->inode)
        unlink(listener->path);
    if (listener->fd >= 0)
        close(listener->fd);
    listener->fd = -1;
    listener->path = NULL;
}
