/* `ticketd check`: what an administrator wants to know before the first event comes. */
#include "auth.h"
#include "clock.h"
#include "commands.h"
#include "log.h"
#include "spool.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>

static bool report(const char *what, bool good)
{
    printf("%-14s %s\n", what, good ? "ok" : "wrong: see the message above");
    fflush(stdout);
    return good;
}

static bool check_spool(const struct conf *conf)
{
    struct spool *spool = spool_open(conf);
    const char *problem = spool ? spool_problem(spool) : "out of memory";

    if (problem)
        log_line(LOG_ERROR, "the spool cannot take events", LOG_TEXT("why", problem), LOG_TEXT("dir", conf->spool_dir));
    spool_close(spool);
    return !problem;
}

int command_check(const struct conf *conf, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    _Atomic int64_t stop_at = INT64_MAX;
    struct store *store = store_open(conf, &stop_at);
    struct auth *auth = auth_open(conf);
    bool good = report("configuration", auth); /* conf_read, which comes first, found the rest good */

    auth_close(auth);
    if (store)
        good &= report("database", store_check(store, clock_monotonic_ms() + conf->db_timeout_ms));
    store_close(store);
    if (*conf->spool_dir)
        good &= report("spool", check_spool(conf));
    return store && good ? EXIT_SUCCESS : EXIT_FAILURE;
}
