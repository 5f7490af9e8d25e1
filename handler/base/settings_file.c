/* The settings file → the environment, before conf.c reads that. */
#include "base/settings_file.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef SETTINGS_FILE /* `make install` compiles this file again, with the path */
#define SETTINGS_FILE ""
#endif

#define BLANKS "\t "
#define ENDS   "\r\n"
#define NAME   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789"

const char settings_file[] = SETTINGS_FILE;

/* Appends a value and returns where it ends. Quotes are taken away where the value begins with them; they may hold ends
 * of lines. A backslash takes the meaning of what follows it, and joins two lines. */
static const char *unquote(const char *at, struct text *value)
{
    size_t length = 0; /* without the blanks at its end */
    bool bare = false; /* it has begun without quotes: from here on they are part of it */
    char quote = '\0';

    for (; *at && (quote || !strchr(ENDS, *at)); at++) {
        bool blank = !quote && strchr(BLANKS, *at);
        if (quote ? *at == quote : !bare && strchr("\"'", *at)) {
            quote = quote ? '\0' : *at;
            length = value->length;
            continue;
        }
        if (blank && !bare)
            continue;
        bare = bare || !quote;
        if (*at == '\\' && quote != '\'' && at[1]) {
            at++;
            length = value->length;
            if (*at == '\n')
                continue;
            if (quote && !strchr("\"\\`$", *at))
                text_append(value, "\\");
        }
        text_append_bytes(value, at, 1);
        length = blank ? length : value->length;
    }
    if (value->bytes && !value->failed)
        value->bytes[length] = '\0';
    return at;
}

/* NAME=VALUE. Returns where it ends; NULL: it is none, or there is no memory. */
static const char *read_assignment(const char *at)
{
    size_t length = strspn(at, NAME);
    char *name = strndup(at, length);
    struct text value = {0};

    at += length + strspn(at + length, BLANKS);
    bool good = name && *name && *at == '=';
    if (good) {
        at = unquote(at + 1, &value);
        good = !value.failed && setenv(name, value.bytes ? value.bytes : "", 0) == 0;
    }
    free(name);
    text_free(&value);
    return good ? at : NULL;
}

static bool read_assignments(const char *all)
{
    for (const char *at = all, *next; *(at += strspn(at, BLANKS ENDS)); at = next) {
        next = strchr("#;", *at) ? at + strcspn(at, ENDS) : read_assignment(at);
        if (next)
            continue;
        int64_t line = 1;
        for (const char *c = all; c < at; c++)
            line += *c == '\n';
        log_line(LOG_ERROR, "bad line in the settings file", LOG_TEXT("file", settings_file), LOG_NUMBER("line", line),
                 LOG_TEXT("expected", "NAME=VALUE"));
        return false;
    }
    return true;
}

static bool environment_has_settings(void)
{
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "TICKETD_", 8) == 0 || strncmp(*entry, "PG", 2) == 0)
            return true;
    return false;
}

enum settings_found settings_file_read(void)
{
    FILE *file = *settings_file ? fopen(settings_file, "re") : NULL;
    char *all = NULL;
    size_t size = 0;

    if (!*settings_file || (!file && (errno == ENOENT || errno == ENOTDIR || environment_has_settings())))
        return SETTINGS_NONE;
    errno = file ? 0 : errno;
    bool any = file && getdelim(&all, &size, '\0', file) >= 0, good = any || (file && feof(file));
    if (!good)
        log_line(LOG_ERROR, "the settings file cannot be read", LOG_TEXT("file", settings_file),
                 LOG_TEXT("error", strerror(errno)), LOG_TEXT("expected", "sudo, or settings in the environment"));
    good = good && (!any || read_assignments(all));
    free(all);
    if (file)
        fclose(file);
    return good ? SETTINGS_READ : SETTINGS_BAD;
}
