/* One HTTP request in and its answer out, by FastCGI or CGI. The only module that knows libfcgi.
 *
 * A struct request belongs to one connection of the web server and is used by one thread at a time. */
#ifndef TICKETD_REQUEST_H
#define TICKETD_REQUEST_H

#include "base/outcome.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>

struct request;

enum request_state { REQUEST_NONE, REQUEST_PART, REQUEST_HEAD, REQUEST_WHOLE, REQUEST_GONE };

/* Readies libfcgi, once per process. Takes the dispositions of SIGPIPE, SIGTERM and SIGUSR1: set your own afterwards.
 */
bool request_library_init(void) MUST_USE;

/* Makes the request of a FastCGI connection; the connection's descriptor is the request's from here on, and its
 * receive and send time-outs are set. NULL: out of memory, the descriptor is still the caller's. */
struct request *request_open(int fd) MUST_USE;

/* Makes the one request of a CGI process: standard input, the environment, standard output. */
struct request *request_open_cgi(void) MUST_USE;

/* Looks at what has come of the next request, without waiting. REQUEST_WHOLE: all of it, and nothing is wrong with its
 * records: request_begin is next. REQUEST_PART, REQUEST_NONE: ask again when more has come, or anything. REQUEST_HEAD:
 * its parameters are there before its body is: look at request_head, request_refuse it or not, and ask again.
 * REQUEST_GONE: the peer left, or what it sends is no request; close it.
 *
 * What is whole at the first look stays in the socket for libfcgi. The body of all else is gathered, at most `max_body`
 * bytes, and no more of all requests together than 64 such bodies; beyond that the request is refused. A peer that
 * leaves many answers unread is gone. */
enum request_state request_look(struct request *request, size_t max_body) MUST_USE;

/* Whether the rest of a request that did not come at once is worth waiting for: its parameters are there, and its body
 * was not refused. */
bool request_is_wanted(const struct request *request);

/* The body is not wanted: what has come of it is freed, the rest is dropped as it comes. Where it is asked for all the
 * same, request_read says `outcome`. */
void request_refuse(struct request *request, enum outcome outcome);

/* Reads the parameters of a whole request. False: it is not one, close it. Then comes request_read or
 * request_discard. */
bool request_begin(struct request *request) MUST_USE;

/* Reads the whole body, at most `max_body` bytes of it. OUTCOME_NONE: read. OUTCOME_TOO_LARGE, OUTCOME_BAD_REQUEST
 * (with request_problem): answer that. OUTCOME_UNAVAILABLE: out of memory. */
enum outcome request_read(struct request *request, size_t max_body) MUST_USE;

/* Reads the body away, so that the connection can carry another request; it is closed where that takes too long. */
void request_discard(struct request *request);

/* What is wrong with a request that is OUTCOME_BAD_REQUEST. A static string. */
const char *request_problem(const struct request *request);

/* What a request says of itself, by the meta-variables of RFC 3875; "" where one is not given. */
struct request_head {
    const char *method;
    const char *uri;         /* REQUEST_URI: path and query as they were sent */
    const char *path_info;   /* path_info and script_name are the path where there is no REQUEST_URI */
    const char *script_name; /* … */
    const char *query;
    const char *authorization;
    const char *content_length;
    const char *content_encoding;
    const char *request_id; /* REQUEST_ID (nginx's $request_id), and */
    const char *unique_id;  /* UNIQUE_ID (Apache's mod_unique_id): what the web server's own log calls it */
};

/* The head of the request that request_begin has read. Valid until the answer, which overwrites what may hold a token.
 */
const struct request_head *request_head(const struct request *request);

/* Hands the body over, of a bad request as much as came: to be freed by the caller, with a NUL behind it where it is
 * whole. NULL where there is none left to take. */
char *request_take_body(struct request *request, size_t *length) MUST_USE;

/* Writes an answer and ends the request; overwrites the parameters that may hold a token. A peer that has not taken it
 * in five seconds gets no more of it. True: the connection is kept and can carry another one. False: it is closed.
 * `keep` false closes it in any case. */
bool request_answer(struct request *request, const struct text *answer, bool keep) MUST_USE;

/* Closes what is open and frees. NULL is fine. */
void request_free(struct request *request);

#endif
