/* The table from outcomes to HTTP. */
#include "base/outcome.h"

#include <stddef.h>
#include <string.h>

static const struct {
    int status;
    const char *word;
} outcomes[OUTCOME_COUNT] = {
    [OUTCOME_NONE] = {0, "none"},
#define OUTCOME(name, status, word) [OUTCOME_##name] = {status, word},
#include "base/outcome.def"
#undef OUTCOME
};

const char *action_name(enum action action)
{
    static const char *const names[ACTION_COUNT] = {
        [ACTION_ADD] = "add", [ACTION_UPDATE] = "update", [ACTION_DELETE] = "delete"};
    return names[action];
}

int outcome_status(enum outcome outcome)
{
    return outcomes[outcome].status;
}

const char *outcome_word(enum outcome outcome)
{
    return outcomes[outcome].word;
}

enum outcome outcome_by_result(const char *word)
{
    for (enum outcome o = OUTCOME_NONE + 1; o < OUTCOME_COUNT; o++)
        if (outcomes[o].status == 200 && strcmp(outcomes[o].word, word) == 0)
            return o;
    return OUTCOME_NONE;
}
