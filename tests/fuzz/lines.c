/* The input is a file, and its last bytes choose the longest line, how much of the file is to be read and where a read
 * ends. The lines are those that splitting it at once gives. */
#include "fuzz.h"

#include <string.h>

#include "base/text.h"

#define command_import command_import_of_the_fuzzer
#include "commands/import.c"

#define READ_SIZE sizeof(((struct lines *)0)->buffer)

/* What stands before the next end of line, and that. */
static struct line next_by_splitting(const char *bytes, size_t length, size_t most)
{
    const char *newline = memchr(bytes, '\n', length);
    size_t content = newline ? (size_t)(newline - bytes) : length;
    struct line line = {.size = content + (newline ? 1 : 0)};

    if (content > 0 && bytes[content - 1] == '\r')
        content--;
    line.too_long = content > most;
    line.length = line.too_long ? 0 : content;
    return line;
}

static void check(const char *bytes, size_t length, size_t most, uint64_t left)
{
    struct lines *lines = calloc(1, sizeof(*lines)); /* 64 KiB: rather not on the stack of a sanitizer */
    struct line line;
    size_t at = 0, readable = left < length ? (size_t)left : length;
    uint64_t number = 0;

    require(lines);
    lines->fd = file_of(bytes, length);
    lines->left = left;
    lines->most = most;
    while (lines_next(lines, &line)) {
        require(at < readable);
        struct line expected = next_by_splitting(bytes + at, readable - at, most);
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
    text_free(&file);
    return 0;
}
