/* libpq asks one host after the other, but never leaves one that accepts and then says nothing: a server that hangs
 * would hide its successor. So each try begins with the next. */
#include "store/store_hosts.h"
#include "base/text.h"

#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

static unsigned count_parts(const char *list)
{
    unsigned count = 1;
    for (; *list; list++)
        count += *list == ',';
    return count;
}

static const char *skip_parts(const char *list, unsigned count)
{
    while (count-- > 0)
        list = strchr(list, ',') + 1;
    return list;
}

/* "a,b,c" → "b,c,a"; NULL: no memory. */
static char *rotate(const char *list, unsigned by)
{
    const char *first = skip_parts(list, by);
    struct text rotated = {0};

    text_append(&rotated, first);
    if (by > 0) {
        text_append(&rotated, ",");
        text_append_bytes(&rotated, list, (size_t)(first - list) - 1);
    }
    if (rotated.failed)
        text_free(&rotated);
    return rotated.bytes;
}

struct hosts hosts_from(const char *conninfo, unsigned turn)
{
    static const char *const lists[] = {"host", "hostaddr", "port"};
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    struct hosts hosts = {.count = 0};

    for (PQconninfoOption *option = options; option && option->keyword; option++)
        for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
            unsigned parts = option->val ? count_parts(option->val) : 1;
            if (parts == 1 || strcmp(option->keyword, lists[i]) != 0)
                continue; /* of several hosts one port may be that of all */
            hosts.keywords[hosts.count] = lists[i];
            hosts.values[hosts.count] = rotate(option->val, turn % parts);
            hosts.count += hosts.values[hosts.count] != NULL;
        }
    PQconninfoFree(options);
    return hosts;
}

void hosts_free(struct hosts *hosts)
{
    while (hosts->count > 0)
        free(hosts->values[--hosts->count]);
}
