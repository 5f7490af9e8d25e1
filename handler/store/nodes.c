/* Beside the store: the list of nodes that are away. */
#include "store/nodes.h"
#include "base/clock.h"
#include "base/metrics.h"

#include <stdio.h>
#include <string.h>

#define WAIT_MIN_MS 1000
#define WAIT_MAX_MS 60000
#define SHARE       4 /* a try that takes long, and for nothing, leaves others so many times as much */

/* NULL: it is not there. For who has the lock. */
static struct node *find_away(struct nodes *nodes, const char *name)
{
    for (size_t i = 0; i < nodes->count; i++)
        if (strcmp(nodes->away[i].name, name) == 0)
            return &nodes->away[i];
    return NULL;
}

bool nodes_add(struct nodes *nodes, const char *name, int64_t project, int64_t took)
{
    pthread_mutex_lock(&nodes->lock);
    struct node *node = find_away(nodes, name);
    bool new = !node;
    if (new && nodes->count < NODES) {
        node = &nodes->away[nodes->count++];
        *node = (struct node){.wait = WAIT_MIN_MS / 2};
        snprintf(node->name, sizeof(node->name), "%s", name);
    }
    if (node) {
        node->project = project;
        node->wait = node->wait * 2 < WAIT_MAX_MS ? node->wait * 2 : WAIT_MAX_MS;
        node->next_try = clock_monotonic_ms() + (node->wait > SHARE * took ? node->wait : SHARE * took);
    }
    metrics_set(METRIC_NODES_AWAY, (int64_t)nodes->count);
    pthread_mutex_unlock(&nodes->lock);
    return new;
}

bool nodes_remove(struct nodes *nodes, const char *name)
{
    pthread_mutex_lock(&nodes->lock);
    struct node *node = find_away(nodes, name);
    if (node) {
        *node = nodes->away[nodes->count - 1];
        nodes->count--;
        nodes->back++;
    }
    metrics_set(METRIC_NODES_AWAY, (int64_t)nodes->count);
    pthread_mutex_unlock(&nodes->lock);
    return node;
}

bool nodes_has(struct nodes *nodes, const char *name)
{
    pthread_mutex_lock(&nodes->lock);
    bool found = find_away(nodes, name);
    pthread_mutex_unlock(&nodes->lock);
    return found;
}

bool nodes_next_due(struct nodes *nodes, int64_t claim, struct node *node)
{
    int64_t now = clock_monotonic_ms();
    bool found = false;

    pthread_mutex_lock(&nodes->lock);
    for (size_t i = 0; i < nodes->count && !found; i++) {
        found = now >= nodes->away[i].next_try;
        if (found) {
            *node = nodes->away[i];
            nodes->away[i].next_try = now + claim;
        }
    }
    pthread_mutex_unlock(&nodes->lock);
    return found;
}

const char *nodes_names(struct nodes *nodes, char *text, size_t size)
{
    size_t length = 0;

    *text = '\0';
    pthread_mutex_lock(&nodes->lock);
    for (size_t i = 0; i < nodes->count && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s%s", i ? ", " : "", nodes->away[i].name);
    pthread_mutex_unlock(&nodes->lock);
    return text;
}
