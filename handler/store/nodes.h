/* Which nodes of a distributed database (Citus) are away: one list for all stores of a process. Any thread may call. */
#ifndef TICKETD_NODES_H
#define TICKETD_NODES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODES     32  /* that are known to be away; more are found out anew each time */
#define NODE_NAME 112 /* bytes, with the NUL */

/* A node, "db7.example:5432", or, where a project alone cannot be written, that: "project 130". Times are monotonic
 * milliseconds. */
struct node {
    char name[NODE_NAME];
    int64_t project;  /* one of its projects: by that it is tried */
    int64_t next_try; /* when */
    int64_t wait;     /* milliseconds between two tries */
};

/* Starts with {0}. */
struct nodes {
    pthread_mutex_t lock;
    atomic_size_t count; /* changed under the lock */
    struct node away[NODES];
    atomic_uint back; /* how many came back */
};

/* Notes that a node is away, or still is: a try took so many milliseconds. Returns whether that is new. */
bool nodes_add(struct nodes *nodes, const char *name, int64_t project, int64_t took);

/* Returns whether it was in the list. */
bool nodes_remove(struct nodes *nodes, const char *name);

bool nodes_has(struct nodes *nodes, const char *name);

/* Copies one that is due to be tried; no other caller gets it for `claim` milliseconds. False: none is. */
bool nodes_next_due(struct nodes *nodes, int64_t claim, struct node *node);

/* Writes their names into text, separated by ", ", cut to `size` bytes. Returns text. */
const char *nodes_names(struct nodes *nodes, char *text, size_t size);

#endif
