/* A received body → event: decrypted first where bodies are encrypted. Any thread may call. */
#ifndef TICKETD_DECODE_H
#define TICKETD_DECODE_H

#include "event/auth.h"
#include "event/event.h"

#include <stdbool.h>

/* Decodes event->body as event_decode does. Where bodies are encrypted, with the first key that makes JSON of it, and
 * the iv in `query` (QUERY_STRING); the event then has the plain text in place of the body. A body that no key opens
 * stays as it came, and its refusal names the iv. False: out of memory. */
bool decode_body(struct auth *auth, const char *query, struct event *event) MUST_USE;

/* For a body that was refused with `reason`: where bodies are encrypted and a key makes an event of it now, the plain
 * text takes its place, to be decoded; all other bodies stay as they are. False: out of memory. */
bool decode_again(struct auth *auth, const char *reason, struct event *event) MUST_USE;

#endif
