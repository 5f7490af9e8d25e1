/* Beside the store: what failed alone, and how often. */
#include "store/tries.h"
#include "event/digest.h"

#include <string.h>

struct tried *tries_find(struct tries *tries, const struct event *event, bool make)
{
    uint8_t digest[DIGEST_SIZE];
    uint64_t key = 0;
    bool alike = make;

    for (size_t i = 0; !alike && i < TRIES_KEPT; i++)
        alike = tries->all[i].length == event->length && event->length > 0;
    if (!alike || !digest_of(event->body, event->length, digest))
        return NULL;
    memcpy(&key, digest, sizeof(key));
    for (size_t i = 0; i < TRIES_KEPT; i++)
        if (tries->all[i].key == key && tries->all[i].length == event->length)
            return &tries->all[i];
    if (!make)
        return NULL;
    struct tried *tried = &tries->all[tries->next++ % TRIES_KEPT];
    *tried = (struct tried){.key = key, .length = event->length};
    return tried;
}

void tries_forget(struct tries *tries, const struct event *event)
{
    struct tried *tried = tries->next > 0 ? tries_find(tries, event, false) : NULL;

    if (tried)
        tried->length = 0;
}

unsigned tries_count(struct tries *tries, struct event *event, unsigned weight)
{
    struct tried *tried = tries_find(tries, event, true);
    unsigned before = tried && tried->tries > event->tries ? tried->tries : event->tries;

    event->tries = before + weight;
    if (tried) {
        tried->tries = event->tries;
        tried->crashed = weight > 1;
    }
    return event->tries;
}
