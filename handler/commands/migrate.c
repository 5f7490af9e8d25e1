/* `ticketd migrate`. */
#include "commands/commands.h"
#include "store/store.h"

#include <stdlib.h>

int command_migrate(const struct conf *conf, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return store_migrate(conf) ? EXIT_SUCCESS : EXIT_FAILURE;
}
