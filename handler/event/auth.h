/* Who may send, and what an encrypted body says. With digest.c the only module that knows OpenSSL.
 *
 * Any thread may call, auth_reload in the meantime too. */
#ifndef TICKETD_AUTH_H
#define TICKETD_AUTH_H

#include "base/conf.h"
#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>

struct auth;

/* Reads the tokens and keys that the configuration names, and finds the cipher. NULL: something is missing or wrong; it
 * is logged with what to do. */
struct auth *auth_open(const struct conf *conf) MUST_USE;

/* The same without the tokens: for who has bodies and no requests. */
struct auth *auth_open_for_bodies(const struct conf *conf) MUST_USE;

void auth_close(struct auth *auth);

/* Reads the files of tokens and keys again. Where that fails the old ones stay in force; logged either way. */
void auth_reload(struct auth *auth);

/* Whether a request shows one of the tokens: as the parameter TICKETD_TOKEN_PARAM of `query` (QUERY_STRING), given
 * once, or as Bearer in `authorization` (HTTP_AUTHORIZATION, RFC 6750 section 2.1). Everyone does where
 * TICKETD_AUTH=none. */
bool auth_allows(struct auth *auth, const char *query, const char *authorization) MUST_USE;

/* How many there are; none where TICKETD_AUTH=none, or bodies are not encrypted. */
size_t auth_token_count(const struct auth *auth);
size_t auth_key_count(const struct auth *auth);

/* Whether bodies are encrypted (TICKETD_CIPHER). */
bool auth_encrypted(const struct auth *auth);

enum decrypted {
    DECRYPTED,
    DECRYPT_FAILED,     /* that key does not fit; another may */
    DECRYPT_BAD_IV,     /* the parameter iv is not hexadecimal, odd or repeated */
    DECRYPT_NO_KEY,     /* there is no key of that number */
    DECRYPT_UNAVAILABLE /* out of memory */
};

/* Decrypts a body with key number `key`, from 0, as PHP's openssl_decrypt($body, $cipher, $key, 0,
 * hex2bin($_GET['iv'])) does. *plain gets the text with a NUL behind it, from malloc, the caller's; *plain_length is
 * its length. */
enum decrypted auth_decrypt(struct auth *auth, size_t key, const char *query, const char *body, size_t length,
                            char **plain, size_t *plain_length) MUST_USE;

#endif
