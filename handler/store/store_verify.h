/* Whether the tables are what the journal says, for `ticketd verify`. Nothing here waits for an event, or is waited
 * for. Each function connects as needed, and returns false where the database did not answer (logged). */
#ifndef TICKETD_STORE_VERIFY_H
#define TICKETD_STORE_VERIFY_H

#include "store/store.h"

#include <stddef.h>

struct verify_project {
    int64_t project;
    uint64_t events; /* rows of its journal */
};

/* A ticket that is not what the journal says. */
struct verify_difference {
    int64_t ticket;
    const char *what;           /* a column, extra.NAME, "row", "deletion", "digests of adds" or "journal" */
    const char *journal, *held; /* what the journal says and what the tables have; "": there is no more to say */
};

struct verify_portion {
    int64_t project;
    bool begun;                         /* not the project's first portion: */
    int64_t after;                      /* the last ticket of the one before */
    bool ended;                         /* this is its last */
    uint64_t equal, differ, no_history; /* tickets, since the beginning */
    uint64_t events;                    /* rows of the journal, since the beginning */
};

/* All projects of the tables, or that one where `project` is not NULL, in their order. *projects is to be freed. */
bool store_verify_projects(struct store *store, const int64_t *project, struct verify_project **projects,
                           size_t *count) MUST_USE;

/* Compares the next portion of a project's tickets in one snapshot, and tells of each difference, ordered by ticket. */
bool store_verify_portion(struct store *store, struct verify_portion *portion,
                          void (*tell)(void *context, const struct verify_difference *difference),
                          void *context) MUST_USE;

#define VERIFY_REBUILT "rebuilt"

/* Makes a ticket what the journal says, through a store of whoever may write. `answer` is VERIFY_REBUILT, or why it is
 * left as it is. */
bool store_rebuild_ticket(struct store *store, int64_t project, int64_t ticket, char answer[256]) MUST_USE;

#endif
