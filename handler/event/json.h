/* What cJSON lets through and RFC 8259 does not: one look over the bytes before they are parsed. */
#ifndef TICKETD_JSON_H
#define TICKETD_JSON_H

#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>

/* What is good JSON and all the same cannot be stored. */
struct json_notes {
    bool has_nul;           /* a string holds an escaped U+0000 */
    bool has_giant_numbers; /* one of more than 1,000 digits, written out, or of a million in all */
};

/* Looks for invalid UTF-8 (RFC 3629), control characters, malformed numbers and malformed or lone-surrogate escapes.
 * It refuses what is nested over 1000 deep too, which the parser would without a reason. It does not look at the
 * grammar of objects and arrays otherwise: the parser does. NULL: nothing found, and *notes is set. Else what is wrong,
 * a static string for people, and *offset, the byte where. */
const char *json_check(const char *bytes, size_t length, struct json_notes *notes, size_t *offset) MUST_USE;

#endif
