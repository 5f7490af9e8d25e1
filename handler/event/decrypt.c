/* On the path between the request and the event: a body is opened, where bodies are encrypted, and decoded. */
#include "event/decrypt.h"
#include "base/log.h"
#include "event/query.h"
#include "event/secrets.h"
#include "event/unpack.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct decrypt {
    const struct conf *conf;
    EVP_CIPHER *cipher;    /* NULL: bodies are not encrypted */
    pthread_rwlock_t lock; /* for what decrypt_reload changes */
    struct secrets keys;
};

/* -- the cipher ---------------------------------------------------------------------------------------------------- */

/* What openssl_decrypt can do without more than a body, a key and an iv. A cipher that OpenSSL knows by its name alone
 * needs a provider that is not loaded. */
static const char *cipher_problem(const EVP_CIPHER *cipher, const char *name)
{
    if (!cipher && EVP_get_cipherbyname(name))
        return "a cipher of a provider that is loaded: this one is in OpenSSL's legacy provider, see OPENSSL_CONF in "
               "ticketd(8)";
    if (!cipher)
        return "a cipher of this OpenSSL: see what openssl list -cipher-algorithms has under Provided";
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

static bool find_cipher(struct decrypt *decrypt)
{
    const char *name = decrypt->conf->cipher;

    if (!*name)
        return true;
    decrypt->cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    const char *problem = cipher_problem(decrypt->cipher, name);
    const char *said = decrypt->cipher ? NULL : ERR_reason_error_string(ERR_peek_last_error());
    if (problem)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", "TICKETD_CIPHER"), LOG_TEXT("value", name),
                 LOG_TEXT("openssl", said ? said : ""), LOG_TEXT("expected", problem));
    else if (is_stream(decrypt->cipher))
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
static bool begin_cipher(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const struct secret *key, const uint8_t *iv,
                         int encrypt)
{
    uint8_t padded[EVP_MAX_KEY_LENGTH] = {0};
    size_t length = (size_t)EVP_CIPHER_get_key_length(cipher);
    bool good = EVP_CipherInit_ex2(context, cipher, NULL, NULL, encrypt, NULL) == 1;

    if (good && key->length > length && key->length <= sizeof(padded) &&
        EVP_CIPHER_CTX_set_key_length(context, (int)key->length) == 1)
        length = key->length;
    memcpy(padded, key->bytes, key->length < length ? key->length : length);
    good = good && EVP_CipherInit_ex2(context, NULL, padded, iv, encrypt, NULL) == 1;
    OPENSSL_cleanse(padded, sizeof(padded));
    return good;
}

static enum decrypted decrypt_with(const EVP_CIPHER *cipher, const struct secret *key, const uint8_t *iv,
                                   const uint8_t *bytes, size_t length, char *plain, size_t *plain_length)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    enum decrypted result = DECRYPT_UNAVAILABLE;
    int most = 0, rest = 0;

    if (context && begin_cipher(context, cipher, key, iv, 0)) {
        bool good = EVP_DecryptUpdate(context, (uint8_t *)plain, &most, bytes, (int)length) == 1 &&
                    EVP_DecryptFinal_ex(context, (uint8_t *)plain + most, &rest) == 1;
        result = good ? DECRYPTED : DECRYPT_FAILED;
        *plain_length = good ? (size_t)(most + rest) : 0;
        plain[*plain_length] = '\0';
    }
    EVP_CIPHER_CTX_free(context); /* overwrites the key in it */
    return result;
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes base64 as PHP's base64_decode does where it is not strict (ext/standard/base64.c), to `bytes`, which has room
 * for as many; they may be the same memory. Characters that are not of the alphabet (RFC 4648 section 4), = among them,
 * are skipped, wherever they are; bits that make no whole byte at the end are dropped. Returns how many bytes there
 * are.
 */
static size_t base64_decode(const char *text, size_t length, uint8_t *bytes)
{
    uint32_t bits = 0; /* the last digits, six bits each */
    size_t count = 0;
    int waiting = 0; /* bits that are not written yet */

    for (size_t i = 0; i < length; i++) {
        int value = base64_digit(text[i]);
        if (value < 0)
            continue;
        bits = bits << 6 | (uint32_t)value;
        waiting += 6;
        if (waiting >= 8) {
            waiting -= 8;
            bytes[count++] = (uint8_t)(bits >> waiting);
        }
    }
    return count;
}

enum decrypted decrypt_bytes(struct decrypt *decrypt, size_t number, const char *query, const char *body, size_t length,
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
        pthread_rwlock_rdlock(&decrypt->lock);
        if (number < decrypt->keys.count)
            result = decrypt_with(decrypt->cipher, &decrypt->keys.all[number], iv, bytes, count, *plain, plain_length);
        pthread_rwlock_unlock(&decrypt->lock);
    }
    free(bytes);
    free(hex);
    if (result != DECRYPTED) {
        free(*plain);
        *plain = NULL;
    }
    return result;
}

bool decrypt_seal(struct decrypt *decrypt, const struct text *plain, struct text *body, struct text *iv_hex)
{
    uint8_t iv[EVP_MAX_IV_LENGTH];
    size_t room = plain->length + EVP_MAX_BLOCK_LENGTH;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    uint8_t *bytes = malloc(room), *digits = malloc(room / 3 * 4 + 5); /* EVP_EncodeBlock(3) */
    int most = 0, rest = 0;
    bool good = context && bytes && digits && RAND_bytes(iv, sizeof(iv)) == 1 &&
                begin_cipher(context, decrypt->cipher, &decrypt->keys.all[0], iv, 1) &&
                EVP_CipherUpdate(context, bytes, &most, (const uint8_t *)plain->bytes, (int)plain->length) == 1 &&
                EVP_CipherFinal_ex(context, bytes + most, &rest) == 1;

    if (good)
        text_append_bytes(body, (const char *)digits, (size_t)EVP_EncodeBlock(digits, bytes, most + rest));
    for (size_t i = 0; good && i < sizeof(iv); i++)
        text_append_format(iv_hex, "%02x", iv[i]);
    EVP_CIPHER_CTX_free(context);
    free(bytes);
    free(digits);
    return good && !body->failed && !iv_hex->failed;
}

/* -- the keys ------------------------------------------------------------------------------------------------------ */

bool decrypt_reload(struct decrypt *decrypt)
{
    const struct conf *conf = decrypt->conf;
    struct secrets keys;
    bool good =
        secrets_read(&keys, conf->cipher_key, conf->cipher_key_file, "TICKETD_CIPHER_KEY_FILE") &&
        secrets_fit(&keys, *conf->cipher,
                    *conf->cipher_key_file || !*conf->cipher_key ? "TICKETD_CIPHER_KEY_FILE" : "TICKETD_CIPHER_KEY",
                    "a file with the key for TICKETD_CIPHER, or TICKETD_CIPHER_KEY",
                    "TICKETD_CIPHER beside the key: without it bodies are read as they are");

    if (good) {
        pthread_rwlock_wrlock(&decrypt->lock);
        struct secrets old = decrypt->keys;
        decrypt->keys = keys;
        keys = old;
        pthread_rwlock_unlock(&decrypt->lock);
    }
    secrets_free(&keys);
    return good;
}

struct decrypt *decrypt_open(const struct conf *conf)
{
    struct decrypt *decrypt = calloc(1, sizeof(*decrypt));
    if (!decrypt)
        return NULL;
    decrypt->conf = conf;
    pthread_rwlock_init(&decrypt->lock, NULL);
    if (!find_cipher(decrypt) || !decrypt_reload(decrypt)) {
        decrypt_close(decrypt);
        return NULL;
    }
    return decrypt;
}

void decrypt_close(struct decrypt *decrypt)
{
    if (!decrypt)
        return;
    secrets_free(&decrypt->keys);
    EVP_CIPHER_free(decrypt->cipher);
    pthread_rwlock_destroy(&decrypt->lock);
    free(decrypt);
}

size_t decrypt_key_count(const struct decrypt *decrypt)
{
    return decrypt->keys.count;
}

/* -- the body ------------------------------------------------------------------------------------------------------ */

/* Decrypts with the first key that makes JSON of the body, and decodes that. */
static enum decrypted open_body(struct decrypt *decrypt, const char *query, const struct event *event,
                                struct event *plain)
{
    for (size_t key = 0;; key++) {
        char *text;
        size_t length;
        enum decrypted result = decrypt_bytes(decrypt, key, query, event->body, event->length, &text, &length);
        if (result == DECRYPT_FAILED)
            continue;
        if (result != DECRYPTED)
            return result;
        event_init(plain, text, length);
        bool good = event_decode(plain);
        if (good && plain->refusal != OUTCOME_BAD_REQUEST)
            return DECRYPTED;
        event_free(plain);
        if (!good)
            return DECRYPT_UNAVAILABLE;
    }
}

/* The receipt stays the same. */
static void replace(struct event *event, struct event *plain)
{
    memcpy(plain->id, event->id, sizeof(plain->id));
    plain->received_at = event->received_at;
    plain->waited = event->waited;
    memcpy(plain->iv, event->iv, sizeof(plain->iv));
    memcpy(plain->coding, event->coding, sizeof(plain->coding));
    plain->sent = event->sent;
    plain->sent_length = event->sent_length;
    event->sent = NULL;
    event_free(event);
    *event = *plain;
}

bool decrypt_keep(struct event *event, const char *query, const char *coding)
{
    char *iv = malloc(strlen(query) + 1);
    size_t length = 0;

    if (!iv)
        return false;
    /* A NUL in it would make another iv of it. */
    if (query_find(query, "iv", iv, &length) == QUERY_ONE && strlen(iv) == length)
        event_keep(event->iv, iv);
    event_keep(event->coding, coding);
    free(iv);
    return true;
}

static const char *unpack_under_the_cap(const struct decrypt *decrypt, struct event *event)
{
    return unpack_body(event, (size_t)decrypt->conf->max_body_kb * 1024);
}

bool decrypt_unpack(const struct decrypt *decrypt, struct event *event)
{
    const char *problem = unpack_under_the_cap(decrypt, event);

    if (problem && problem != UNPACK_NO_MEMORY)
        event_refuse(event, OUTCOME_BAD_REQUEST, "", problem);
    return problem != UNPACK_NO_MEMORY;
}

#define NOT_OPENED "cannot be decrypted, or is not JSON"

/* False: no memory. The reason is made now: the store could not say that there was none for it. */
static bool refuse_for(struct event *event, enum outcome refusal, const char *reason)
{
    event_refuse(event, refusal, "", reason);
    event_reason(event);
    return event->reason;
}

bool decrypt_decode(struct decrypt *decrypt, const char *query, struct event *event)
{
    struct event plain;

    if (event->refusal != OUTCOME_NONE)
        return true;
    if (!decrypt->cipher)
        return event_decode(event);
    switch (open_body(decrypt, query, event, &plain)) {
    case DECRYPTED:
        replace(event, &plain);
        return true;
    case DECRYPT_BAD_IV:
        event_refuse(event, OUTCOME_BAD_REQUEST, "",
                     "the parameter iv must be given once, in pairs of hexadecimal digits");
        return true;
    case DECRYPT_UNAVAILABLE:
        return false;
    default:
        /* Whether it was the padding that did not fit or the JSON, nobody is told: that would open one body after the
         * other to whoever may ask often enough. */
        return refuse_for(event, OUTCOME_BAD_REQUEST, NOT_OPENED);
    }
}

/* ticketd 0.1.0 put the iv behind the reason. */
static void read_reason(struct event *event, const char *reason)
{
    static const char before[] = NOT_OPENED "; iv=";

    if (!*event->iv && strncmp(reason, before, strlen(before)) == 0)
        event_keep(event->iv, reason + strlen(before));
}

/* Refuses a body that could not be opened, unless it is JSON as it is: of other bytes that says more than that they are
 * none. */
static bool refuse_unless_json(struct event *event, const char *problem)
{
    char *copy = malloc(event->length + 1);
    struct event trial;

    if (!copy)
        return false;
    memcpy(copy, event->body, event->length + 1);
    event_init(&trial, copy, event->length);
    bool good = event_decode(&trial);
    if (good && trial.refusal == OUTCOME_BAD_REQUEST)
        good = refuse_for(event, OUTCOME_BAD_REQUEST, problem);
    event_free(&trial);
    return good;
}

bool decrypt_again(struct decrypt *decrypt, const char *reason, struct event *event)
{
    char query[sizeof("iv=") + EVENT_SENT_WITH];
    struct event decoded, plain;
    size_t length;
    bool good = true;

    read_reason(event, reason);
    const char *problem = unpack_under_the_cap(decrypt, event);
    if (problem == UNPACK_NO_MEMORY)
        return false;
    snprintf(query, sizeof(query), "iv=%s", event->iv);
    enum decrypted result = decrypt->cipher ? open_body(decrypt, query, event, &decoded) : DECRYPT_NO_KEY;
    if (result == DECRYPT_UNAVAILABLE)
        return false;
    if (result != DECRYPTED) {
        problem = !problem && decrypt->cipher ? NOT_OPENED : problem;
        return !problem || refuse_unless_json(event, problem);
    }
    if (decoded.refusal == OUTCOME_NONE) {
        char *text = decoded.allocation;
        event_received(&decoded, &length);
        decoded.allocation = NULL; /* it is not freed with the rest */
        event_init(&plain, text, length);
        replace(event, &plain);
    } else {
        good = refuse_for(event, decoded.refusal, event_reason(&decoded));
    }
    event_free(&decoded);
    return good;
}
