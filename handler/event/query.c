/* Between the request, which has the query as text, and auth.c, which wants a token and an iv from it. */
#include "event/query.h"

#include <stdbool.h>
#include <string.h>

int query_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Takes the next character, decoded, before `end`. */
static char next_character(const char **at, const char *end)
{
    const char *here = *at;
    if (*here == '%' && end - here > 2 && query_hex_digit(here[1]) >= 0 && query_hex_digit(here[2]) >= 0) {
        *at += 3;
        return (char)(query_hex_digit(here[1]) << 4 | query_hex_digit(here[2]));
    }
    *at += 1;
    return *here;
}

static bool is_named(const char *at, const char *end, const char *name)
{
    for (; at < end; name++)
        if (*name == '\0' || next_character(&at, end) != *name)
            return false;
    return *name == '\0';
}

static size_t decode(const char *at, const char *end, char *value)
{
    size_t length = 0;
    while (at < end)
        value[length++] = next_character(&at, end);
    value[length] = '\0';
    return length;
}

enum query_found query_find(const char *query, const char *name, char *value, size_t *length)
{
    enum query_found found = QUERY_NONE;

    while (*query) {
        const char *end = query + strcspn(query, "&");
        const char *equals = memchr(query, '=', (size_t)(end - query));
        if (is_named(query, equals ? equals : end, name)) {
            if (found == QUERY_NONE)
                *length = equals ? decode(equals + 1, end, value) : decode(end, end, value);
            found = found == QUERY_NONE ? QUERY_ONE : QUERY_REPEATED;
        }
        query = end + (*end == '&');
    }
    return found;
}
