/* Strict times: ISO 8601 text or Unix time → microseconds since 1970-01-01T00:00:00Z. */
#ifndef TICKETD_TIMESTAMP_H
#define TICKETD_TIMESTAMP_H

#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sets the zone of times that carry no offset, by its name in the tz database ("UTC", "Europe/Budapest").
 * Changes TZ of the process: call once, before threads start. False: there is no such zone. */
bool timestamp_set_zone(const char *name) MUST_USE;

/* Reads a date-time or a date. NULL: *microseconds is set; else what is wrong, a static string for people. */
const char *timestamp_parse(const char *text, size_t length, int64_t *microseconds) MUST_USE;

/* Whether it is a date by which PHP says that there is none: what becomes of MySQL's 0000-00-00. */
bool timestamp_is_none(const char *text, size_t length) MUST_USE;

/* Takes Unix seconds, or milliseconds from 10^11 up (either sign). NULL or what is wrong, as above. */
const char *timestamp_from_unix(int64_t number, int64_t *microseconds) MUST_USE;

#endif
