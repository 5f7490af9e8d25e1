/* Files and variables → secrets, for auth.c and decrypt.c. Every copy is overwritten before it is freed. */
#include "event/secrets.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX 65536

static bool add_secret(struct secrets *secrets, const char *bytes, size_t length)
{
    struct secret *all = reallocarray(secrets->all, secrets->count + 1, sizeof(*all));
    if (!all)
        return false;
    secrets->all = all;
    struct secret *last = &all[secrets->count];
    last->length = length;
    last->bytes = malloc(length + 1);
    if (!last->bytes)
        return false;
    memcpy(last->bytes, bytes, length);
    last->bytes[length] = '\0';
    secrets->count++;
    return true;
}

static bool add_lines(struct secrets *secrets, const char *text, size_t length)
{
    bool good = true;
    for (const char *at = text, *end = text + length; good && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t line = (size_t)((newline ? newline : end) - at), whole = line + 1;
        if (line > 0 && at[line - 1] == '\r')
            line--;
        good = line == 0 || add_secret(secrets, at, line);
        at += whole;
    }
    return good;
}

/* NULL, or what is wrong. */
static const char *read_file(struct secrets *secrets, const char *path, const char *name)
{
    static const char exhausted[] = "out of memory";
    const char *wrong = NULL;
    size_t length = 0;
    ssize_t count = -1;
    char *bytes = malloc(FILE_MAX);
    /* Not to wait for the other end of a FIFO, which would keep SIGTERM waiting too. */
    int fd = bytes ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    struct stat status = {0};
    bool regular = fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);

    while (regular && length < FILE_MAX && (count = read(fd, bytes + length, FILE_MAX - length)) > 0)
        length += (size_t)count;
    if (!bytes)
        wrong = exhausted;
    else if (fd >= 0 && !regular)
        wrong = "is no regular file";
    else if (fd < 0 || count < 0)
        wrong = strerror(errno);
    else if (length == FILE_MAX)
        wrong = "is longer than 64 KiB";
    else if (!add_lines(secrets, bytes, length))
        wrong = exhausted;
    else if (status.st_mode & S_IRWXO)
        log_line(LOG_WARNING, "a file with secrets is open to every user: chmod o= it", LOG_TEXT("name", name),
                 LOG_TEXT("file", path));
    if (bytes)
        explicit_bzero(bytes, FILE_MAX);
    free(bytes);
    if (fd >= 0)
        close(fd);
    return wrong;
}

bool secrets_read(struct secrets *secrets, const char *text, const char *path, const char *name)
{
    const char *wrong = NULL;

    *secrets = (struct secrets){0};
    if (!add_lines(secrets, text, strlen(text)))
        wrong = "out of memory";
    if (!wrong && *path)
        wrong = read_file(secrets, path, name);
    if (wrong) {
        const struct passwd *user = strcmp(wrong, strerror(EACCES)) == 0 ? getpwuid(geteuid()) : NULL;
        log_line(
            LOG_ERROR, "secrets cannot be read", LOG_TEXT("name", name), LOG_TEXT("file", path), LOG_TEXT("why", wrong),
            LOG_TEXT("user", user ? user->pw_name : ""),
            LOG_TEXT("expected", user ? "a file that this user may read: chgrp it to his group, and chmod 640" : ""));
        secrets_free(secrets);
    }
    return !wrong;
}

void secrets_trim(struct secrets *secrets)
{
    static const char mark[] = "\xef\xbb\xbf", white[] = " \t\v\f\r";
    size_t kept = 0;

    for (size_t i = 0; i < secrets->count; i++) {
        struct secret *secret = &secrets->all[i];
        size_t from = strncmp(secret->bytes, mark, strlen(mark)) == 0 ? strlen(mark) : 0;
        from += strspn(secret->bytes + from, white);
        while (secret->length > from && strchr(white, secret->bytes[secret->length - 1]))
            secret->length--;
        if (secret->length <= from || secret->bytes[from] == '#') {
            free(secret->bytes);
            continue;
        }
        secret->length -= from;
        memmove(secret->bytes, secret->bytes + from, secret->length);
        secret->bytes[secret->length] = '\0';
        secrets->all[kept++] = *secret;
    }
    secrets->count = kept;
}

bool secrets_fit(const struct secrets *secrets, bool wanted, const char *name, const char *why_missing,
                 const char *why_unwanted)
{
    bool fit = wanted == (secrets->count > 0);

    if (!fit)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", name),
                 LOG_TEXT("expected", wanted ? why_missing : why_unwanted));
    return fit;
}

void secrets_free(struct secrets *secrets)
{
    for (size_t i = 0; i < secrets->count; i++) {
        explicit_bzero(secrets->all[i].bytes, secrets->all[i].length);
        free(secrets->all[i].bytes);
    }
    free(secrets->all);
    *secrets = (struct secrets){0};
}
