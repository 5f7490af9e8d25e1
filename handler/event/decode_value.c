/* Part of decoding: an item of JSON becomes the value of a field, by the contract's rules for its type. */
#include "event/decode_value.h"
#include "event/json.h"
#include "event/timestamp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SAFE_MAX 9007199254740991.0 /* 2^53 - 1: up to here a double tells every integer from the next */

/* Null, or an empty string where no text is meant, or no date where one is. */
static bool is_empty(const cJSON *item, enum field_type type)
{
    const char *text = cJSON_IsString(item) ? item->valuestring : NULL;

    return cJSON_IsNull(item) || (text && type != TYPE_TEXT && !*text) ||
           (text && type == TYPE_TIME && timestamp_is_none(text, strlen(text)));
}

static const char *read_number(double number, int64_t *integer, const char *beyond)
{
    if (number < -SAFE_MAX || number > SAFE_MAX)
        return beyond;
    *integer = (int64_t)number;
    return (double)*integer == number ? NULL : "must be an integer";
}

static const char *read_integer(const cJSON *item, struct value *value)
{
    static const char wrong[] = "must be an integer or a string of digits";

    if (cJSON_IsNumber(item))
        return read_number(item->valuedouble, &value->number, "is beyond ±(2^53 − 1): send it as a string");
    if (!cJSON_IsString(item))
        return wrong;
    const char *digits = item->valuestring + (*item->valuestring == '-');
    size_t count = strspn(digits, "0123456789");
    if (count == 0 || digits[count])
        return wrong;
    errno = 0;
    value->number = strtoll(item->valuestring, NULL, 10);
    return errno ? "is beyond 64 bits" : NULL;
}

static const char *read_text(const cJSON *item, struct value *value)
{
    if (!cJSON_IsString(item))
        return "must be a string";
    value->text = item->valuestring;
    value->length = strlen(item->valuestring);
    return NULL;
}

static const char *read_time(const cJSON *item, struct value *value)
{
    int64_t number;

    if (cJSON_IsString(item))
        return timestamp_parse(item->valuestring, strlen(item->valuestring), &value->number);
    if (!cJSON_IsNumber(item))
        return "must be an ISO 8601 date-time or an integer";
    const char *wrong = read_number(item->valuedouble, &number, "year must be 1 to 9999");
    return wrong ? wrong : timestamp_from_unix(number, &value->number);
}

bool event_read_time(const char *json, size_t length, int64_t *microseconds, const char **wrong)
{
    struct json_notes notes;
    struct value value = {0};
    size_t offset;
    const char *end = NULL;
    cJSON *item = NULL;

    errno = 0;
    if (!json_check(json, length, &notes, &offset) && !notes.has_nul)
        item = cJSON_ParseWithLengthOpts(json, length, &end, false);
    bool good = item || errno != ENOMEM;
    *wrong = read_time(end == json + length ? item : NULL, &value);
    *microseconds = value.number;
    cJSON_Delete(item);
    return good;
}

/* Each reads an item that is not empty. NULL, or what is wrong. */
static const char *(*const readers[])(const cJSON *item, struct value *value) = {
    [TYPE_KEY] = read_integer, [TYPE_INTEGER] = read_integer, [TYPE_TEXT] = read_text, [TYPE_TIME] = read_time};

const char *decode_value(const cJSON *item, enum field_type type, struct value *value)
{
    if (item && !is_empty(item, type)) {
        const char *wrong = readers[type](item, value);
        value->presence = wrong ? ABSENT : PRESENT;
        return wrong;
    }
    value->presence = item ? CLEARED : ABSENT;
    return type == TYPE_KEY ? "is missing" : NULL;
}
