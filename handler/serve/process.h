/* `ticketd serve`, and `ticketd` alone: the webhook itself. */
#ifndef TICKETD_PROCESS_H
#define TICKETD_PROCESS_H

#include "base/conf.h"

/* Serves FastCGI until it is told to stop, or the one request of a CGI process. Takes no arguments. Returns the exit
 * status of the process. */
int command_serve(const struct conf *conf, int argc, char **argv);

#endif
