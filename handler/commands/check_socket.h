/* `ticketd check`'s look at the socket, with the web server's eyes. */
#ifndef TICKETD_CHECK_SOCKET_H
#define TICKETD_CHECK_SOCKET_H

#include "base/text.h"

/* Looks at what TICKETD_LISTEN names and appends words on it. Returns "ok", "note" or "wrong". Changes nothing. */
const char *check_socket_look(const char *address, struct text *words);

#endif
