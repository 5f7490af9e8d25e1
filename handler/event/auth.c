/* On the path between the request and its body: tokens let in. */
#include "event/auth.h"
#include "base/log.h"
#include "event/digest.h"
#include "event/query.h"
#include "event/secrets.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BEARER      "Bearer "
#define TOKEN_SHORT 16 /* bytes; one with fewer can be guessed */

struct auth {
    const struct conf *conf;
    pthread_rwlock_t lock; /* for what auth_reload changes */
    uint8_t (*tokens)[DIGEST_SIZE];
    size_t token_count;
};

/* Looks at every token whatever comes of the first, and at digests, which all have one length: the time it takes tells
 * nothing of how near a guess is. */
static bool is_token(struct auth *auth, const char *bytes, size_t length)
{
    uint8_t value[DIGEST_SIZE];
    int found = 0;

    if (length == 0 || !digest_of(bytes, length, value))
        return false;
    pthread_rwlock_rdlock(&auth->lock);
    for (size_t i = 0; i < auth->token_count; i++)
        found |= CRYPTO_memcmp(auth->tokens[i], value, DIGEST_SIZE) == 0;
    pthread_rwlock_unlock(&auth->lock);
    return found;
}

static bool query_allows(struct auth *auth, const char *query, bool *repeated)
{
    size_t size = strlen(query) + 1, length;
    char *value = malloc(size);
    if (!value)
        return false;
    enum query_found found = query_find(query, auth->conf->token_param, value, &length);
    bool allows = found == QUERY_ONE && is_token(auth, value, length);
    *repeated = found == QUERY_REPEATED;
    explicit_bzero(value, size);
    free(value);
    return allows;
}

bool auth_allows(struct auth *auth, const char *query, const char *authorization)
{
    const size_t bearer = strlen(BEARER);
    bool repeated = false;

    if (auth->conf->auth == AUTH_NONE || query_allows(auth, query, &repeated))
        return true;
    if (repeated || strncasecmp(authorization, BEARER, bearer) != 0)
        return false;
    authorization += bearer + strspn(authorization + bearer, " ");
    return is_token(auth, authorization, strcspn(authorization, " "));
}

/* The digests of the tokens; the tokens themselves are not kept. */
static bool keep(struct auth *auth, const struct secrets *tokens)
{
    uint8_t(*digests)[DIGEST_SIZE] = calloc(tokens->count + 1, sizeof(*digests));
    bool good = digests;

    for (size_t i = 0; good && i < tokens->count; i++)
        good = digest_of(tokens->all[i].bytes, tokens->all[i].length, digests[i]);
    if (!good) {
        free(digests);
        return false;
    }
    pthread_rwlock_wrlock(&auth->lock);
    free(auth->tokens);
    auth->tokens = digests;
    auth->token_count = tokens->count;
    pthread_rwlock_unlock(&auth->lock);
    return true;
}

static void warn_of_short(const struct secrets *tokens)
{
    int64_t count = 0;

    for (size_t i = 0; i < tokens->count; i++)
        count += tokens->all[i].length < TOKEN_SHORT;
    if (count > 0)
        log_line(LOG_WARNING,
                 "tokens of fewer than 16 characters can be guessed: openssl rand -hex 24 makes a good one",
                 LOG_NUMBER("tokens", count));
}

bool auth_reload(struct auth *auth)
{
    const struct conf *conf = auth->conf;
    struct secrets tokens;
    bool good = secrets_read(&tokens, conf->token, conf->token_file, "TICKETD_TOKEN_FILE");

    secrets_trim(&tokens);
    warn_of_short(&tokens);
    good = good &&
           secrets_fit(&tokens, conf->auth == AUTH_TOKEN,
                       *conf->token_file || !*conf->token ? "TICKETD_TOKEN_FILE" : "TICKETD_TOKEN",
                       "a file with a token, or TICKETD_TOKEN; TICKETD_AUTH=none lets everyone in who reaches the "
                       "location",
                       "no token where TICKETD_AUTH=none lets everyone in") &&
           keep(auth, &tokens);

    secrets_free(&tokens);
    return good;
}

/* A parameter that stands in a query as it is set: not one with & or =, or with % and what can be decoded. */
static bool may_match(const char *name)
{
    size_t size = strlen(name) + sizeof("=x"), length = 0;
    char *query = malloc(size), *value = malloc(size);
    bool good = query && value;

    if (good) {
        snprintf(query, size, "%s=x", name);
        good = query_find(query, name, value, &length) == QUERY_ONE && strcmp(value, "x") == 0;
    }
    if (!good)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", "TICKETD_TOKEN_PARAM"), LOG_TEXT("value", name),
                 LOG_TEXT("expected", "the name as it is when decoded, without & and ="));
    free(query);
    free(value);
    return good;
}

struct auth *auth_open(const struct conf *conf)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return NULL;
    auth->conf = conf;
    pthread_rwlock_init(&auth->lock, NULL);
    if (!may_match(conf->token_param) || !auth_reload(auth)) {
        auth_close(auth);
        return NULL;
    }
    return auth;
}

size_t auth_token_count(const struct auth *auth)
{
    return auth->token_count;
}

void auth_close(struct auth *auth)
{
    if (!auth)
        return;
    free(auth->tokens);
    pthread_rwlock_destroy(&auth->lock);
    free(auth);
}
