/* Log lines on standard error: logfmt or JSON, one write(2) a line, everything escaped. Any thread may call.
 *
 * Where that is the journal's socket ($JOURNAL_STREAM, systemd.exec(5)) each line begins with its priority
 * (sd-daemon(3)). */
#ifndef TICKETD_LOG_H
#define TICKETD_LOG_H

#include <stdbool.h>
#include <stdint.h>

struct text;

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* A key with a text that is not NULL, or with a number where text is NULL. One whose text is empty is left out. The end
 * of a list has no key. */
struct log_pair {
    const char *key;
    const char *text;
    int64_t number;
};

#define LOG_TEXT(key, text)     ((struct log_pair){key, text, 0})
#define LOG_NUMBER(key, number) ((struct log_pair){key, 0, number})

/* Sets what is logged and how. Call before threads start. */
void log_setup(enum log_level level, enum log_format format);

/* From now on lines go to `text` instead, without time and level, a line each; NULL: to standard error again. While one
 * thread runs. */
void log_redirect(struct text *text);

/* For a service. From now on the same message is logged at most ten times in ten seconds, but for those at level debug;
 * then it is said how often it came (log_tick). A line for which standard error has no room is left out. */
void log_limit(void);

/* To be called about once a second, and last at the end: says what was left out, where its ten seconds are over, or at
 * once. */
void log_tick(bool last);

/* One level more (1) or less (-1) from now on. */
void log_change_level(int by);

/* Whether a line of this level is logged: for where it takes an effort to make. */
bool log_shows(enum log_level level);

/* log_line(LOG_INFO, "database connected", LOG_TEXT("host", host), LOG_NUMBER("version", version)).
 * Never put a secret, a key or a body into one. errno is kept. */
#define log_line(level, message, ...)                                                                                  \
    log_pairs(level, (const struct log_pair[]){LOG_TEXT("msg", message), ##__VA_ARGS__, {0, 0, 0}})

void log_pairs(enum log_level level, const struct log_pair *pairs);

/* The same at most once in a minute from log_limit on: for what is one piece of news, however often it comes. */
#define log_line_seldom(level, message, ...)                                                                           \
    log_pairs_seldom(level, (const struct log_pair[]){LOG_TEXT("msg", message), ##__VA_ARGS__, {0, 0, 0}})

void log_pairs_seldom(enum log_level level, const struct log_pair *pairs);

#endif
