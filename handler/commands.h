/* The subcommands: one file each. Each returns the exit status of the process. */
#ifndef TICKETD_COMMANDS_H
#define TICKETD_COMMANDS_H

#include "conf.h"

int command_serve(const struct conf *conf);
int command_migrate(const struct conf *conf);
int command_check(const struct conf *conf);
int command_fields(const struct conf *conf);

#endif
