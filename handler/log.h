/* Log lines on standard error: logfmt or JSON, one write(2) a line, everything escaped. Any thread may call. */
#ifndef TICKETD_LOG_H
#define TICKETD_LOG_H

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

/* A key with a text that is not NULL, or with a number where text is NULL. The end of a list has no key. */
struct log_pair {
    const char *key;
    const char *text;
    int64_t number;
};

#define LOG_TEXT(key, text)     ((struct log_pair){key, text, 0})
#define LOG_NUMBER(key, number) ((struct log_pair){key, 0, number})

/* Sets what is logged and how. Call before threads start. */
void log_setup(enum log_level level, enum log_format format);

/* log_line(LOG_INFO, "database connected", LOG_TEXT("host", host), LOG_NUMBER("version", version)).
 * Never put a secret, a key or a body into one. errno is kept. */
#define log_line(level, message, ...)                                                                                  \
    log_pairs(level, (const struct log_pair[]){LOG_TEXT("msg", message), ##__VA_ARGS__, {0, 0, 0}})

void log_pairs(enum log_level level, const struct log_pair *pairs);

#endif
