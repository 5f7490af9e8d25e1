/* A received body → event: decompressed first where it is compressed, and decrypted where bodies are encrypted
 * (TICKETD_CIPHER).
 *
 * Any thread may call, decrypt_reload in the meantime too. */
#ifndef TICKETD_DECRYPT_H
#define TICKETD_DECRYPT_H

#include "base/conf.h"
#include "base/text.h"
#include "event/event.h"

#include <stdbool.h>
#include <stddef.h>

struct decrypt;

/* Finds the cipher and reads the keys that the configuration names. NULL: something is missing or wrong; it is logged
 * with what to do. */
struct decrypt *decrypt_open(const struct conf *conf) MUST_USE;
void decrypt_close(struct decrypt *decrypt);

/* Reads the keys again. False: that failed (logged), and the old ones stay in force. */
bool decrypt_reload(struct decrypt *decrypt) MUST_USE;

/* How many keys there are; none where bodies are not encrypted. */
size_t decrypt_key_count(const struct decrypt *decrypt);

/* Keeps with the event what its body was sent with, whether bodies are encrypted or not: the iv in `query`
 * (QUERY_STRING), where it is given once, and the content coding. False: out of memory. */
bool decrypt_keep(struct event *event, const char *query, const char *coding) MUST_USE;

/* Decompresses event->body where event->coding says that it is compressed; one that is not, or holds more than
 * TICKETD_MAX_BODY_KB, is refused. False: out of memory. */
bool decrypt_unpack(const struct decrypt *decrypt, struct event *event) MUST_USE;

/* Decodes event->body as event_decode does, unless it is refused already. Where bodies are encrypted, with the first
 * key that makes JSON of it, and the iv in `query`; the event then has the plain text in place of the body. A body that
 * no key opens stays as it came. False: out of memory. */
bool decrypt_decode(struct decrypt *decrypt, const char *query, struct event *event) MUST_USE;

/* For a body that was refused with `reason`, whose iv event->iv is: where it is compressed, or bodies are encrypted and
 * a key makes an event of it now, the plain text takes its place, to be decoded; all other bodies stay as they are, and
 * are refused where it is known by now that they are no event.
 * Where event->iv is empty it is set from the reason, where ticketd 0.1.0 put it. False: out of memory. */
bool decrypt_again(struct decrypt *decrypt, const char *reason, struct event *event) MUST_USE;

enum decrypted {
    DECRYPTED,
    DECRYPT_FAILED,     /* that key does not fit; another may */
    DECRYPT_BAD_IV,     /* the parameter iv is not hexadecimal, odd or repeated */
    DECRYPT_NO_KEY,     /* there is no key of that number */
    DECRYPT_UNAVAILABLE /* out of memory */
};

/* Decrypts with key number `key`, from 0, as PHP's openssl_decrypt($body, $cipher, $key, 0, hex2bin($_GET['iv'])) does.
 * *plain gets the text with a NUL behind it, from malloc, the caller's; *plain_length is its length. */
enum decrypted decrypt_bytes(struct decrypt *decrypt, size_t key, const char *query, const char *body, size_t length,
                             char **plain, size_t *plain_length) MUST_USE;

/* Encrypts as the sender does, with the first key and an iv of its own, appended to `iv_hex` for the URL. Only where
 * decrypt_key_count is not 0. False: no memory. */
bool decrypt_seal(struct decrypt *decrypt, const struct text *plain, struct text *body, struct text *iv_hex) MUST_USE;

#endif
