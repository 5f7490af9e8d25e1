/* Who may send. Any thread may call, auth_reload in the meantime too. */
#ifndef TICKETD_AUTH_H
#define TICKETD_AUTH_H

#include "base/conf.h"
#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>

struct auth;

/* Reads the tokens that the configuration names. NULL: there are none, or they cannot be read, or the parameter's name
 * matches none; logged with what to do. */
struct auth *auth_open(const struct conf *conf) MUST_USE;
void auth_close(struct auth *auth);

/* Reads the tokens again. False: that failed (logged), and the old ones stay in force. */
bool auth_reload(struct auth *auth) MUST_USE;

/* Whether a request shows one of the tokens: as the parameter TICKETD_TOKEN_PARAM of `query` (QUERY_STRING), given
 * once, or as Bearer in `authorization` (HTTP_AUTHORIZATION, RFC 6750 section 2.1). Everyone does where
 * TICKETD_AUTH=none. */
bool auth_allows(struct auth *auth, const char *query, const char *authorization) MUST_USE;

/* How many there are; none where TICKETD_AUTH=none. */
size_t auth_token_count(const struct auth *auth);

#endif
