/* Beside the path: the lines of a file that `ticketd import` reads. */
#include "commands/lines.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* False: nothing more to read, or an error. */
static bool refill(struct lines *lines)
{
    size_t room = lines->left < sizeof(lines->buffer) ? (size_t)lines->left : sizeof(lines->buffer);
    ssize_t got;

    do
        got = read(lines->fd, lines->buffer, room);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        lines->error = errno;
    if (got <= 0)
        return false;
    lines->left -= (uint64_t)got;
    lines->at = 0;
    lines->filled = (size_t)got;
    return true;
}

/* Adds a part of the line to what there is of it, unless that is too long already. */
static void add(struct text *text, const char *bytes, size_t length, size_t most, struct line *line)
{
    line->too_long |= text->length + length > most;
    if (line->too_long)
        text_free(text);
    else
        text_append_bytes(text, bytes, length);
}

bool lines_next(struct lines *lines, struct line *line)
{
    struct text text = {0};
    bool whole = false;

    *line = (struct line){0};
    while (!whole && (lines->at < lines->filled || refill(lines))) {
        const char *from = lines->buffer + lines->at;
        size_t have = lines->filled - lines->at;
        const char *end = memchr(from, '\n', have);
        size_t length = end ? (size_t)(end - from) : have;

        whole = end;
        add(&text, from, length, lines->most + 1, line); /* + 1: a CR may be its last */
        lines->at += length + whole;
        line->size += length + whole;
    }
    if (text.length > 0 && text.bytes[text.length - 1] == '\r')
        text.bytes[--text.length] = '\0';
    line->too_long |= text.length > lines->most;
    if (text.failed)
        lines->error = ENOMEM;
    bool good = line->size > 0 && !lines->error && (whole || lines->left == 0);
    if (!good || line->too_long)
        text_free(&text);
    line->bytes = text.bytes;
    line->length = text.length;
    lines->number += good;
    line->number = lines->number;
    return good;
}
