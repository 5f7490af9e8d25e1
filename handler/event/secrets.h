/* Tokens and keys: one a line, from a file and from an environment variable. */
#ifndef TICKETD_SECRETS_H
#define TICKETD_SECRETS_H

#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>

struct secret {
    char *bytes; /* a NUL behind them, which is not counted */
    size_t length;
};

struct secrets {
    struct secret *all;
    size_t count;
};

/* Reads the lines of `text`, and those of the regular file `path` where that is not "". An end of line (LF or CRLF) is
 * no part of a secret; empty lines are none. Warns about a file that others may read. `name` is the setting that names
 * the file, for the log. False: it cannot be read, or no memory (logged); *secrets is empty then. secrets_free frees.
 */
bool secrets_read(struct secrets *secrets, const char *text, const char *path, const char *name) MUST_USE;

/* Leaves out what stands around tokens, and is none: white space around a line, a byte order mark, lines that are blank
 * or begin with #. */
void secrets_trim(struct secrets *secrets);

/* Whether there are secrets just where they are wanted. False: logged as the setting `name` being bad, expected being
 * `why_missing` or `why_unwanted`. */
bool secrets_fit(const struct secrets *secrets, bool wanted, const char *name, const char *why_missing,
                 const char *why_unwanted) MUST_USE;

/* Overwrites the secrets and frees them. */
void secrets_free(struct secrets *secrets);

#endif
