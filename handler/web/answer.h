/* Outcomes → the text of a CGI response (RFC 3875 section 6): header lines, an empty line, the body. */
#ifndef TICKETD_ANSWER_H
#define TICKETD_ANSWER_H

#include "base/text.h"
#include "event/event.h"

/* Writes the answer to an event: its result, or the problem (RFC 9457) with every fault found. */
void answer_event(struct text *answer, const struct event *event);

/* Writes the answer to a request with a method that the place does not know. `allowed` is the Allow field (RFC 9110).
 */
void answer_bad_method(struct text *answer, const char *allowed);

/* Writes what is wrong with a request that is no event (RFC 9457). */
void answer_problem(struct text *answer, int status, const char *detail);

/* Writes the head of another answer; its body comes behind it. */
void answer_head(struct text *answer, int status, const char *content_type);

/* Writes a small JSON answer, such as that of readyz. */
void answer_json(struct text *answer, int status, const char *json);

#endif
