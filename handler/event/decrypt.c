/* On the path between the request and the event, where auth.c and event.c meet. */
#include "event/decrypt.h"
#include "event/query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IV_SHOWN 64 /* digits: more than any cipher takes */

/* Decrypts with the first key that makes JSON of the body, and decodes that. */
static enum decrypted open_body(struct auth *auth, const char *query, const struct event *event, struct event *plain)
{
    for (size_t key = 0;; key++) {
        char *text;
        size_t length;
        enum decrypted result = auth_decrypt(auth, key, query, event->body, event->length, &text, &length);
        if (result == DECRYPT_FAILED)
            continue;
        if (result != DECRYPTED)
            return result;
        event_init(plain, text, length);
        bool good = event_decode(plain);
        if (good && plain->refusal != OUTCOME_BAD_REQUEST)
            return DECRYPTED;
        event_free(plain);
        if (!good)
            return DECRYPT_UNAVAILABLE;
    }
}

/* Whether it was the padding that did not fit or the JSON, nobody is told: that would open one body after the other to
 * whoever may ask often enough. False: out of memory, and the body would be set aside without its iv. */
static bool refuse(struct event *event, const char *query)
{
    char *iv = malloc(strlen(query) + 1), detail[64 + IV_SHOWN];
    size_t length = 0;

    if (!iv)
        return false;
    bool given = query_find(query, "iv", iv, &length) == QUERY_ONE && length > 0;
    snprintf(detail, sizeof(detail), "cannot be decrypted, or is not JSON%s%.*s", given ? "; iv=" : "", IV_SHOWN,
             given ? iv : "");
    event_refuse(event, OUTCOME_BAD_REQUEST, "", detail);
    free(iv);
    event_reason(event); /* now: the store could not say that there was no memory for it */
    return event->reason;
}

/* The receipt stays the same. */
static void replace(struct event *event, struct event *plain)
{
    memcpy(plain->id, event->id, sizeof(plain->id));
    plain->received_at = event->received_at;
    event_free(event);
    *event = *plain;
}

bool decode_body(struct auth *auth, const char *query, struct event *event)
{
    struct event plain;

    if (!auth_encrypted(auth))
        return event_decode(event);
    switch (open_body(auth, query, event, &plain)) {
    case DECRYPTED:
        replace(event, &plain);
        return true;
    case DECRYPT_BAD_IV:
        event_refuse(event, OUTCOME_BAD_REQUEST, "",
                     "the parameter iv must be given once, in pairs of hexadecimal digits");
        return true;
    case DECRYPT_UNAVAILABLE:
        return false;
    default:
        return refuse(event, query);
    }
}

bool decode_again(struct auth *auth, const char *reason, struct event *event)
{
    const char *iv = strstr(reason, "iv=");
    struct event decoded, plain;
    size_t length;

    if (!auth_encrypted(auth))
        return true;
    enum decrypted result = open_body(auth, iv ? iv : "", event, &decoded);
    if (result == DECRYPTED && decoded.refusal == OUTCOME_NONE) {
        char *text = decoded.allocation;
        event_received(&decoded, &length);
        decoded.allocation = NULL; /* it is not freed with the rest */
        event_init(&plain, text, length);
        replace(event, &plain);
    }
    if (result == DECRYPTED)
        event_free(&decoded);
    return result != DECRYPT_UNAVAILABLE;
}
