/* The input is a file, and its last bytes choose the longest line, how much of the file is to be read and where a read
 * ends. The lines are those that splitting it at once gives; values are pieces of it in their order, wrapped or not. */
#include "fuzz.h"

#include <string.h>

#include "base/text.h"
#include "commands/bodies.h"
#include "event/wrapped.h"

#define READ_SIZE sizeof(((struct bodies *)0)->buffer)

/* What stands before the next end of line, and that. */
static struct body next_by_splitting(const char *bytes, size_t length, size_t most)
{
    const char *newline = memchr(bytes, '\n', length);
    size_t content = newline ? (size_t)(newline - bytes) : length;
    struct body line = {.size = content + (newline ? 1 : 0)};

    if (content > 0 && bytes[content - 1] == '\r')
        content--;
    line.too_long = content > most;
    line.length = line.too_long ? 0 : content;
    return line;
}

static void check(const char *bytes, size_t length, size_t most, uint64_t left)
{
    struct bodies *lines = calloc(1, sizeof(*lines)); /* 64 KiB: rather not on the stack of a sanitizer */
    struct body line;
    size_t at = 0, readable = left < length ? (size_t)left : length;
    uint64_t number = 0;

    require(lines);
    lines->fd = file_of(bytes, length);
    lines->left = left;
    lines->most = most;
    while (bodies_next(lines, &line)) {
        require(at < readable);
        struct body expected = next_by_splitting(bytes + at, readable - at, most);
        require(line.number == ++number);
        require(line.size == expected.size);
        require(line.too_long == expected.too_long && line.length == expected.length);
        if (line.bytes) {
            require(memcmp(line.bytes, bytes + at, line.length) == 0);
            require(line.bytes[line.length] == '\0');
        } else {
            require(line.length == 0);
        }
        free(line.bytes);
        at += (size_t)line.size;
    }
    require(lines->error == 0);
    /* Of a file that has become shorter an unfinished line is not given out. */
    require(at == readable || (left > length && !memchr(bytes + at, '\n', readable - at)));
    close(lines->fd);
    free(lines);
}

static void check_values(const char *bytes, size_t length, size_t most)
{
    struct bodies *values = calloc(1, sizeof(*values));
    struct body value;
    size_t at = 0;

    require(values);
    *values = (struct bodies){.fd = file_of(bytes, length), .left = length, .most = most, .values = true};
    while (bodies_next(values, &value)) {
        const char *found = value.bytes ? memmem(bytes + at, length - at, value.bytes, value.length) : NULL;
        struct event event;
        int64_t time = -1;

        require(value.size > 0 && value.size <= length - at);
        require(value.too_long ? value.size > most && !value.bytes : found != NULL);
        at = found ? (size_t)(found - bytes) + value.length : at;
        event_init(&event, value.bytes, value.length);
        if (value.bytes)
            require(wrapped_open(&event, INT64_MAX, &time));
        require(event.length <= value.length && (event.length == value.length || time >= 0));
        event_free(&event);
    }
    require(values->error == 0 && values->at == values->filled && values->left == 0);
    close(values->fd);
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static char filler[READ_SIZE];
    uint8_t most = take_last(bytes, &length), less = take_last(bytes, &length), before = take_last(bytes, &length);
    struct text file = {0};

    /* A line before the input, so long that the first read ends somewhere in the input. */
    if (before > 0) {
        memset(filler, 'x', sizeof(filler));
        text_append_bytes(&file, filler, sizeof(filler) - before);
        text_append(&file, "\n");
    }
    text_append_bytes(&file, (const char *)bytes, length);
    text_append(&file, "");
    require(!file.failed);
    uint64_t left = less < 128 ? file.length : less < 192 ? file.length + 1 : file.length * (255 - less) / 64;
    check(file.bytes, file.length, most, left);
    check_values(file.bytes, file.length, most);
    text_free(&file);
    return 0;
}
