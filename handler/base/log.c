/* Writes log lines; the only state is the level, the format, and what was said of late. */
#include "base/log.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VALUE_MOST  1000 /* bytes of a value */
#define WINDOW_MS   10000
#define WINDOW_MOST 10    /* lines of one message in a window */
#define SELDOM_MS   60000 /* the window of one that may be said once */
#define MESSAGES    64    /* at a time: there are fewer that can come often, and what finds no room is said */

static _Atomic int log_level = LOG_INFO;
static enum log_format log_format = LOG_LOGFMT;
static bool log_priorities; /* as the journal wants them */
static struct text *redirected;

static const struct {
    const char *name;
    const char *priority; /* syslog(3) */
} levels[] = {
    [LOG_ERROR] = {"error", "<3>"},
    [LOG_WARNING] = {"warning", "<4>"},
    [LOG_INFO] = {"info", "<6>"},
    [LOG_DEBUG] = {"debug", "<7>"},
};

/* How often a message came. Messages are literals: their address tells them apart. */
struct window {
    const char *message; /* NULL: none */
    enum log_level level;
    bool seldom;
    int64_t began; /* monotonic milliseconds */
    int64_t lines, dropped;
};

static bool limited;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t windows_lock = PTHREAD_MUTEX_INITIALIZER;
static struct window windows[MESSAGES];

static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 &&
           status.st_dev == device && status.st_ino == inode;
}

void log_setup(enum log_level level, enum log_format format)
{
    log_level = level;
    log_format = format;
    log_priorities = is_journal();
}

void log_change_level(int by)
{
    int level = log_level + by;
    if (level >= LOG_ERROR && level <= LOG_DEBUG)
        log_level = level;
}

bool log_shows(enum log_level level)
{
    return (int)level <= log_level;
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

/* A value that is too long is cut. */
static void append_short_value(struct text *line, const char *value)
{
    char cut[VALUE_MOST + sizeof("…")];
    size_t length = text_cut(value, VALUE_MOST);

    snprintf(cut, sizeof(cut), "%.*s%s", (int)length, value, value[length] ? "…" : "");
    append_value(line, cut);
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
        append_short_value(line, value);
}

void log_redirect(struct text *text)
{
    redirected = text;
}

/* For people: "cannot listen: why=…". */
static void redirect_line(const struct log_pair *pairs)
{
    text_append(redirected, redirected->length ? "\n" : "");
    text_append(redirected, pairs->text);
    for (const char *before = ": "; (++pairs)->key; before = ", ") {
        text_append_format(redirected, "%s%s=", before, pairs->key);
        if (pairs->text)
            text_append(redirected, pairs->text);
        else
            text_append_format(redirected, "%lld", (long long)pairs->number);
    }
}

/* Not of a service: one that waits for the reader of its log, for a pipe that is full, answers nobody. A pipe that has
 * room takes PIPE_BUF bytes at once (pipe(7)). */
static void write_bytes(const char *bytes, size_t length)
{
    struct pollfd error = {.fd = STDERR_FILENO, .events = POLLOUT};

    pthread_mutex_lock(&writing);
    if (limited && (length > PIPE_BUF || poll(&error, 1, 0) == 0))
        metrics_add(METRIC_LOG_DROPPED, 1);
    else if (write(STDERR_FILENO, bytes, length) < 0) {
        /* There is nowhere left to complain to. */
    }
    pthread_mutex_unlock(&writing);
}

static void write_line(enum log_level level, const struct log_pair *pairs)
{
    int saved_errno = errno;
    struct text line = {0}, whole = {0};
    char now[CLOCK_TEXT];

    clock_text(clock_realtime_us(), now);
    append_pair(&line, "time", now);
    append_pair(&line, "level", levels[level].name);
    for (; pairs->key; pairs++) {
        if (pairs->text && !*pairs->text)
            continue;
        append_pair(&line, pairs->key, pairs->text);
        if (!pairs->text)
            text_append_format(&line, "%lld", (long long)pairs->number);
    }
    text_append(&line, log_format == LOG_JSON ? "}\n" : "\n");
    text_append(&whole, log_priorities ? levels[level].priority : "");
    text_append_bytes(&whole, line.bytes, line.length);
    if (!line.failed && !whole.failed)
        write_bytes(whole.bytes, whole.length);
    text_free(&line);
    text_free(&whole);
    errno = saved_errno;
}

/* Says what a closed window has left out. */
static void say_dropped(const struct window *window)
{
    if (window->dropped > 0)
        write_line(window->level,
                   (const struct log_pair[]){LOG_TEXT("msg", window->message),
                                             LOG_NUMBER("more_times", window->dropped),
                                             LOG_NUMBER("seconds", (clock_monotonic_ms() - window->began) / 1000),
                                             {0, 0, 0}});
}

/* The window of a message, new where there is none. NULL: no room. Under the lock. */
static struct window *find_window(enum log_level level, const char *message)
{
    struct window *free_one = NULL;

    for (size_t i = 0; i < MESSAGES; i++) {
        if (windows[i].message == message)
            return &windows[i];
        if (!windows[i].message)
            free_one = &windows[i];
    }
    if (free_one)
        *free_one = (struct window){.message = message, .level = level, .began = clock_monotonic_ms()};
    return free_one;
}

/* Whether the message may be said now. */
static bool admit(enum log_level level, const char *message, bool seldom)
{
    pthread_mutex_lock(&windows_lock);
    struct window *window = find_window(level, message);
    bool admitted = !window || window->lines++ < (seldom ? 1 : WINDOW_MOST);
    if (window)
        window->seldom = seldom;
    if (!admitted)
        window->dropped++;
    pthread_mutex_unlock(&windows_lock);
    if (!admitted)
        metrics_add(METRIC_LOG_DROPPED, 1);
    return admitted;
}

void log_limit(void)
{
    limited = true;
}

void log_tick(bool last)
{
    int64_t now = clock_monotonic_ms();

    for (size_t i = 0; i < MESSAGES; i++) {
        struct window closed = {0};
        pthread_mutex_lock(&windows_lock);
        if (windows[i].message && (last || now - windows[i].began >= (windows[i].seldom ? SELDOM_MS : WINDOW_MS))) {
            closed = windows[i];
            windows[i] = (struct window){0};
        }
        pthread_mutex_unlock(&windows_lock);
        say_dropped(&closed);
    }
}

static void log_at_most(enum log_level level, const struct log_pair *pairs, bool seldom)
{
    if (redirected)
        redirect_line(pairs);
    else if (log_shows(level) && (!limited || level == LOG_DEBUG || admit(level, pairs->text, seldom)))
        write_line(level, pairs);
}

void log_pairs(enum log_level level, const struct log_pair *pairs)
{
    log_at_most(level, pairs, false);
}

void log_pairs_seldom(enum log_level level, const struct log_pair *pairs)
{
    log_at_most(level, pairs, true);
}
