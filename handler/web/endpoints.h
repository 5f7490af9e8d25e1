/* What is served beside events: GET …/livez, …/readyz, …/metrics and …/report.json. */
#ifndef TICKETD_PLACES_H
#define TICKETD_PLACES_H

#include "serve/serve.h"

/* Answers a request that is no event. OUTCOME_NONE: it is one, and `answer` is empty. Else its body, if it has one, is
 * read away. OUTCOME_BAD_METHOD: answered so. OUTCOME_PLACE: answered, and not to be counted. OUTCOME_PARKED: it will
 * be, see dashboard_ask. */
enum outcome places_answer(struct server *server, struct request *request, struct waiter *waiter,
                           struct text *answer) MUST_USE;

#endif
