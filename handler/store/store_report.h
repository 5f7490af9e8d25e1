/* What the database knows for the dashboard, asked for by a connection that does nothing else. */
#ifndef TICKETD_STORE_REPORT_H
#define TICKETD_STORE_REPORT_H

#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define REPORT_TICKET 256 /* bytes of a ticket's number, with its NUL */

/* What is asked. Filled from {0} it can be compared byte by byte. */
struct report_question {
    char ticket[REPORT_TICKET]; /* one ticket by its number or identifier; "": the whole desk */
    int days;                   /* of the desk: today and those before */
    bool one_project;           /* and not all: */
    int64_t project;
};

/* The configuration with the connection string that reports have (TICKETD_REPORT_DATABASE). */
struct conf store_report_conf(const struct conf *conf);

/* Asks in a transaction that reads only and takes three seconds at most; connects as needed. Returns JSON, to be freed.
 * NULL: *problem says why and what to do, a static string; it was logged with what the server said. */
char *store_report(struct store *store, const struct report_question *question, const char **problem) MUST_USE;

/* Whether the database gives a report now. NULL: it does; else why not and what to do, a static string. */
const char *store_report_problem(const struct conf *conf);

#endif
