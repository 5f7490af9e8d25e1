/* Which thing at the location is asked for: events, or one of GET …/livez, …/readyz, …/metrics and …/report.json. */
#ifndef TICKETD_ENDPOINTS_H
#define TICKETD_ENDPOINTS_H

#include "web/request.h"

enum endpoint { ENDPOINT_EVENTS, ENDPOINT_LIVE, ENDPOINT_READY, ENDPOINT_METRICS, ENDPOINT_REPORT };

/* Tells it by the last segment of the path; a slash behind that changes nothing. */
enum endpoint endpoints_find(const struct request_head *head) MUST_USE;

/* The methods that it knows, as the Allow field has them (RFC 9110 section 10.2.1), where this one is none of them;
 * else NULL. */
const char *endpoints_other_methods(enum endpoint endpoint, const char *method) MUST_USE;

/* Who would take an event now. */
enum readiness { NOT_READY, READY_BY_DATABASE, READY_BY_SPOOL };

/* What readyz has for a detail after a reload that failed (METRIC_RELOAD_FAILED). */
#define RELOAD_FAILED "tokens or keys cannot be read again: the old ones of that file stay in force"

/* The answers to livez, readyz and metrics. */
void endpoints_answer_live(struct text *answer);
void endpoints_answer_ready(struct text *answer, enum readiness readiness, const char *nodes_away);
void endpoints_answer_metrics(struct text *answer);

#endif
