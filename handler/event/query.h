/* The query of a URL (RFC 3986 section 3.4): name=value pairs between &, percent-encoded. */
#ifndef TICKETD_QUERY_H
#define TICKETD_QUERY_H

#include "base/outcome.h"

#include <stddef.h>

enum query_found { QUERY_NONE, QUERY_ONE, QUERY_REPEATED };

/* Finds the parameter `name` and writes its decoded value and a NUL to `value`, which has room for strlen(query) + 1
 * bytes; *length is its length, for it may hold a NUL itself. Of a repeated one the first is written. A % that no two
 * hexadecimal digits follow stands for itself, and so does a +. */
enum query_found query_find(const char *query, const char *name, char *value, size_t *length) MUST_USE;

/* The value of a hexadecimal digit; below 0: it is none. */
int query_hex_digit(char c);

#endif
