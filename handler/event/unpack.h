/* Content codings (RFC 9110 section 8.4.1): a compressed body → what it was made of. The only module of the path that
 * knows zlib. */
#ifndef TICKETD_UNPACK_H
#define TICKETD_UNPACK_H

#include "event/event.h"

#include <stdbool.h>
#include <stddef.h>

/* Puts what the body holds in its place, where event->coding is gzip or deflate: at most `most` bytes. What was sent is
 * kept beside it (see event_received). NULL: done, or there was nothing to do. Else why not, a static string; the body
 * is as it was. UNPACK_NO_MEMORY among these. */
const char *unpack_body(struct event *event, size_t most) MUST_USE;

extern const char UNPACK_NO_MEMORY[];

#endif
