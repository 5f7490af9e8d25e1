/* What the database knows for the dashboard, asked for by a connection that does nothing else. */
#ifndef TICKETD_STORE_REPORT_H
#define TICKETD_STORE_REPORT_H

#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

enum report_parameter {
#define PARAMETER(ID, name, check, empty, expected) REPORT_##ID,
#include "store/report.def"
#undef PARAMETER
    REPORT_PARAMETERS
};

#define REPORT_VALUE 256 /* bytes of a value, with its NUL */

/* What is asked: the values of report.def, and which of them are given. Which question it is they say: a ticket, a
 * list, or else the whole desk. Filled from {0} it can be compared byte by byte. */
struct report_question {
    char values[REPORT_PARAMETERS][REPORT_VALUE];
    bool given[REPORT_PARAMETERS];
};

/* The configuration with the connection string that reports have (TICKETD_REPORT_DATABASE). */
struct conf store_report_conf(const struct conf *conf);

/* Asks in a transaction that reads only and takes three seconds at most; connects as needed. Returns JSON, to be freed.
 * NULL: *problem says why and what to do, a static string; it was logged with what the server said. */
char *store_report(struct store *store, const struct report_question *question, const char **problem) MUST_USE;

/* Whether the database gives a report now. NULL: it does; else why not and what to do, a static string. */
const char *store_report_problem(const struct conf *conf);

#endif
