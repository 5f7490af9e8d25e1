/* What an item of JSON says of a field. */
#ifndef TICKETD_DECODE_VALUE_H
#define TICKETD_DECODE_VALUE_H

#include "event/event.h"

#include <cjson/cJSON.h>

/* Reads an item, NULL where there is none, into *value: its presence, and its number or, inside the item, its text.
 * Returns NULL, or what is wrong, a static string for people. */
const char *decode_value(const cJSON *item, enum field_type type, struct value *value) MUST_USE;

#endif
