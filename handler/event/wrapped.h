/* A body that is wrapped with the time of its receipt: {"received_at": TIME, "event": BODY}. */
#ifndef TICKETD_WRAPPED_H
#define TICKETD_WRAPPED_H

#include "event/event.h"

/* Looks whether the event's body is so, before it is decoded. If it is, the inner body becomes the event's, byte for
 * byte, and *received_at is set (microseconds since 1970). If its time is none, or before 1970, or after `latest`, the
 * event is refused as it is. False: out of memory. */
bool wrapped_open(struct event *event, int64_t latest, int64_t *received_at) MUST_USE;

#endif
