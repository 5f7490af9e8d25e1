/* Under store.c: whose node is away. */
#include "store/store_nodes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "store/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t project_of(const struct job *job)
{
    return event_project(job->event);
}

static const char *project_name(int64_t project, char name[NODE_NAME])
{
    snprintf(name, NODE_NAME, "project %" PRId64, project);
    return name;
}

/* The nodes of projects, given as the text of an array: rows of project and node. NULL: the coordinator does not say;
 * then the connection is closed. */
static PGresult *places_of(struct store *store, const char *projects)
{
    const char *const values[] = {projects};
    int sent = PQsendQueryParams(store->connection, sql_node_of_projects, 1, NULL, values, NULL, NULL, 0);
    PGresult *places = connection_ask(store, sent, clock_monotonic_ms() + session_patience(store->conf, false));

    if (PQresultStatus(places) == PGRES_TUPLES_OK)
        return places;
    connection_failed_by(store, places);
    PQclear(places);
    return NULL;
}

/* The node that has the project, in `name`; the project's own name where no node has it. False: as above. */
static bool find_node(struct store *store, int64_t project, char name[NODE_NAME])
{
    char projects[32];

    snprintf(projects, sizeof(projects), "{%" PRId64 "}", project);
    PGresult *places = places_of(store, projects);
    if (PQntuples(places) > 0)
        snprintf(name, NODE_NAME, "%s", PQgetvalue(places, 0, 1));
    else
        project_name(project, name);
    PQclear(places);
    return places;
}

static void hold_project(struct work *work, int64_t project, const char *node)
{
    for (size_t i = 0; i < work->count; i++) {
        struct job *job = work->waiting[i];
        if (project_of(job) != project || job->event->outcome != OUTCOME_NONE)
            continue;
        work->suspect -= job->suspect;
        job->suspect = false;
        job->held = true;
        job->away = true;
        snprintf(job->detail, sizeof(job->detail), "%.*s cannot be written now", NODE_NAME, node);
    }
}

void nodes_hold(struct store *store, struct work *work)
{
    struct text projects = {0};
    char name[NODE_NAME];
    int64_t last = 0;

    if (!store->distributed || !store->connection || store->nodes->count == 0)
        return;
    text_append(&projects, "{");
    for (size_t i = 0; i < work->count; i++) {
        int64_t project = project_of(work->waiting[i]);
        if (i == 0 || project != last)
            text_append_format(&projects, "%s%" PRId64, i ? "," : "", project);
        last = project;
    }
    text_append(&projects, "}");
    PGresult *places = projects.failed ? NULL : places_of(store, projects.bytes);
    for (int row = 0; row < PQntuples(places); row++) {
        int64_t project = strtoll(PQgetvalue(places, row, 0), NULL, 10);
        const char *const names[] = {PQgetvalue(places, row, 1), project_name(project, name)};
        for (size_t i = 0; i < 2; i++)
            if (nodes_has(store->nodes, names[i]))
                hold_project(work, project, names[i]);
    }
    PQclear(places);
    text_free(&projects);
}

void nodes_refuse(struct store *store, struct work *work, int64_t project, const char *state, int64_t took)
{
    int64_t deadline = clock_monotonic_ms() + session_patience(store->conf, false);
    char name[NODE_NAME];

    if (!store->connection && !session_open(store, deadline))
        return;
    if (sqlstate_classify(state) == SQLSTATE_HELD)
        project_name(project, name);
    else if (!find_node(store, project, name))
        return;
    if (nodes_add(store->nodes, name, project, took))
        log_line(LOG_ERROR, "a node of the database is away: events of its projects are held", LOG_TEXT("node", name),
                 LOG_TEXT("sqlstate", state));
    hold_project(work, project, name); /* also where the list is full */
    nodes_hold(store, work);
}

bool nodes_blamed(struct store *store, struct work *work, const struct attempt *attempt, enum sqlstate_class class,
                  int64_t took)
{
    const char *said = attempt->error ? PQresultErrorField(attempt->error, PG_DIAG_SQLSTATE) : NULL;
    int64_t project = project_of(work->chosen[0]), began = clock_monotonic_ms();
    char state[6];

    if (!store->distributed || (class == SQLSTATE_FAULT && sqlstate_classify(said) == SQLSTATE_FAULT))
        return false;
    snprintf(state, sizeof(state), "%s", said ? said : "");
    if (attempt->broken)
        connection_close(store);
    if (class != SQLSTATE_OUTAGE && session_probe(store, project, state))
        return false; /* an event's own, or a neighbour's */
    nodes_refuse(store, work, project, state, took + clock_monotonic_ms() - began);
    return true;
}

void nodes_try(struct store *store)
{
    struct node node;
    char state[6];

    while (store->distributed && store->connection && store->nodes->count > 0 &&
           nodes_next_due(store->nodes, 4 * (int64_t)store->conf->db_timeout_ms, &node)) {
        int64_t began = clock_monotonic_ms();
        bool good = session_probe(store, node.project, state);
        /* What is a fault may be that of the made-up event: real ones will tell. */
        if (good || (store->connection && sqlstate_classify(state) == SQLSTATE_FAULT)) {
            if (nodes_remove(store->nodes, node.name))
                log_line(LOG_INFO, "a node of the database is back", LOG_TEXT("node", node.name));
        } else {
            (void)!nodes_add(store->nodes, node.name, node.project, clock_monotonic_ms() - began);
        }
        if (!store->connection && !session_open(store, clock_monotonic_ms() + session_patience(store->conf, false)))
            return;
    }
}

bool store_is_distributed(const struct store *store)
{
    return store->distributed;
}

bool store_is_whole_again(struct store *store)
{
    unsigned back = store->nodes->back;
    bool again = back != store->nodes_back;

    store->nodes_back = back;
    return again;
}
