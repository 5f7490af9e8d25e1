/* Beside the path: reads of any length, with their limits in the same transaction. */
#include "store/store_read.h"
#include "store/sql.h"

#include <stdio.h>

/* The limits and the question, which end in one transaction. */
static bool send(PGconn *connection, const struct limited_read *reading)
{
    char limit[16];
    const char *const limits[] = {limit};

    snprintf(limit, sizeof(limit), "%d", reading->limit_ms);
    return PQenterPipelineMode(connection) &&
           PQsendQueryParams(connection, sql_report_limits, 1, NULL, limits, NULL, NULL, 0) &&
           PQsendQueryParams(connection, reading->sql, reading->count, NULL, reading->values, NULL, NULL, 0) &&
           PQpipelineSync(connection);
}

PGresult *store_read(struct store *store, const struct limited_read *reading, int64_t deadline, PGresult **error)
{
    PGresult *rows = NULL;
    bool broken = !send(store->connection, reading), ended = false;

    *error = NULL;
    while (!broken && !ended) {
        PGresult *result = connection_result(store, deadline, &broken);
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_FATAL_ERROR && !*error) {
            *error = result;
        } else if (status == PGRES_TUPLES_OK) { /* of the question: it comes behind the limits */
            PQclear(rows);
            rows = result;
        } else {
            PQclear(result);
        }
        ended = status == PGRES_PIPELINE_SYNC;
    }
    bool good = ended && PQexitPipelineMode(store->connection) && !*error;
    if (good)
        return rows;
    PQclear(rows);
    return NULL;
}

void store_read_end(struct store *store)
{
    if (PQstatus(store->connection) != CONNECTION_OK || PQpipelineStatus(store->connection) != PQ_PIPELINE_OFF)
        connection_close(store);
}
