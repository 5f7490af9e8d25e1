/* SHA-256 (FIPS 180-4): what a token, a body and a file are recognised by. */
#ifndef TICKETD_DIGEST_H
#define TICKETD_DIGEST_H

#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32

struct digest;

/* A digest of nothing yet. NULL: no memory. */
struct digest *digest_new(void) MUST_USE;
void digest_free(struct digest *digest);

void digest_add(struct digest *digest, const void *bytes, size_t length);

/* Writes the digest of these bytes. False: OpenSSL failed. */
bool digest_of(const void *bytes, size_t length, uint8_t value[DIGEST_SIZE]) MUST_USE;

/* Writes the digest of all that was added and begins anew. False: OpenSSL failed somewhere on the way. */
bool digest_end(struct digest *digest, uint8_t value[DIGEST_SIZE]) MUST_USE;

#endif
