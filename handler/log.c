/* Writes log lines; the only state is the level and the format. */
#include "log.h"
#include "clock.h"
#include "text.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static enum log_level log_level = LOG_INFO;
static enum log_format log_format = LOG_LOGFMT;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_setup(enum log_level level, enum log_format format)
{
    log_level = level;
    log_format = format;
}

/* logfmt leaves simple words bare; anything else is written like a JSON string. */
static void append_value(struct text *line, const char *value)
{
    static const char bare[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@+";
    if (log_format == LOG_LOGFMT && *value && value[strspn(value, bare)] == '\0')
        text_append(line, value);
    else
        text_append_json(line, value);
}

static void append_pair(struct text *line, const char *key, const char *value)
{
    const char *before = line->length ? (log_format == LOG_JSON ? "," : " ") : (log_format == LOG_JSON ? "{" : "");
    text_append(line, before);
    if (log_format == LOG_JSON) {
        text_append_json(line, key);
        text_append(line, ":");
    } else {
        text_append_format(line, "%s=", key);
    }
    if (value)
        append_value(line, value);
}

void log_pairs(enum log_level level, const struct log_pair *pairs)
{
    if (level > log_level)
        return;

    int saved_errno = errno;
    struct text line = {0};
    char now[CLOCK_TEXT];

    clock_text(clock_realtime_us(), now);
    append_pair(&line, "time", now);
    append_pair(&line, "level", level_names[level]);
    for (; pairs->key; pairs++) {
        append_pair(&line, pairs->key, pairs->text);
        if (!pairs->text)
            text_append_format(&line, "%lld", (long long)pairs->number);
    }
    text_append(&line, log_format == LOG_JSON ? "}\n" : "\n");
    if (!line.failed && write(STDERR_FILENO, line.bytes, line.length) < 0) {
        /* There is nowhere left to complain to. */
    }
    text_free(&line);
    errno = saved_errno;
}
