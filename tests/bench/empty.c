/* The floor of the web server: a FastCGI handler that does nothing. It reads records only to find where a request ends,
 * and answers 200 at once. One thread, one epoll loop, no library.
 *
 *   empty PATH      listens on the unix socket PATH until it is killed */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BEGIN_REQUEST = 1, END_REQUEST = 3, STDIN = 5, STDOUT = 6, HEADER = 8, MOST = 4096 };

struct connection {
    int fd;
    uint8_t header[HEADER]; /* of the record at hand, as far as it came */
    size_t header_length;
    size_t rest; /* of its content and padding */
    bool keep;
    bool begins; /* the next byte of content but two holds the flags of BEGIN_REQUEST */
};

static void put_record(uint8_t *to, uint8_t type, const uint8_t *id, size_t length)
{
    const uint8_t header[HEADER] = {1, type, id[0], id[1], (uint8_t)(length >> 8), (uint8_t)length, 0, 0};
    memcpy(to, header, HEADER);
}

static bool answer(const struct connection *c)
{
    static const char text[] =
        "Status: 200 OK\r\nContent-Type: application/json\r\n\r\n{\"result\":\"updated\",\"event\":null}";
    uint8_t out[4 * HEADER + sizeof(text)] = {0};
    size_t length = sizeof(text) - 1;

    put_record(out, STDOUT, c->header + 2, length);
    memcpy(out + HEADER, text, length);
    put_record(out + HEADER + length, STDOUT, c->header + 2, 0);
    put_record(out + 2 * HEADER + length, END_REQUEST, c->header + 2, HEADER);
    length += 4 * HEADER;
    return send(c->fd, out, length, MSG_NOSIGNAL) == (ssize_t)length && c->keep;
}

/* Takes what came. False: close the connection. */
static bool feed(struct connection *c, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        if (c->header_length < HEADER) {
            c->header[c->header_length++] = *bytes++;
            count--;
            if (c->header_length < HEADER)
                continue;
            c->rest = (size_t)(c->header[4] << 8 | c->header[5]) + c->header[6];
            c->begins = c->header[1] == BEGIN_REQUEST;
        }
        size_t part = c->rest < count ? c->rest : count;
        if (c->begins && part > 2) { /* nginx sends it whole */
            c->keep = bytes[2] & 1;
            c->begins = false;
        }
        c->rest -= part;
        bytes += part;
        count -= part;
        if (c->rest > 0)
            return true;
        bool ends = c->header[1] == STDIN && c->header[4] == 0 && c->header[5] == 0;
        c->header_length = 0;
        if (ends && !answer(c))
            return false;
    }
    return true;
}

static void serve(struct connection *c)
{
    uint8_t bytes[65536];
    ssize_t count = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count <= 0 || !feed(c, bytes, (size_t)count)) {
        close(c->fd);
        free(c);
    }
}

static void admit(int poll, int listener)
{
    struct connection *c = calloc(1, sizeof(*c));

    if (!c)
        return;
    c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (c->fd < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event) < 0) {
        if (c->fd >= 0)
            close(c->fd);
        free(c);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct epoll_event event = {.events = EPOLLIN}, ready[MOST];
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), poll = epoll_create1(EPOLL_CLOEXEC);

    if (argc != 2 || strlen(argv[1]) >= sizeof(address.sun_path)) {
        fputs("usage: empty PATH\n", stderr);
        return 2;
    }
    memcpy(address.sun_path, argv[1], strlen(argv[1]) + 1);
    if (listener < 0 || poll < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, MOST) < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event) < 0) {
        perror(argv[1]);
        return 1;
    }
    for (;;) {
        int count = epoll_wait(poll, ready, MOST, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.ptr)
                serve(ready[i].data.ptr);
            else
                admit(poll, listener);
        }
    }
}
