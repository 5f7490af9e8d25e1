/* One table; the first prefix that fits decides. */
#include "store/sqlstate.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *prefix;
    enum sqlstate_class class;
} table[] = {
    {"40", SQLSTATE_HELD},       /* serialization failure, deadlock */
    {"55P03", SQLSTATE_HELD},    /* lock not available: lock_timeout is shorter than statement_timeout */
    {"57014", SQLSTATE_TIMEOUT}, /* query cancelled */
    {"08", SQLSTATE_OUTAGE},     /* the connection */
    {"25006", SQLSTATE_OUTAGE},  /* read-only: a standby */
    {"26000", SQLSTATE_OUTAGE},  /* the prepared statement is gone: another session, by a pooler */
    {"53100", SQLSTATE_OUTAGE},  /* disk full */
    {"53300", SQLSTATE_OUTAGE},  /* too many connections */
    {"57P", SQLSTATE_OUTAGE},    /* the server starts or stops */
    {"58", SQLSTATE_OUTAGE},     /* input or output failed */
    {"", SQLSTATE_FAULT},
};

enum sqlstate_class sqlstate_classify(const char *state)
{
    size_t row = 0;
    if (!state || !*state)
        return SQLSTATE_OUTAGE;
    while (strncmp(table[row].prefix, state, strlen(table[row].prefix)) != 0)
        row++;
    return table[row].class;
}

bool sqlstate_may_heal(const char *state)
{
    static const char *const classes[] = {"42", "28", "3D", "3F", "0A", "25"};
    size_t i = 0;

    while (i < sizeof(classes) / sizeof(classes[0]) && strncmp(state, classes[i], 2) != 0)
        i++;
    return i < sizeof(classes) / sizeof(classes[0]);
}
