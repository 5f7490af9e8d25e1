/* Between the request and the event: tokens let in, keys open. */
#include "event/auth.h"
#include "base/log.h"
#include "event/base64.h"
#include "event/query.h"
#include "event/secrets.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TOKEN_DIGEST 32 /* bytes of SHA-256 */
#define BEARER       "Bearer "

struct auth {
    const struct conf *conf;
    bool bodies_only;      /* there is nobody to be let in */
    EVP_CIPHER *cipher;    /* NULL: bodies are not encrypted */
    pthread_rwlock_t lock; /* for what auth_reload changes */
    uint8_t (*tokens)[TOKEN_DIGEST];
    size_t token_count;
    struct secrets keys;
};

static bool digest(const void *bytes, size_t length, uint8_t value[TOKEN_DIGEST])
{
    return EVP_Q_digest(NULL, "SHA256", NULL, bytes, length, value, NULL) == 1;
}

/* ---- tokens */

/* Looks at every token whatever comes of the first, and at digests, which all have one length: the time it takes tells
 * nothing of how near a guess is. */
static bool is_token(struct auth *auth, const char *bytes, size_t length)
{
    uint8_t value[TOKEN_DIGEST];
    int found = 0;

    if (length == 0 || !digest(bytes, length, value))
        return false;
    pthread_rwlock_rdlock(&auth->lock);
    for (size_t i = 0; i < auth->token_count; i++)
        found |= CRYPTO_memcmp(auth->tokens[i], value, TOKEN_DIGEST) == 0;
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

/* ---- the cipher */

/* What openssl_decrypt can do without more than a body, a key and an iv. */
static const char *cipher_problem(const EVP_CIPHER *cipher)
{
    if (!cipher)
        return "no cipher of this OpenSSL: see openssl list -cipher-algorithms";
    if (EVP_CIPHER_get_flags(cipher) & EVP_CIPH_FLAG_AEAD_CIPHER)
        return "a cipher without AEAD (GCM, CCM, OCB, poly1305): the sender's body has no room for their tag";
    if (EVP_CIPHER_get_key_length(cipher) <= 0)
        return "a cipher that encrypts";
    if (EVP_CIPHER_get_flags(cipher) & EVP_CIPH_FLAG_CTS)
        return "a cipher that PHP has: not one with ciphertext stealing";
    switch (EVP_CIPHER_get_mode(cipher)) {
    case EVP_CIPH_CBC_MODE:
    case EVP_CIPH_CTR_MODE:
    case EVP_CIPH_CFB_MODE:
    case EVP_CIPH_OFB_MODE:
    case EVP_CIPH_ECB_MODE:
    case EVP_CIPH_STREAM_CIPHER:
        return NULL;
    default:
        return "a cipher in CBC, CTR, CFB, OFB or ECB mode, or chacha20";
    }
}

/* Modes in which two bodies under one key and one iv give away what they have in common. */
static bool is_stream(const EVP_CIPHER *cipher)
{
    int mode = EVP_CIPHER_get_mode(cipher);
    return mode != EVP_CIPH_CBC_MODE && mode != EVP_CIPH_ECB_MODE;
}

static bool find_cipher(struct auth *auth)
{
    const char *name = auth->conf->cipher;

    if (!*name)
        return true;
    auth->cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    const char *problem = cipher_problem(auth->cipher);
    if (problem)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", "TICKETD_CIPHER"), LOG_TEXT("value", name),
                 LOG_TEXT("expected", problem));
    else if (is_stream(auth->cipher))
        log_line(
            LOG_WARNING,
            "with this cipher two bodies without an iv of their own can be read by whoever has both: the sender's URL "
            "must carry iv=${iv}",
            LOG_TEXT("cipher", name));
    return !problem;
}

/* hex2bin, by way of `hex`, which has room for strlen(query) + 1 bytes. False: repeated, not hexadecimal, or an odd
 * number of digits. */
static bool read_iv(const char *query, char *hex, uint8_t *iv)
{
    size_t digits = 0, length = 0;
    bool good = query_find(query, "iv", hex, &digits) != QUERY_REPEATED && digits % 2 == 0;

    for (size_t i = 0; good && i < digits; i += 2) {
        int high = query_hex_digit(hex[i]), low = query_hex_digit(hex[i + 1]);
        good = high >= 0 && low >= 0;
        if (good && length < EVP_MAX_IV_LENGTH)
            iv[length++] = (uint8_t)(high << 4 | low);
    }
    return good;
}

/* Key and iv as PHP makes them fit (ext/openssl/openssl.c, php_openssl_cipher_init): a short key is padded with zeros,
 * a long one is cut unless the cipher takes keys of that length; the iv is padded or cut. So they always fit: false
 * means out of memory. */
static bool start(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const struct secret *key, const uint8_t *iv)
{
    uint8_t padded[EVP_MAX_KEY_LENGTH] = {0};
    size_t length = (size_t)EVP_CIPHER_get_key_length(cipher);
    bool good = EVP_DecryptInit_ex2(context, cipher, NULL, NULL, NULL) == 1;

    if (good && key->length > length && key->length <= sizeof(padded) &&
        EVP_CIPHER_CTX_set_key_length(context, (int)key->length) == 1)
        length = key->length;
    memcpy(padded, key->bytes, key->length < length ? key->length : length);
    good = good && EVP_DecryptInit_ex2(context, NULL, padded, iv, NULL) == 1;
    OPENSSL_cleanse(padded, sizeof(padded));
    return good;
}

static enum decrypted decrypt(const EVP_CIPHER *cipher, const struct secret *key, const uint8_t *iv,
                              const uint8_t *bytes, size_t length, char *plain, size_t *plain_length)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    enum decrypted result = DECRYPT_UNAVAILABLE;
    int most = 0, rest = 0;

    if (context && start(context, cipher, key, iv)) {
        bool good = EVP_DecryptUpdate(context, (uint8_t *)plain, &most, bytes, (int)length) == 1 &&
                    EVP_DecryptFinal_ex(context, (uint8_t *)plain + most, &rest) == 1;
        result = good ? DECRYPTED : DECRYPT_FAILED;
        *plain_length = good ? (size_t)(most + rest) : 0;
        plain[*plain_length] = '\0';
    }
    EVP_CIPHER_CTX_free(context); /* overwrites the key in it */
    return result;
}

enum decrypted auth_decrypt(struct auth *auth, size_t number, const char *query, const char *body, size_t length,
                            char **plain, size_t *plain_length)
{
    uint8_t iv[EVP_MAX_IV_LENGTH] = {0}, *bytes = malloc(length + 1);
    char *hex = malloc(strlen(query) + 1);
    enum decrypted result = DECRYPT_NO_KEY;

    *plain = malloc(length + EVP_MAX_BLOCK_LENGTH + 1);
    if (!*plain || !bytes || !hex) {
        result = DECRYPT_UNAVAILABLE;
    } else if (!read_iv(query, hex, iv)) {
        result = DECRYPT_BAD_IV;
    } else {
        size_t count = base64_decode(body, length, bytes);
        pthread_rwlock_rdlock(&auth->lock);
        if (number < auth->keys.count)
            result = decrypt(auth->cipher, &auth->keys.all[number], iv, bytes, count, *plain, plain_length);
        pthread_rwlock_unlock(&auth->lock);
    }
    free(bytes);
    free(hex);
    if (result != DECRYPTED) {
        free(*plain);
        *plain = NULL;
    }
    return result;
}

bool auth_encrypted(const struct auth *auth)
{
    return auth->cipher;
}

/* ---- the secrets */

/* The digests of the tokens; the tokens themselves are not kept. */
static bool keep_tokens(struct auth *auth, const struct secrets *tokens)
{
    uint8_t(*digests)[TOKEN_DIGEST] = calloc(tokens->count + 1, sizeof(*digests));
    bool good = digests;

    for (size_t i = 0; good && i < tokens->count; i++)
        good = digest(tokens->all[i].bytes, tokens->all[i].length, digests[i]);
    if (!good) {
        free(digests);
        return false;
    }
    free(auth->tokens);
    auth->tokens = digests;
    auth->token_count = tokens->count;
    return true;
}

static bool wanted(bool missing, bool unwanted, const char *name, const char *why_missing, const char *why_unwanted)
{
    if (missing || unwanted)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", name),
                 LOG_TEXT("expected", missing ? why_missing : why_unwanted));
    return !missing && !unwanted;
}

/* Whether there is what must be there, and nothing that would be ignored. */
static bool tokens_fit(const struct conf *conf, size_t count)
{
    return wanted(conf->auth == AUTH_TOKEN && count == 0, conf->auth == AUTH_NONE && count > 0, "TICKETD_TOKEN_FILE",
                  "a file with a token, or TICKETD_TOKEN; TICKETD_AUTH=none lets everyone in who reaches the location",
                  "no token where TICKETD_AUTH=none lets everyone in");
}

static bool keys_fit(const struct conf *conf, size_t count)
{
    return wanted(*conf->cipher && count == 0, !*conf->cipher && count > 0, "TICKETD_CIPHER_KEY_FILE",
                  "a file with the key for TICKETD_CIPHER, or TICKETD_CIPHER_KEY",
                  "TICKETD_CIPHER beside the key: without it bodies are read as they are");
}

static bool load(struct auth *auth)
{
    const struct conf *conf = auth->conf;
    struct secrets tokens = {0}, keys = {0};
    bool good = secrets_read(&keys, conf->cipher_key, conf->cipher_key_file, "TICKETD_CIPHER_KEY_FILE") &&
                keys_fit(conf, keys.count);

    if (!auth->bodies_only)
        good = good && secrets_read(&tokens, conf->token, conf->token_file, "TICKETD_TOKEN_FILE") &&
               tokens_fit(conf, tokens.count);
    if (good) {
        pthread_rwlock_wrlock(&auth->lock);
        good = keep_tokens(auth, &tokens);
        if (good) {
            struct secrets old = auth->keys;
            auth->keys = keys;
            keys = old;
        }
        pthread_rwlock_unlock(&auth->lock);
    }
    secrets_free(&tokens);
    secrets_free(&keys);
    return good;
}

static struct auth *open_auth(const struct conf *conf, bool bodies_only)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    if (!auth)
        return NULL;
    auth->conf = conf;
    auth->bodies_only = bodies_only;
    pthread_rwlock_init(&auth->lock, NULL);
    if (!find_cipher(auth) || !load(auth)) {
        auth_close(auth);
        return NULL;
    }
    return auth;
}

struct auth *auth_open(const struct conf *conf)
{
    return open_auth(conf, false);
}

struct auth *auth_open_for_bodies(const struct conf *conf)
{
    return open_auth(conf, true);
}

size_t auth_token_count(const struct auth *auth)
{
    return auth->token_count;
}

size_t auth_key_count(const struct auth *auth)
{
    return auth->keys.count;
}

void auth_close(struct auth *auth)
{
    if (!auth)
        return;
    secrets_free(&auth->keys);
    free(auth->tokens);
    EVP_CIPHER_free(auth->cipher);
    pthread_rwlock_destroy(&auth->lock);
    free(auth);
}

void auth_reload(struct auth *auth)
{
    if (load(auth))
        log_line(LOG_INFO, "tokens and keys were read again", LOG_NUMBER("tokens", (int64_t)auth->token_count),
                 LOG_NUMBER("keys", (int64_t)auth->keys.count));
    else
        log_line(LOG_ERROR, "tokens and keys were not read again: the old ones stay in force");
}
