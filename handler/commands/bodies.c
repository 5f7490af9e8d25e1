/* Beside the path: what `ticketd import` reads, cut into bodies. Whether each is JSON is seen when it is decoded. */
#include "commands/bodies.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const char bom[] = "\ufeff";

/* Where in a JSON value the reading is, as far as its brackets and strings tell. Begins as {0}. */
struct nesting {
    size_t depth;
    bool begun, in_string, escaped;
    char last; /* the byte before, white space apart */
};

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c);
}

/* False: nothing more to read, or an error. */
static bool refill(struct bodies *bodies)
{
    size_t room = bodies->left < sizeof(bodies->buffer) ? (size_t)bodies->left : sizeof(bodies->buffer);
    ssize_t got;

    do
        got = read(bodies->fd, bodies->buffer, room);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        bodies->error = errno;
    if (got <= 0)
        return false;
    bodies->left -= (uint64_t)got;
    bodies->at = 0;
    bodies->filled = (size_t)got;
    return true;
}

/* Whether the value has ended before `c`. No string holds a newline, and no bracket opens behind a whole value: what
 * has them was broken off. */
static bool has_ended(const struct nesting *value, char c)
{
    if (value->in_string)
        return c == '\n';
    if (value->depth > 0)
        return is_one_of(c, "{[") && !is_one_of(value->last, ":,[");
    return value->begun && (is_one_of(value->last, "}]") || is_one_of(c, ",]\n"));
}

static void pass_byte(struct nesting *value, char c)
{
    if (value->in_string) {
        value->in_string = value->escaped || c != '"';
        value->escaped = !value->escaped && c == '\\';
    } else {
        value->in_string = c == '"';
        value->depth += is_one_of(c, "{[");
        value->depth -= value->depth > 0 && is_one_of(c, "}]");
    }
    if (is_one_of(c, " \t\r\n"))
        return;
    value->begun = true;
    value->last = c;
}

/* Adds a part of the body to what there is of it, unless that is too long already. */
static void add_part(struct text *text, const char *bytes, size_t length, size_t most, struct body *body)
{
    body->size += length;
    body->too_long |= text->length + length > most;
    if (body->too_long)
        text_free(text);
    else
        text_append_bytes(text, bytes, length);
}

/* Takes what the buffer has of a line. Returns whether that is its end. */
static bool read_line(struct bodies *bodies, struct text *text, struct body *body)
{
    const char *from = bodies->buffer + bodies->at;
    size_t have = bodies->filled - bodies->at;
    const char *end = memchr(from, '\n', have);
    size_t length = end ? (size_t)(end - from) : have;

    add_part(text, from, length, bodies->most + 1, body); /* + 1: a CR may be its last */
    body->size += end != NULL;
    bodies->at += length + (end != NULL);
    return end;
}

/* The same of a value. */
static bool read_value_part(struct bodies *bodies, struct nesting *value, struct text *text, struct body *body)
{
    const char *bytes = bodies->buffer;
    size_t at = bodies->at;
    bool ended = false;

    for (; !value->begun && at < bodies->filled; at++) {
        bool bracket = bytes[at] == (bodies->in_array ? ']' : '[');
        if (!bracket && !is_one_of(bytes[at], " \t\r\n,"))
            break;
        bodies->in_array ^= bracket;
    }
    size_t start = at;
    while (at < bodies->filled && !(ended = has_ended(value, bytes[at])))
        pass_byte(value, bytes[at++]);
    add_part(text, bytes + start, at - start, bodies->most, body);
    bodies->at = at;
    return ended;
}

bool bodies_next(struct bodies *bodies, struct body *body)
{
    struct text text = {0};
    struct nesting value = {0};
    bool whole = false;

    *body = (struct body){0};
    while (!whole && (bodies->at < bodies->filled || refill(bodies)))
        whole = bodies->values ? read_value_part(bodies, &value, &text, body) : read_line(bodies, &text, body);
    if (text.length > 0 && text.bytes[text.length - 1] == '\r')
        text.bytes[--text.length] = '\0';
    body->too_long |= text.length > bodies->most;
    if (text.failed)
        bodies->error = ENOMEM;
    bool good = body->size > 0 && !bodies->error && (whole || bodies->left == 0);
    if (!good || body->too_long)
        text_free(&text);
    body->bytes = text.bytes;
    body->length = text.length;
    bodies->number += good;
    body->number = bodies->number;
    return good;
}

/* Looks at the first line that is not blank. */
static bool begins_with_value(struct bodies *bodies)
{
    struct nesting value = {0};

    while (bodies->at < bodies->filled || refill(bodies)) {
        char c = bodies->buffer[bodies->at++];
        if (!value.begun && c != '{' && !is_one_of(c, " \t\r\n"))
            return c == '[';
        if (has_ended(&value, c))
            return false;
        pass_byte(&value, c);
        if (value.begun && c == '\n')
            return true;
    }
    return false;
}

/* UTF-16 and UTF-32 have a byte order mark, or a NUL in the first character, which is of ASCII in JSON. */
static bool is_wide(const struct bodies *bodies)
{
    const char *b = bodies->buffer;

    return bodies->filled > 1 && (memcmp(b, "\xff\xfe", 2) == 0 || memcmp(b, "\xfe\xff", 2) == 0 || !b[0] != !b[1]);
}

const char *bodies_begin(struct bodies *bodies)
{
    off_t start = lseek(bodies->fd, 0, SEEK_CUR);
    uint64_t size = bodies->left;

    bool any = refill(bodies);
    if (any && is_wide(bodies))
        return "it is UTF-16 or UTF-32: make UTF-8 of it, for example with iconv -f UTF-16 -t UTF-8";
    if (any && bodies->filled >= strlen(bom) && memcmp(bodies->buffer, bom, strlen(bom)) == 0)
        bodies->at = strlen(bom);
    off_t skipped = (off_t)bodies->at;
    bodies->values = begins_with_value(bodies);
    bodies->at = bodies->filled = 0;
    bodies->left = size - (uint64_t)skipped;
    if (!bodies->error && lseek(bodies->fd, start + skipped, SEEK_SET) < 0)
        bodies->error = errno;
    return bodies->error ? strerror(bodies->error) : NULL;
}
