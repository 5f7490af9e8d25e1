/* A file → the bodies in it, for `ticketd import`: one a line, or JSON values of any number of lines. */
#ifndef TICKETD_BODIES_H
#define TICKETD_BODIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the reading is. Set fd, left and most, the rest to 0. Used by one thread at a time. */
struct bodies {
    int fd;
    uint64_t left; /* bytes of the file still to be read; what follows them is not looked at */
    size_t most;   /* bytes of a body, without the end of its line */
    bool values;   /* JSON values, one behind the other or the elements of an array; else lines */
    bool in_array; /* its end has not come yet */
    uint64_t number;
    int error; /* errno of a read that failed, or ENOMEM */
    size_t at, filled;
    char buffer[65536];
};

struct body {
    char *bytes; /* without LF or CRLF, a NUL behind; from malloc, the caller's. NULL: it is empty or too long */
    size_t length;
    uint64_t number; /* of the line, or of the value; from 1 */
    uint64_t size;   /* of the whole line in the file, with its end; or of the value */
    bool too_long;
};

/* Sets `values`: whether the first line that is not blank begins an array, or a value that does not end with it. The
 * file must be one that can be read again; it is left where it was, or behind a byte order mark. NULL, or what is wrong
 * with the file, for people. */
const char *bodies_begin(struct bodies *bodies) __attribute__((warn_unused_result));

/* Reads the next line, the last one of which may lack its end, or the next value. A value that is broken off ends
 * before what cannot be in it. Never more of one is in memory than may be a body. False: there is none, or `error` is
 * set, or, with bytes left, the file has become shorter. */
bool bodies_next(struct bodies *bodies, struct body *body) __attribute__((warn_unused_result));

#endif
