/* A request that did not come at once, as far as it has come. Its body takes no memory once it is refused. */
#ifndef TICKETD_PARTS_H
#define TICKETD_PARTS_H

#include "base/outcome.h"
#include "base/text.h"
#include "web/records.h"

#include <stddef.h>

/* Start with {0}. */
struct parts {
    struct records records; /* what it looks like */
    struct text head;       /* its first bytes; records.head_length of them are the records of the parameters */
    struct text body;       /* what its body holds */
    size_t counted, taken;  /* bytes of that: what the sum of all requests has in it, what was read */
    enum outcome refused;   /* OUTCOME_NONE: the body is wanted */
};

/* Takes the next bytes of the connection. A body of more than `max_body` bytes is refused (OUTCOME_TOO_LARGE), and so
 * is one for which there is no room beside those of all other requests, together 64 of the largest size
 * (OUTCOME_UNAVAILABLE). RECORDS_BAD: it is no request, or there is no memory for its head. */
enum records_state parts_add(struct parts *parts, const char *bytes, size_t count, size_t max_body) MUST_USE;

/* The body is not wanted, for this reason: what has come of it is freed, the rest is dropped as it comes. */
void parts_refuse(struct parts *parts, enum outcome why);

/* Hands out the next bytes of the body, at most `size`. Returns how many; 0: there are no more. */
size_t parts_read(struct parts *parts, char *into, size_t size) MUST_USE;

/* Frees the head, which may hold a token: its bytes are overwritten. */
void parts_forget_head(struct parts *parts);

/* Frees all and makes it empty again. */
void parts_free(struct parts *parts);

#endif
