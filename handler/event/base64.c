/* The outer wrapping of an encrypted body. */
#include "event/base64.h"

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t base64_decode(const char *text, size_t length, uint8_t *bytes)
{
    uint32_t bits = 0; /* the last digits, six bits each */
    size_t count = 0;
    int waiting = 0; /* bits that are not written yet */

    for (size_t i = 0; i < length; i++) {
        int value = digit(text[i]);
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
