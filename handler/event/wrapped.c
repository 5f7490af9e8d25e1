/* Before event_decode, for events that are imported with their time. The bytes of the inner body count ("the same
 * add"), so it is cut out, not parsed and written again. */
#include "event/wrapped.h"

#include <string.h>

enum member { RECEIVED_AT, EVENT, MEMBERS };

static const char *const names[MEMBERS] = {[RECEIVED_AT] = "\"received_at\"", [EVENT] = "\"event\""};

struct span {
    char *bytes; /* NULL: it is not there */
    size_t length;
};

/* A NUL is behind the body, which stops each of these. */
static char *skip_space(char *at)
{
    return at + strspn(at, " \t\r\n");
}

/* Behind the string that begins here. */
static char *skip_string(char *at)
{
    for (at++; *at && *at != '"'; at++)
        at += *at == '\\' && at[1];
    return at + (*at == '"');
}

/* Behind the value that begins here, as far as its brackets and strings tell. */
static char *skip_value(char *at)
{
    size_t depth = 0;

    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        at += strcspn(at, depth > 0 ? "\"{}[]" : "{[,}] \t\r\n");
        if (*at == '{' || *at == '[')
            depth++, at++;
        else if (depth > 0 && (*at == '}' || *at == ']'))
            depth--, at++;
    } while (depth > 0 && *at);
    return at;
}

/* Finds the members of the object; the last one of a name counts. False: it is not one object with all of them. */
static bool find_members(const struct event *event, struct span members[MEMBERS])
{
    char *at = skip_space(event->body);

    if (*at != '{')
        return false;
    do {
        char *name = skip_space(at + 1), *end = *name == '"' ? skip_string(name) : name;
        at = skip_space(end);
        if (*at != ':')
            return false;
        char *value = skip_space(at + 1);
        at = skip_value(value);
        for (int m = 0; m < MEMBERS; m++)
            if ((size_t)(end - name) == strlen(names[m]) && memcmp(name, names[m], strlen(names[m])) == 0)
                members[m] = (struct span){value, (size_t)(at - value)};
        at = skip_space(at);
    } while (*at == ',');
    return *at == '}' && skip_space(at + 1) == event->body + event->length && members[RECEIVED_AT].bytes &&
           members[EVENT].bytes;
}

bool wrapped_open(struct event *event, int64_t latest, int64_t *received_at)
{
    struct span members[MEMBERS] = {{0}};
    const char *wrong;
    int64_t time;

    /* Most lines have none, and are not looked through a second time. */
    if (!memmem(event->body, event->length, names[RECEIVED_AT], strlen(names[RECEIVED_AT])) ||
        !find_members(event, members))
        return true;
    if (!event_read_time(members[RECEIVED_AT].bytes, members[RECEIVED_AT].length, &time, &wrong))
        return false;
    if (!wrong && time < 0)
        wrong = "is before 1970";
    if (!wrong && time > latest)
        wrong = "is in the future";
    if (wrong) {
        event_refuse(event, OUTCOME_UNPROCESSABLE, "/received_at", wrong);
        return true;
    }
    *received_at = time;
    event->length = members[EVENT].length;
    memmove(event->body, members[EVENT].bytes, event->length);
    event->body[event->length] = '\0';
    return true;
}
