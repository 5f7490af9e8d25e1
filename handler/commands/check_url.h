/* `ticketd check --url URL`. */
#ifndef TICKETD_CHECK_URL_H
#define TICKETD_CHECK_URL_H

#include "base/conf.h"

/* Sends a made-up event through the web server, as VCC Live does, and takes it back. Where the URL has no token the
 * first one of the settings is added. Says how that went. */
void check_url(const struct conf *conf, const char *url,
               void (*say)(void *context, const char *name, const char *grade, const char *words), void *context);

#endif
