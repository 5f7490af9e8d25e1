/* The start of the path: bytes from the web server. See the traps of libfcgi that each step avoids. */
#include "web/request.h"
#include "base/clock.h"
#include "base/log.h"
#include "web/parts.h"

#include <errno.h>
#include <fcgiapp.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ROLE_RESPONDER     1        /* FastCGI specification 1.0, section 8 */
#define WRITE_TIMEOUT_MS   200      /* for a peer that does not read its answer */
#define ANSWER_MS          5000     /* for a peer that reads its answer slowly */
#define REQUEST_TIMEOUT_MS 10000    /* for the body of a CGI request */
#define SHORT              16384    /* bytes of a request that is looked at in the socket */
#define UNREAD_MAX         65536    /* bytes of answers that a peer may leave unread */
#define CHUNK              16384    /* bytes read at once where the length is unknown */
#define DISCARD_MAX        16777216 /* bytes of a body read away: what web servers let through */
#define TURN_MAX           1048576  /* bytes of one connection that are read before others have their turn */

struct request {
    FCGX_Request fcgi;
    bool cgi;
    bool must_close; /* bytes of the body may still come: they must never be read as another request */
    char *body;
    size_t length;
    const char *problem;
    struct request_head head;
    int64_t deadline; /* of a CGI request, monotonic milliseconds */

    int socket;     /* the connection */
    size_t written; /* bytes: no more are unread */
    bool from_file; /* libfcgi has read the parameters from a file in memory, not from the socket */
    bool begun;     /* the parameters are read */
    bool in_parts;  /* it did not come at once */
    bool pipelined; /* bytes came behind it, of which libfcgi reads some with it: nothing can be read after it */
    struct parts parts;
};

bool request_library_init(void)
{
    return FCGX_Init() == 0;
}

struct request *request_open(int fd)
{
    struct request *request = calloc(1, sizeof(*request));
    if (!request)
        return NULL;

    struct timeval timeout = {.tv_usec = WRITE_TIMEOUT_MS * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    FCGX_InitRequest(&request->fcgi, -1, 0);
    request->fcgi.ipcFd = fd;
    request->socket = fd;
    return request;
}

void request_refuse(struct request *request, enum outcome outcome)
{
    parts_refuse(&request->parts, outcome);
}

bool request_is_wanted(const struct request *request)
{
    return request->begun && request->parts.refused == OUTCOME_NONE;
}

/* Whether the peer sends requests and does not read the answers: a thread would wait for it in the end. */
static bool leaves_unread(struct request *request)
{
    int unread = 0;

    if (request->written > UNREAD_MAX && ioctl(request->socket, SIOCOUTQ, &unread) == 0)
        request->written = (size_t)unread;
    return unread > UNREAD_MAX;
}

/* CONTENT_LENGTH (RFC 3875 section 4.1.2); -1 where none is given, or none that can be believed: some web servers say
 * -1 of a chunked body. */
static int64_t content_length(const struct request *request)
{
    const char *value = request->head.content_length;
    if (!*value || strlen(value) > 18 || value[strspn(value, "0123456789")] != '\0')
        return -1;
    return strtoll(value, NULL, 10);
}

static enum request_state take_part(struct request *request, const char *bytes, size_t count, size_t max_body)
{
    enum records_state state = parts_add(&request->parts, bytes, count, max_body);

    if (state == RECORDS_BAD)
        return REQUEST_GONE;
    request->pipelined = request->parts.records.behind > 0;
    if (state == RECORDS_WHOLE)
        return REQUEST_WHOLE;
    if (request->begun || !records_have_head(&request->parts.records))
        return REQUEST_PART;
    if (!request_begin(request))
        return REQUEST_GONE;
    if (content_length(request) > (int64_t)max_body)
        request_refuse(request, OUTCOME_TOO_LARGE);
    return REQUEST_HEAD;
}

/* Takes what has come of a request out of the socket. */
static enum request_state gather(struct request *request, size_t max_body)
{
    char chunk[CHUNK];
    enum request_state state = REQUEST_PART;

    for (size_t all = 0; state == REQUEST_PART && all < TURN_MAX;) {
        ssize_t count = recv(request->socket, chunk, sizeof(chunk), MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return REQUEST_PART;
        if (count <= 0)
            return REQUEST_GONE;
        all += (size_t)count;
        state = take_part(request, chunk, (size_t)count, max_body);
    }
    return state;
}

enum request_state request_look(struct request *request, size_t max_body)
{
    uint8_t bytes[SHORT];
    struct records records = {0};

    if (request->in_parts)
        return gather(request, max_body);
    ssize_t count = recv(request->socket, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return REQUEST_NONE;
    if (count <= 0 || leaves_unread(request))
        return REQUEST_GONE;
    switch (records_look(&records, bytes, (size_t)count)) {
    case RECORDS_WHOLE:
        request->pipelined = records.behind > 0;
        return REQUEST_WHOLE;
    case RECORDS_PART:
        request->in_parts = true;
        return gather(request, max_body);
    default:
        return REQUEST_GONE;
    }
}

/* libfcgi reads from a descriptor: parameters that were taken from the socket become a file in memory. */
static bool read_from_file(struct request *request)
{
    int file = memfd_create("request", MFD_CLOEXEC);
    size_t length = request->parts.records.head_length;

    if (file < 0)
        log_line_seldom(LOG_WARNING, "no descriptor for a request: its connection is closed",
                        LOG_TEXT("why", strerror(errno)));
    if (file < 0 || write(file, request->parts.head.bytes, length) != (ssize_t)length ||
        lseek(file, 0, SEEK_SET) != 0) {
        close(file);
        return false;
    }
    parts_forget_head(&request->parts);
    request->fcgi.ipcFd = file;
    request->from_file = true;
    return true;
}

/* Nothing more is read: libfcgi gets the socket again, to answer or to close. */
static void end_reading(struct request *request)
{
    if (!request->from_file)
        return;
    if (request->fcgi.ipcFd >= 0)
        close(request->fcgi.ipcFd);
    request->fcgi.ipcFd = request->socket;
    request->from_file = false;
}

struct request *request_open_cgi(void)
{
    struct request *request = calloc(1, sizeof(*request));
    if (request) {
        request->cgi = true;
        request->fcgi.ipcFd = -1;
    }
    return request;
}

const char *request_problem(const struct request *request)
{
    return request->problem;
}

static const struct {
    const char *name;
    size_t offset; /* of the field in struct request_head */
    bool secret;   /* it may hold a token */
} variables[] = {
    {"REQUEST_METHOD", offsetof(struct request_head, method), false},
    {"REQUEST_URI", offsetof(struct request_head, uri), true},
    {"PATH_INFO", offsetof(struct request_head, path_info), false},
    {"SCRIPT_NAME", offsetof(struct request_head, script_name), false},
    {"QUERY_STRING", offsetof(struct request_head, query), true},
    {"HTTP_AUTHORIZATION", offsetof(struct request_head, authorization), true},
    {"CONTENT_LENGTH", offsetof(struct request_head, content_length), false},
    {"HTTP_CONTENT_ENCODING", offsetof(struct request_head, content_encoding), false},
    {"REQUEST_ID", offsetof(struct request_head, request_id), false},
    {"UNIQUE_ID", offsetof(struct request_head, unique_id), false},
};

#define VARIABLES (sizeof(variables) / sizeof(variables[0]))

static const char **field(struct request *request, size_t variable)
{
    return (const char **)((char *)&request->head + variables[variable].offset);
}

/* Looks up each variable once. */
static void read_head(struct request *request)
{
    for (size_t i = 0; i < VARIABLES; i++) {
        const char *name = variables[i].name;
        const char *value = request->cgi ? getenv(name) : FCGX_GetParam(name, request->fcgi.envp);
        *field(request, i) = value ? value : "";
    }
}

static void forget_head(struct request *request)
{
    for (size_t i = 0; i < VARIABLES; i++) {
        const char *value = *field(request, i);
        if (variables[i].secret && value)
            explicit_bzero((char *)(uintptr_t)value, strlen(value));
    }
    request->head = (struct request_head){0};
}

const struct request_head *request_head(const struct request *request)
{
    return &request->head;
}

/* One piece of the body. 0: its end. Below 0: it broke off. */
static ssize_t read_piece(struct request *request, char *into, size_t size)
{
    if (request->cgi) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        ssize_t count;
        do {
            int64_t left = request->deadline - clock_monotonic_ms();
            errno = 0;
            count = poll(&input, 1, left > 0 ? (int)left : 0) > 0 ? read(STDIN_FILENO, into, size) : -1;
        } while (count < 0 && errno == EINTR);
        return count;
    }
    if (request->in_parts)
        return (ssize_t)parts_read(&request->parts, into, size);
    int count = FCGX_GetStr(into, (int)size, request->fcgi.in);
    return FCGX_GetError(request->fcgi.in) ? -1 : count;
}

static enum outcome bad_request(struct request *request, const char *problem)
{
    request->problem = problem;
    return OUTCOME_BAD_REQUEST;
}

void request_discard(struct request *request)
{
    char chunk[CHUNK];
    int64_t announced = content_length(request);
    int64_t left = DISCARD_MAX;
    ssize_t count = 1;

    if (request->cgi && announced >= 0)
        left = announced; /* as in request_read */
    else if (request->cgi && strcmp(request->head.method, "GET") == 0)
        left = 0; /* what others send without a length may be chunked: the web server waits until it is read */
    while (left > 0 && count > 0 && clock_monotonic_ms() <= request->deadline) {
        count = read_piece(request, chunk, sizeof(chunk));
        left -= count;
    }
    request->must_close = count != 0;
}

static enum outcome too_large(struct request *request)
{
    request_discard(request);
    return OUTCOME_TOO_LARGE;
}

enum outcome request_read(struct request *request, size_t max_body)
{
    if (request->parts.refused != OUTCOME_NONE)
        return request->parts.refused;
    int64_t announced = content_length(request);
    if (announced > (int64_t)max_body)
        return too_large(request);

    /* One byte more than announced, so that a body which is too long shows, and one for the NUL. */
    size_t capacity = announced >= 0 ? (size_t)announced + 2 : CHUNK;
    char *body = malloc(capacity);
    size_t length = 0;
    enum outcome outcome = OUTCOME_UNAVAILABLE;

    request->must_close = true;
    while (body) {
        /* A CGI program must not read past CONTENT_LENGTH (RFC 3875 section 4.2): there may be no end of file. */
        bool at_end = request->cgi && announced == (int64_t)length;
        ssize_t count = at_end ? 0 : read_piece(request, body + length, capacity - 1 - length);
        if (count == 0 && (announced < 0 || length == (size_t)announced)) {
            body[length] = '\0';
            request->body = body;
            request->length = length;
            request->must_close = false;
            return OUTCOME_NONE;
        }
        if (count <= 0 || clock_monotonic_ms() > request->deadline) {
            request->must_close = count != 0;
            outcome = bad_request(request, "the body is incomplete");
            break;
        }
        length += (size_t)count;
        if (announced >= 0 && length > (size_t)announced) {
            outcome = bad_request(request, "the body is longer than CONTENT_LENGTH");
            break;
        }
        if (length > max_body) {
            outcome = too_large(request);
            break;
        }
        if (capacity - 1 == length) {
            capacity *= 2;
            char *larger = realloc(body, capacity);
            if (!larger)
                break;
            body = larger;
        }
    }
    if (outcome == OUTCOME_BAD_REQUEST) {
        request->body = body; /* as much as came */
        request->length = length;
    } else {
        free(body);
    }
    return outcome;
}

bool request_begin(struct request *request)
{
    request->deadline = clock_monotonic_ms() + REQUEST_TIMEOUT_MS;
    if (request->begun)
        return true;
    request->must_close = false;
    request->problem = NULL;
    if (!request->cgi) {
        /* The connection is open already, so that FCGX_Accept_r only reads. Detached means: when libfcgi closes it,
         * it does not wait two seconds for the peer. */
        request->fcgi.keepConnection = 1;
        request->fcgi.detached = 1;
        if (request->in_parts && !read_from_file(request))
            return false;
        bool good = FCGX_Accept_r(&request->fcgi) == 0 && !FCGX_GetError(request->fcgi.in) &&
                    request->fcgi.role == ROLE_RESPONDER;
        end_reading(request); /* what is left is the body, which is in memory where the head was */
        if (!good)
            return false;
    }
    read_head(request);
    request->begun = true;
    return true;
}

char *request_take_body(struct request *request, size_t *length)
{
    char *body = request->body;
    *length = request->length;
    request->body = NULL;
    request->length = 0;
    return body;
}

/* A peer that takes a piece now and then, each within WRITE_TIMEOUT_MS, must not keep the thread. */
static void put_answer(struct request *request, const struct text *answer)
{
    int64_t deadline = clock_monotonic_ms() + ANSWER_MS;

    for (size_t done = 0, piece; done < answer->length; done += piece) {
        piece = answer->length - done < CHUNK ? answer->length - done : CHUNK;
        FCGX_PutStr(answer->bytes + done, (int)piece, request->fcgi.out);
        if (FCGX_GetError(request->fcgi.out) || clock_monotonic_ms() > deadline) {
            shutdown(request->socket, SHUT_RDWR);
            request->fcgi.keepConnection = 0;
            return;
        }
    }
}

bool request_answer(struct request *request, const struct text *answer, bool keep)
{
    free(request->body);
    request->body = NULL;
    forget_head(request);
    parts_free(&request->parts);
    request->in_parts = request->begun = false;
    if (request->cgi) {
        (void)!text_write(STDOUT_FILENO, answer->bytes, answer->length); /* or there is nobody to read it */
        return false;
    }
    end_reading(request);
    if (!keep || request->must_close || request->pipelined)
        request->fcgi.keepConnection = 0;
    request->fcgi.detached = 1;
    if (answer->length && !answer->failed)
        put_answer(request, answer);
    else
        request->fcgi.keepConnection = 0;
    FCGX_Finish_r(&request->fcgi);
    request->written += 2 * answer->length + 2048; /* the kernel counts its own buffers, too */
    return request->fcgi.ipcFd >= 0;
}

void request_free(struct request *request)
{
    if (!request)
        return;
    free(request->body);
    parts_free(&request->parts);
    end_reading(request);
    request->fcgi.detached = 1;
    if (!request->cgi)
        FCGX_Free(&request->fcgi, request->fcgi.ipcFd >= 0);
    free(request);
}
