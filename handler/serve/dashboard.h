/* GET …/report.json: what the dashboard shows, of this process and of the database. Off unless TICKETD_REPORT=on.
 *
 * A thread of its own asks the database, by a connection of its own: a slow report delays no event. What it found it
 * keeps for some seconds. */
#ifndef TICKETD_DASHBOARD_H
#define TICKETD_DASHBOARD_H

#include "serve/serve.h"
#include "web/request.h"

struct dashboard;

/* NULL: no memory. No wait for the database goes beyond `stop_at` (monotonic milliseconds). */
struct dashboard *dashboard_open(const struct conf *conf, const _Atomic int64_t *stop_at) MUST_USE;
void dashboard_close(struct dashboard *dashboard);

/* Answers a request, or parks it: OUTCOME_PLACE, `answer` is written; OUTCOME_PARKED, the waiter will come back from
 * the queue with its answer and is no longer the caller's. A CGI process waits for the database itself. */
enum outcome dashboard_ask(struct server *server, const struct request *request, struct waiter *waiter,
                           struct text *answer) MUST_USE;

/* The thread; its argument is a struct thread. Ends when the server has stopped and dashboard_wake was called. */
void *dashboard_run(void *argument);
void dashboard_wake(struct dashboard *dashboard);

/* Whether the database gives a report now. NULL: it does; else why not and what to do, a static string. */
const char *dashboard_problem(const struct conf *conf);

#endif
