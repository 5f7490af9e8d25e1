/* Connection strings, looked at before anybody connects: what libpq takes for a port, a host or a database may be a
 * part of a password, and it, or the server, would quote that in a message. */
#include "base/log.h"
#include "store/store.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PORTS 65535

/* Each element of a list is good; an empty one is the default. */
static bool all_parts(const char *list, bool (*is_good)(const char *part, size_t length))
{
    bool good = true;

    while (*list && good) {
        size_t length = strcspn(list, ",");
        good = length == 0 || is_good(list, length);
        list += length + (list[length] == ',');
    }
    return good;
}

static bool is_number(const char *part, size_t length)
{
    return strspn(part + (*part == '-'), "0123456789") + (*part == '-') == length;
}

static bool is_port(const char *part, size_t length)
{
    long port = strtol(part, NULL, 10);
    return is_number(part, length) && port > 0 && port <= MOST_PORTS;
}

/* A path, an abstract socket, a name or an address. */
static bool is_host(const char *part, size_t length)
{
    size_t good = 0;

    if (*part == '/' || *part == '@')
        return true;
    while (good < length && (isalnum((unsigned char)part[good]) || part[good] & 0x80 || strchr("._-:%", part[good])))
        good++;
    return good == length;
}

static bool is_word(const char *part, size_t length)
{
    (void)part;
    (void)length;
    return true;
}

static const struct {
    const char *keyword;
    bool (*is_good)(const char *part, size_t length);
} rules[] = {
    {"host", is_host},
    {"hostaddr", is_host},
    {"port", is_port},
    {"connect_timeout", is_number},
    {"keepalives", is_number},
    {"keepalives_idle", is_number},
    {"keepalives_interval", is_number},
    {"keepalives_count", is_number},
    {"tcp_user_timeout", is_number},
    {"password", NULL}, /* which nobody quotes */
    {"", is_word},
};

static bool fits(const PQconninfoOption *option)
{
    const char *value = option->val ? option->val : "";
    size_t i = 0;

    while (*rules[i].keyword && strcmp(rules[i].keyword, option->keyword) != 0)
        i++;
    if (!rules[i].is_good)
        return true;
    return all_parts(value, rules[i].is_good) && !strcasestr(value, "password=") && !strstr(value, "://");
}

/* "postgresql://user:pass/word@host/db": the first / ends what is before the path (RFC 3986 section 3.2). */
static bool has_stray_at(const char *uri)
{
    const char *authority = strstr(uri, "://");
    const char *path = authority ? strchr(authority + 3, '/') : NULL;
    const char *at = path ? strchr(path, '@') : NULL;

    return at && at < path + strcspn(path, "?");
}

/* An empty string is valid: everything then comes from libpq's own environment. Neither libpq's message nor a part of
 * the string is shown. */
static bool is_valid(const char *name, const char *conninfo)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL), *option = options;
    bool uri = strncmp(conninfo, "postgres", 8) == 0;
    const char *which = "";

    while (option && option->keyword && fits(option))
        option++;
    if (option && option->keyword)
        which = option->keyword;
    bool good = options && !*which && !(uri && has_stray_at(conninfo));
    if (!good)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", name), LOG_TEXT("option", which),
                 LOG_TEXT("expected",
                          "a connection string or URI as in the PostgreSQL manual, section 34.1.1; in a URI "
                          "@ / % of a password are %40 %2F %25"));
    PQconninfoFree(options);
    return good;
}

bool store_valid_conninfo(const struct conf *conf)
{
    bool database = is_valid("TICKETD_DATABASE", conf->database);
    return is_valid("TICKETD_REPORT_DATABASE", conf->report_database) && database;
}
