/* What an error of PostgreSQL says for certain (PostgreSQL manual, appendix A). Whose fault it is it does not say: a
 * trigger of the user's may raise any, so that is proven (store_faults.c). */
#ifndef TICKETD_SQLSTATE_H
#define TICKETD_SQLSTATE_H

#include <stdbool.h>

enum sqlstate_class {
    SQLSTATE_OUTAGE,  /* the server or the connection: keep the events, connect again */
    SQLSTATE_HELD,    /* others are in the way: the same again may succeed */
    SQLSTATE_TIMEOUT, /* it took too long */
    SQLSTATE_FAULT,   /* anything else: of an event, or of the installation */
};

/* `state`: five characters, or NULL or "" where the server sent none. */
enum sqlstate_class sqlstate_classify(const char *state);

/* Rights, objects that are missing and the like: the same may have been wrong for all, and have been put right between
 * a failure and its proof. */
bool sqlstate_may_heal(const char *state);

#endif
