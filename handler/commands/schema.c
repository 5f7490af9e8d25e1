/* `ticketd migrate`, and `ticketd fields`: fields.def for people and for scripts, tab-separated. */
#include "commands/commands.h"
#include "event/event.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>

int command_fields(const struct conf *conf, int argc, char **argv)
{
    static const char *const types[] = {"bigint, key", "bigint", "text", "timestamptz"};

    (void)conf;
    (void)argc;
    (void)argv;
    puts("attribute\tcolumn\ttype\tmeaning");
    for (int f = 0; f < FIELD_COUNT; f++)
        printf("%s\t%s\t%s\t%s\n", event_fields[f].name, event_fields[f].column, types[event_fields[f].type],
               event_fields[f].meaning);
    return EXIT_SUCCESS;
}

int command_migrate(const struct conf *conf, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return store_migrate(conf) ? EXIT_SUCCESS : EXIT_FAILURE;
}
