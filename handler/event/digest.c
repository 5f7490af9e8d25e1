/* Beside the path: tokens are compared, bodies and files recognised by their digests. */
#include "event/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

struct digest {
    EVP_MD_CTX *context;
    bool failed; /* until digest_end tells it */
};

struct digest *digest_new(void)
{
    struct digest *digest = calloc(1, sizeof(*digest));

    if (!digest)
        return NULL;
    digest->context = EVP_MD_CTX_new();
    digest->failed = !digest->context || !EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL);
    return digest;
}

void digest_free(struct digest *digest)
{
    if (digest)
        EVP_MD_CTX_free(digest->context);
    free(digest);
}

void digest_add(struct digest *digest, const void *bytes, size_t length)
{
    digest->failed = digest->failed || !EVP_DigestUpdate(digest->context, bytes, length);
}

bool digest_of(const void *bytes, size_t length, uint8_t value[DIGEST_SIZE])
{
    return EVP_Q_digest(NULL, "SHA256", NULL, bytes, length, value, NULL) == 1;
}

bool digest_end(struct digest *digest, uint8_t value[DIGEST_SIZE])
{
    bool good = !digest->failed && EVP_DigestFinal_ex(digest->context, value, NULL);
    digest->failed = !digest->context || !EVP_DigestInit_ex(digest->context, NULL, NULL);
    return good;
}
