/* One table; the first prefix that fits decides. */
#include "store/sqlstate.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *prefix;
    enum sqlstate_class class;
} table[] = {
    {"40", SQLSTATE_TRY_AGAIN},    /* serialization failure, deadlock */
    {"55P03", SQLSTATE_TRY_AGAIN}, /* lock not available */
    {"57014", SQLSTATE_TRY_AGAIN}, /* query cancelled, by a time-out too */
    {"22", SQLSTATE_EVENT},        /* data exception */
    {"23", SQLSTATE_EVENT},        /* constraint violated */
    {"54", SQLSTATE_EVENT},        /* program limit exceeded */
    {"P0", SQLSTATE_EVENT},        /* a trigger of the user's raised an exception */
    {"42", SQLSTATE_INSTALLATION}, /* no such object, no right */
    {"28", SQLSTATE_INSTALLATION}, /* no such login */
    {"3D", SQLSTATE_INSTALLATION}, /* no such database */
    {"3F", SQLSTATE_INSTALLATION}, /* no such schema */
    {"0A", SQLSTATE_INSTALLATION}, /* not supported */
    {"", SQLSTATE_RECONNECT},      /* none, 08, 25006, 26000, 53, 57P01 to 57P05, 58 and what else there is */
};

enum sqlstate_class sqlstate_classify(const char *state)
{
    size_t row = 0;
    while (strncmp(table[row].prefix, state ? state : "", strlen(table[row].prefix)) != 0)
        row++;
    return table[row].class;
}
