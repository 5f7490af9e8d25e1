/* A growing string, and the one place where text is escaped, for JSON and for terminals. */
#ifndef TICKETD_TEXT_H
#define TICKETD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Start with {0}. When memory runs out `failed` is set, and later appends do nothing. */
struct text {
    char *bytes; /* NUL-terminated once anything was appended */
    size_t length;
    size_t capacity;
    bool failed;
};

void text_append(struct text *text, const char *string);
void text_append_bytes(struct text *text, const char *bytes, size_t length);
void text_append_format(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends `string` as a JSON string with its quotes (RFC 8259 section 7). Escaped is what is not seen on a terminal, or
 * does something to it; what is no UTF-8 becomes U+FFFD. */
void text_append_json(struct text *text, const char *string);

/* Appends bytes that anybody may have sent so that people can read them on a terminal and nothing happens there: what
 * is not UTF-8, controls and invisible characters become \n, \t, \r or \xNN, a byte each. */
void text_append_visible(struct text *text, const char *bytes, size_t length);

/* Which of `choices`, separated by |, `word` is, from 0; below 0: none. */
int text_choice(const char *choices, const char *word);

/* Reads a whole number of 64 bits, decimal digits with or without a sign. False: `word` is none, or not only one. */
bool text_integer(const char *word, int64_t *number) __attribute__((warn_unused_result));

/* Writes all of the bytes to a descriptor (write(2)). False: errno. */
bool text_write(int fd, const char *bytes, size_t length) __attribute__((warn_unused_result));

/* Frees the bytes and makes the text empty again. */
void text_free(struct text *text);

/* Bytes of `text` without its NUL, at most `most`, and never a part of a UTF-8 character. */
size_t text_cut(const char *text, size_t most);

/* Bytes of the UTF-8 character (RFC 3629 section 4) at `c`, which has `left` bytes, at least one; 0: it is none. */
static inline size_t text_utf8(const unsigned char *c, size_t left)
{
    size_t length = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;

    if (length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    int overlong = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    int surrogate = c[0] == 0xed && c[1] >= 0xa0;
    int beyond = c[0] == 0xf4 && c[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : length;
}

#endif
