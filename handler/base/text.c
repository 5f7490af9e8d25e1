/* Strings for answers, log lines and terminals. */
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool text_reserve(struct text *text, size_t more)
{
    if (text->failed)
        return false;
    size_t needed = text->length + more + 1;
    if (needed <= text->capacity)
        return true;
    size_t capacity = text->capacity ? text->capacity : 256;
    while (capacity < needed)
        capacity *= 2;
    char *bytes = realloc(text->bytes, capacity);
    if (!bytes) {
        text->failed = true;
        return false;
    }
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

void text_append_bytes(struct text *text, const char *bytes, size_t length)
{
    if (!text_reserve(text, length))
        return;
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

void text_append(struct text *text, const char *string)
{
    text_append_bytes(text, string, strlen(string));
}

void text_append_format(struct text *text, const char *format, ...)
{
    char buffer[512];
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(buffer, sizeof(buffer), format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof(buffer))
        text->failed = true;
    else
        text_append_bytes(text, buffer, (size_t)length);
}

static unsigned code_point(const unsigned char *c, size_t length)
{
    unsigned code = length == 1 ? c[0] : c[0] & (0x7fU >> length);

    for (size_t i = 1; i < length; i++)
        code = code << 6 | (c[i] & 0x3f);
    return code;
}

/* Whether a character of UTF-8 does something to a terminal, or to the order of the others, instead of being seen. */
static bool is_hidden(const unsigned char *c, size_t length)
{
    static const struct {
        unsigned from, to;
    } hidden[] = {{0, 0x1f},        {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},   {0x200b, 0x200f},
                  {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe0fff}};
    unsigned code = code_point(c, length);

    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
        if (code >= hidden[i].from && code <= hidden[i].to)
            return true;
    return false;
}

static void append_escape(struct text *text, unsigned code)
{
    if (code == '"' || code == '\\')
        text_append_format(text, "\\%c", code);
    else if (code > 0xffff)
        text_append_format(text, "\\u%04x\\u%04x", 0xd7c0 + (code >> 10), 0xdc00 + (code & 0x3ff));
    else
        text_append_format(text, "\\u%04x", code);
}

size_t text_cut(const char *text, size_t most)
{
    size_t length = strnlen(text, most + 1);

    if (length > most)
        for (length = most; length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80; length--)
            ;
    return length;
}

void text_append_json(struct text *text, const char *string)
{
    size_t left = strlen(string), size;
    const char *plain = string; /* what is not appended yet */

    text_append_bytes(text, "\"", 1);
    for (; left > 0; string += size, left -= size) {
        const unsigned char *c = (const unsigned char *)string;
        size = text_utf8(c, left);
        if (size > 0 && !is_hidden(c, size) && *c != '"' && *c != '\\')
            continue;
        text_append_bytes(text, plain, (size_t)(string - plain));
        append_escape(text, size > 0 ? code_point(c, size) : 0xfffd);
        size = size > 0 ? size : 1;
        plain = string + size;
    }
    text_append_bytes(text, plain, (size_t)(string - plain));
    text_append_bytes(text, "\"", 1);
}

void text_append_visible(struct text *text, const char *bytes, size_t length)
{
    static const char named[] = "\n\t\r", names[] = "ntr";
    const char *end = bytes + length;

    while (bytes < end) {
        const unsigned char *c = (const unsigned char *)bytes;
        size_t size = text_utf8(c, (size_t)(end - bytes));
        const char *name = *c ? strchr(named, *c) : NULL;
        if (name) {
            text_append_format(text, "\\%c", names[name - named]);
        } else if (size > 0 && !is_hidden(c, size)) {
            text_append_bytes(text, bytes, size);
        } else {
            size = 1;
            text_append_format(text, "\\x%02x", *c);
        }
        bytes += size;
    }
}

int text_choice(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (int index = 0;; index++) {
        size_t size = strcspn(choices, "|");
        if (size == length && memcmp(word, choices, size) == 0)
            return index;
        choices += size;
        if (*choices++ == '\0')
            return -1;
    }
}

bool text_integer(const char *word, int64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoll(word, &end, 10);
    return !errno && end != word && !*end;
}

bool text_write(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t count = write(fd, bytes, length);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        bytes += count;
        length -= (size_t)count;
    }
    return true;
}

void text_free(struct text *text)
{
    free(text->bytes);
    *text = (struct text){0};
}
