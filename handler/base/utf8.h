/* UTF-8, strictly (RFC 3629). */
#ifndef TICKETD_UTF8_H
#define TICKETD_UTF8_H

#include <stddef.h>

/* Bytes of the character at `c`, which has `left` bytes, at least one; 0 if it is none (section 4). */
static inline size_t utf8_length(const unsigned char *c, size_t left)
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
