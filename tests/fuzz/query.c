/* The first line of the input is a name, the rest is a query. What is found is never longer than the query, and does
 * not change by what is written behind it; what is written percent-encoded is found as it was. */
#include "fuzz.h"

#include <string.h>

#include "base/text.h"
#include "event/query.h"

struct found {
    enum query_found what;
    char *value; /* as much room as query_find asks for: the sanitizer sees a byte more */
    size_t length;
};

static struct found find(const char *query, const char *name)
{
    struct found found = {.value = malloc(strlen(query) + 1)};

    require(found.value);
    found.what = query_find(query, name, found.value, &found.length);
    if (found.what != QUERY_NONE) {
        require(found.length <= strlen(query));
        require(found.value[found.length] == '\0');
    }
    return found;
}

static char *copy(const uint8_t *bytes, size_t length)
{
    char *text = malloc(length + 1);
    require(text);
    memcpy(text, bytes, length);
    text[length] = '\0';
    return text;
}

static void append_encoded(struct text *query, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        text_append_format(query, i % 2 ? "%%%02x" : "%%%02X", (unsigned char)bytes[i]);
}

/* One more of the name behind the query. */
static void check_repeated(const char *query, const char *name, const struct found *before)
{
    struct text longer = {0};

    text_append(&longer, query);
    text_append(&longer, "&");
    append_encoded(&longer, name, strlen(name));
    text_append(&longer, "=x");
    struct found after = find(longer.bytes, name);
    require(after.what == (before->what == QUERY_NONE ? QUERY_ONE : QUERY_REPEATED));
    if (before->what == QUERY_NONE)
        require(after.length == 1 && *after.value == 'x');
    else
        require(after.length == before->length && memcmp(after.value, before->value, after.length) == 0);
    free(after.value);
    text_free(&longer);
}

/* Any bytes are the value of a parameter. */
static void check_encoded(const char *name, const uint8_t *bytes, size_t length)
{
    struct text query = {0};

    append_encoded(&query, name, strlen(name));
    text_append(&query, "=");
    append_encoded(&query, (const char *)bytes, length);
    struct found found = find(query.bytes, name);
    require(found.what == QUERY_ONE);
    require(found.length == length && memcmp(found.value, bytes, length) == 0);
    free(found.value);
    text_free(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const uint8_t *newline = length ? memchr(bytes, '\n', length) : NULL;
    size_t name_length = newline ? (size_t)(newline - bytes) : 0;
    const uint8_t *rest = newline ? newline + 1 : bytes;
    size_t rest_length = length - (size_t)(rest - bytes);
    char *name = copy(bytes, name_length), *query = copy(rest, rest_length);

    if (!*name) { /* no parameter has no name */
        free(name);
        name = strdup("secret-key");
    }

    struct found found = find(query, name);
    check_repeated(query, name, &found);
    check_encoded(name, rest, rest_length);
    free(found.value);
    free(query);
    free(name);
    return 0;
}
