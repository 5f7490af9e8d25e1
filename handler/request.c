/* The start of the path: bytes from the web server. See the traps of libfcgi that each step avoids. */
#include "request.h"
#include "clock.h"

#include <errno.h>
#include <fcgiapp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ROLE_RESPONDER     1       /* FastCGI specification 1.0, section 8 */
#define READ_TIMEOUT_S     2       /* for one read: libfcgi ends the request on the first that times out */
#define REQUEST_TIMEOUT_MS 10000   /* for a whole request */
#define CHUNK              16384   /* bytes read at once where the length is unknown */
#define DISCARD_MAX        8388608 /* bytes of a too large body read away so that the answer arrives */

struct request {
    FCGX_Request fcgi;
    bool cgi;
    bool must_close; /* bytes of the body may still come: they must never be read as another request */
    char *body;
    size_t length;
    const char *problem;
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

    struct timeval timeout = {.tv_sec = READ_TIMEOUT_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    FCGX_InitRequest(&request->fcgi, -1, 0);
    request->fcgi.ipcFd = fd;
    return request;
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

const char *request_parameter(const struct request *request, const char *name)
{
    const char *value = request->cgi ? getenv(name) : FCGX_GetParam(name, request->fcgi.envp);
    return value ? value : "";
}

/* One piece of the body. 0: its end. Below 0: it broke off. */
static ssize_t read_piece(struct request *request, char *into, size_t size)
{
    if (request->cgi) {
        ssize_t count;
        do
            count = read(STDIN_FILENO, into, size);
        while (count < 0 && errno == EINTR);
        return count;
    }
    int count = FCGX_GetStr(into, (int)size, request->fcgi.in);
    return FCGX_GetError(request->fcgi.in) ? -1 : count;
}

static enum outcome bad_request(struct request *request, const char *problem)
{
    request->problem = problem;
    return OUTCOME_BAD_REQUEST;
}

/* CONTENT_LENGTH (RFC 3875 section 4.1.2); -1 where none is given, -2 where it is no number. */
static int64_t content_length(const struct request *request)
{
    const char *value = request_parameter(request, "CONTENT_LENGTH");
    if (!*value)
        return -1;
    if (strlen(value) > 18 || value[strspn(value, "0123456789")] != '\0')
        return -2;
    return strtoll(value, NULL, 10);
}

static enum outcome discard(struct request *request, int64_t deadline)
{
    char chunk[CHUNK];
    size_t total = 0;
    ssize_t count;

    while ((count = read_piece(request, chunk, sizeof(chunk))) > 0) {
        total += (size_t)count;
        if (total > DISCARD_MAX || clock_monotonic_ms() > deadline)
            break;
    }
    request->must_close = count != 0;
    return OUTCOME_TOO_LARGE;
}

static enum outcome read_body(struct request *request, size_t max_body, int64_t deadline)
{
    int64_t announced = content_length(request);
    if (announced == -2) {
        request->must_close = true;
        return bad_request(request, "CONTENT_LENGTH is not a number");
    }
    if (announced > (int64_t)max_body)
        return discard(request, deadline);

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
        if (count <= 0 || clock_monotonic_ms() > deadline) {
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
            outcome = discard(request, deadline);
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

enum outcome request_read(struct request *request, size_t max_body)
{
    int64_t deadline = clock_monotonic_ms() + REQUEST_TIMEOUT_MS;

    request->must_close = false;
    request->problem = NULL;
    if (!request->cgi) {
        /* The connection is open already, so that FCGX_Accept_r only reads. Detached means: when libfcgi closes it,
         * it does not wait two seconds for the peer. */
        request->fcgi.keepConnection = 1;
        request->fcgi.detached = 1;
        if (FCGX_Accept_r(&request->fcgi) != 0)
            return OUTCOME_GONE;
        /* A read that timed out leaves truncated parameters and no other trace. */
        if (FCGX_GetError(request->fcgi.in) || request->fcgi.role != ROLE_RESPONDER)
            return OUTCOME_GONE;
    }
    return read_body(request, max_body, deadline);
}

char *request_take_body(struct request *request, size_t *length)
{
    char *body = request->body;
    *length = request->length;
    request->body = NULL;
    request->length = 0;
    return body;
}

static void write_cgi(const struct text *answer)
{
    for (size_t done = 0; done < answer->length;) {
        ssize_t count = write(STDOUT_FILENO, answer->bytes + done, answer->length - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return;
        done += (size_t)count;
    }
}

bool request_answer(struct request *request, const struct text *answer, bool keep)
{
    free(request->body);
    request->body = NULL;
    if (request->cgi) {
        write_cgi(answer);
        return false;
    }
    if (!keep || request->must_close)
        request->fcgi.keepConnection = 0;
    request->fcgi.detached = 1;
    if (answer->length && !answer->failed)
        FCGX_PutStr(answer->bytes, (int)answer->length, request->fcgi.out);
    else
        request->fcgi.keepConnection = 0;
    FCGX_Finish_r(&request->fcgi);
    return request->fcgi.ipcFd >= 0;
}

void request_free(struct request *request)
{
    if (!request)
        return;
    free(request->body);
    request->fcgi.detached = 1;
    if (!request->cgi)
        FCGX_Free(&request->fcgi, request->fcgi.ipcFd >= 0);
    free(request);
}
