/* The configuration: environment variables TICKETD_*; settings_file.h adds those of a file. */
#ifndef TICKETD_CONF_H
#define TICKETD_CONF_H

#include "base/outcome.h"

#include <stdbool.h>
#include <stdio.h>

enum auth_mode { AUTH_TOKEN, AUTH_NONE };

/* One field a line of conf.def. Texts are borrowed from the environment and never NULL. */
struct conf {
#define SETTING_TEXT(name, field, standard, meaning)                     const char *field;
#define SETTING_NUMBER(name, field, standard, minimum, maximum, meaning) int field;
#define SETTING_CHOICE(name, field, standard, choices, meaning)          int field;
#include "base/conf.def"
#undef SETTING_TEXT
#undef SETTING_NUMBER
#undef SETTING_CHOICE
};

/* Reads the environment. False: a value is bad or a TICKETD_ name unknown; each is logged by name and what to do.
 * Sets up the log's level and format. */
bool conf_read(struct conf *conf) MUST_USE;

/* Writes a line for each setting: name, default, meaning. */
void conf_describe(FILE *out);

#endif
