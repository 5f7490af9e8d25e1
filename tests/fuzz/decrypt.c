/* The first line of the input is a query with an iv, the rest is a body. Every cipher takes it or refuses it, and what
 * is encrypted with that iv comes back. */
#include "fuzz.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/text.h"
#include "event/decrypt.h"
#include "event/query.h"

#define KEYS 3 /* with the one that is not there */

/* A key that is longer than a cipher wants, and one that is shorter. */
static const char long_key[] = "0123456789abcdef0123456789ABCDEF", keys[] = "0123456789abcdef0123456789ABCDEF\nshort\n";

static struct cipher {
    const char *name;
    struct conf conf;
    struct decrypt *decrypt;
} ciphers[] = {{.name = "aes-256-cbc"}, {.name = "aes-128-cbc"},  {.name = "aes-256-ctr"},  {.name = "aes-256-ecb"},
               {.name = "aes-192-ofb"}, {.name = "aes-256-cfb8"}, {.name = "des-ede3-cbc"}, {.name = "chacha20"}};

#define CIPHERS (sizeof(ciphers) / sizeof(ciphers[0]))

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    for (size_t i = 0; i < CIPHERS; i++) {
        ciphers[i].conf = (struct conf){.token = "",
                                        .token_file = "",
                                        .token_param = "",
                                        .auth = AUTH_NONE,
                                        .cipher = ciphers[i].name,
                                        .cipher_key = keys,
                                        .cipher_key_file = ""};
        ciphers[i].decrypt = decrypt_open(&ciphers[i].conf);
        require(ciphers[i].decrypt);
    }
    return 0;
}

static void check_decrypt(struct decrypt *decrypt, const char *query, const uint8_t *body, size_t length)
{
    for (size_t key = 0; key < KEYS; key++) {
        char *plain = NULL;
        size_t plain_length = 0;
        enum decrypted result = decrypt_bytes(decrypt, key, query, (const char *)body, length, &plain, &plain_length);
        require((result == DECRYPTED) == (plain != NULL));
        require(result != DECRYPT_UNAVAILABLE);
        if (plain) {
            require(key < KEYS - 1);
            require(plain_length <= length);
            require(plain[plain_length] == '\0');
        } else {
            require(result == DECRYPT_BAD_IV || result == (key < KEYS - 1 ? DECRYPT_FAILED : DECRYPT_NO_KEY));
        }
        free(plain);
    }
}

/* Encrypts with the long key, as base64. */
static struct text encrypt(const char *name, const uint8_t iv[EVP_MAX_IV_LENGTH], const uint8_t *bytes, size_t length)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    uint8_t *encrypted = malloc(length + EVP_MAX_BLOCK_LENGTH);
    char *encoded = malloc((length + EVP_MAX_BLOCK_LENGTH) / 3 * 4 + 5);
    struct text body = {0};
    int most, rest;

    require(cipher && context && encrypted && encoded);
    require(EVP_EncryptInit_ex2(context, cipher, (const uint8_t *)long_key, iv, NULL) == 1);
    require(EVP_EncryptUpdate(context, encrypted, &most, bytes, (int)length) == 1);
    require(EVP_EncryptFinal_ex(context, encrypted + most, &rest) == 1);
    EVP_EncodeBlock((uint8_t *)encoded, encrypted, most + rest);
    text_append(&body, encoded);
    free(encoded);
    free(encrypted);
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(cipher);
    return body;
}

/* The iv is what the input begins with. */
static void check_round_trip(const struct cipher *cipher, const uint8_t *bytes, size_t length)
{
    uint8_t iv[EVP_MAX_IV_LENGTH] = {0};
    struct text query = {0};
    char *plain = NULL;
    size_t plain_length = 0;

    memcpy(iv, bytes, length < sizeof(iv) ? length : sizeof(iv));
    text_append(&query, "a=b&iv=");
    for (size_t i = 0; i < sizeof(iv); i++)
        text_append_format(&query, "%02x", iv[i]);
    struct text body = encrypt(cipher->name, iv, bytes, length);
    require(decrypt_bytes(cipher->decrypt, 0, query.bytes, body.length ? body.bytes : "", body.length, &plain,
                          &plain_length) == DECRYPTED);
    require(plain_length == length && memcmp(plain, bytes, length) == 0);
    free(plain);
    text_free(&body);
    text_free(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const uint8_t *newline = length ? memchr(bytes, '\n', length) : NULL;
    size_t query_length = newline ? (size_t)(newline - bytes) : length;
    const uint8_t *body = bytes + query_length + (newline ? 1 : 0);
    char *query = strndup((const char *)bytes, query_length);

    require(query);
    for (size_t i = 0; i < CIPHERS; i++) {
        check_decrypt(ciphers[i].decrypt, query, body, length - (size_t)(body - bytes));
        check_round_trip(&ciphers[i], bytes, length);
    }
    free(query);
    return 0;
}
