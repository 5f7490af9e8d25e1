/* A file → its lines, never more of one in memory than may be a body. */
#ifndef TICKETD_LINES_H
#define TICKETD_LINES_H

#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the reading is. Set fd, left and most, the rest to 0. Used by one thread at a time. */
struct lines {
    int fd;
    uint64_t left; /* bytes of the file still to be read; what follows them is not looked at */
    size_t most;   /* bytes of a line, without its end */
    uint64_t number;
    int error; /* errno of a read that failed, or ENOMEM */
    size_t at, filled;
    char buffer[65536];
};

struct line {
    char *bytes; /* without LF or CRLF, a NUL behind; from malloc, the caller's. NULL: it is empty or too long */
    size_t length;
    uint64_t number; /* from 1 */
    uint64_t size;   /* of the whole line in the file, with its end */
    bool too_long;
};

/* Reads the next line; the last one may lack its end. False: there is none, or `error` is set, or, with bytes left, the
 * file has become shorter. */
bool lines_next(struct lines *lines, struct line *line) MUST_USE;

#endif
