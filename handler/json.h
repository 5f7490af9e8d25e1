/* What cJSON lets through and RFC 8259 does not: one look over the bytes before they are parsed. */
#ifndef TICKETD_JSON_H
#define TICKETD_JSON_H

#include "outcome.h"

#include <stdbool.h>
#include <stddef.h>

/* Looks for invalid UTF-8 (RFC 3629), control characters, malformed numbers and malformed or lone-surrogate escapes.
 * It refuses what is nested over 1000 deep too, which the parser would without a reason. It does not look at the
 * grammar of objects and arrays otherwise: the parser does. NULL: nothing found; *has_nul tells whether a string holds
 * an escaped U+0000. Else what is wrong, a static string for people, and *offset, the byte where. */
const char *json_check(const char *bytes, size_t length, bool *has_nul, size_t *offset) MUST_USE;

#endif
