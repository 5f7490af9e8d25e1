/* Base64 as PHP's base64_decode reads it where it is not strict (ext/standard/base64.c): the sender's counterpart. */
#ifndef TICKETD_BASE64_H
#define TICKETD_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Decodes `length` bytes of text to `bytes`, which has room for as many; they may be the same memory. Characters that
 * are not of the alphabet (RFC 4648 section 4), = among them, are skipped, wherever they are; bits that make no whole
 * byte at the end are dropped. Returns how many bytes there are. */
size_t base64_decode(const char *text, size_t length, uint8_t *bytes);

#endif
