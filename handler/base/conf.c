/* Environment variables in, struct conf out. */
#include "base/conf.h"
#include "base/log.h"
#include "base/text.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "TICKETD_"

enum kind { TEXT, NUMBER, CHOICE };

static const struct setting {
    const char *name;
    enum kind kind;
    size_t offset; /* of the field in struct conf */
    const char *standard;
    long minimum, maximum;
    const char *choices;
    const char *meaning;
} settings[] = {
#define SETTING_TEXT(name, field, standard, meaning)                                                                   \
    {PREFIX #name, TEXT, offsetof(struct conf, field), standard, 0, 0, NULL, meaning},
#define SETTING_NUMBER(name, field, standard, minimum, maximum, meaning)                                               \
    {PREFIX #name, NUMBER, offsetof(struct conf, field), #standard, minimum, maximum, NULL, meaning},
#define SETTING_CHOICE(name, field, standard, choices, meaning)                                                        \
    {PREFIX #name, CHOICE, offsetof(struct conf, field), standard, 0, 0, choices, meaning},
#include "base/conf.def"
#undef SETTING_TEXT
#undef SETTING_NUMBER
#undef SETTING_CHOICE
};

#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

static bool parse_number(const struct setting *setting, const char *value, int *field)
{
    int64_t number;

    if (!text_integer(value, &number) || number < setting->minimum || number > setting->maximum) {
        char range[64];
        snprintf(range, sizeof(range), "a whole number from %ld to %ld", setting->minimum, setting->maximum);
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", setting->name), LOG_TEXT("value", value),
                 LOG_TEXT("expected", range));
        return false;
    }
    *field = (int)number;
    return true;
}

static bool parse_choice(const struct setting *setting, const char *value, int *field)
{
    *field = text_choice(setting->choices, value);
    if (*field >= 0)
        return true;
    log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", setting->name), LOG_TEXT("value", value),
             LOG_TEXT("expected", setting->choices));
    return false;
}

static bool parse(struct conf *conf, const struct setting *setting)
{
    const char *value = getenv(setting->name);
    void *field = (char *)conf + setting->offset;

    if (!value || !*value)
        value = setting->standard;
    switch (setting->kind) {
    case NUMBER:
        return parse_number(setting, value, field);
    case CHOICE:
        return parse_choice(setting, value, field);
    case TEXT:
        break;
    }
    *(const char **)field = value;
    return true;
}

static bool is_known(const char *entry)
{
    size_t length = strcspn(entry, "=");
    for (size_t i = 0; i < SETTINGS; i++)
        if (strlen(settings[i].name) == length && memcmp(settings[i].name, entry, length) == 0)
            return true;
    return false;
}

/* A misspelt name that is silently ignored would be found out at the worst time. */
static bool check_names(void)
{
    bool good = true;
    for (char **entry = environ; *entry; entry++) {
        if (strncmp(*entry, PREFIX, strlen(PREFIX)) != 0 || is_known(*entry))
            continue;
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(*entry, "="), *entry);
        log_line(LOG_ERROR, "unknown setting", LOG_TEXT("name", name),
                 LOG_TEXT("expected", "one of those that ticketd --help lists"));
        good = false;
    }
    return good;
}

bool conf_read(struct conf *conf)
{
    bool good = true;

    *conf = (struct conf){0};
    for (size_t i = 0; i < SETTINGS; i++)
        good &= parse(conf, &settings[i]);
    good &= check_names();
    if (good)
        log_setup((enum log_level)conf->log_level, (enum log_format)conf->log_format);
    return good;
}

void conf_describe(FILE *out)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        fprintf(out, "  %-22s %s", s->name, s->meaning);
        if (s->kind == CHOICE)
            fprintf(out, " (%s)", s->choices);
        if (s->kind == NUMBER)
            fprintf(out, " (%ld to %ld)", s->minimum, s->maximum);
        fprintf(out, "%s%s\n", *s->standard ? "; default " : "", s->standard);
    }
}
