/* GET …/report.json: what the dashboard shows, of this process and of the database. Off unless TICKETD_REPORT=on.
 *
 * A thread of its own asks the database, by a connection of its own: a slow report delays no event. What it found it
 * keeps for some seconds. */
#ifndef TICKETD_DASHBOARD_H
#define TICKETD_DASHBOARD_H

#include "base/conf.h"
#include "serve/queue.h"
#include "serve/shared.h"

struct dashboard;

/* What it is told of and hands its answers to is borrowed. NULL: no memory. */
struct dashboard *dashboard_open(const struct conf *conf, struct queue *queue, struct shared *shared) MUST_USE;
void dashboard_close(struct dashboard *dashboard);

/* Answers the question in `query` (QUERY_STRING). True: `answer` is written. False: the waiter will come back from the
 * queue with its answer, and is no longer the caller's. Where `waiter` is NULL the caller waits for the database. A
 * dashboard that is NULL says that there are no reports. */
bool dashboard_ask(struct dashboard *dashboard, const char *query, struct waiter *waiter, struct text *answer) MUST_USE;

/* The thread; its argument is a struct thread, whose context is the dashboard. Ends after dashboard_wake. */
void *dashboard_run(void *thread);
void dashboard_wake(struct dashboard *dashboard);

#endif
