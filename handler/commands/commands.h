/* The subcommands: one file each. Each gets what stands behind its name, already counted and its first word known to be
 * one of the table's (main.c), and returns the exit status of the process. */
#ifndef TICKETD_COMMANDS_H
#define TICKETD_COMMANDS_H

#include "base/conf.h"

/* Beside EXIT_SUCCESS, of the commands that work through much. */
#define EXIT_SOME_LEFT  1 /* all were seen, some are not applied, or not as they should be; never of spool */
#define EXIT_CANNOT_RUN 2 /* could not begin, or stopped half-way */

int command_migrate(const struct conf *conf, int argc, char **argv);
int command_check(const struct conf *conf, int argc, char **argv);
int command_import(const struct conf *conf, int argc, char **argv);
int command_rejected(const struct conf *conf, int argc, char **argv);
int command_spool(const struct conf *conf, int argc, char **argv);
int command_verify(const struct conf *conf, int argc, char **argv);
int command_fields(const struct conf *conf, int argc, char **argv);

#endif
