/* What the sender says happened, and what became of it: the one outcome type of the path, from reading a request to its
 * answer. */
#ifndef TICKETD_OUTCOME_H
#define TICKETD_OUTCOME_H

enum action { ACTION_ADD, ACTION_UPDATE, ACTION_DELETE, ACTION_COUNT };

enum outcome {
    OUTCOME_NONE, /* no verdict yet: go on */
#define OUTCOME(name, status, word) OUTCOME_##name,
#include "base/outcome.def"
#undef OUTCOME
    OUTCOME_COUNT
};

/* A result that must not be dropped on the floor. */
#define MUST_USE __attribute__((warn_unused_result))

/* "add", "update", "delete". A static string. */
const char *action_name(enum action action);

/* The HTTP status (RFC 9110) of an outcome; 0 for OUTCOME_NONE. */
int outcome_status(enum outcome outcome);

/* The result or problem title of an outcome. A static string. */
const char *outcome_word(enum outcome outcome);

/* The outcome whose word is `word` among those with status 200; OUTCOME_NONE if there is none. */
enum outcome outcome_by_result(const char *word) MUST_USE;

#endif
