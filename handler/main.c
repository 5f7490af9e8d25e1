/* The table of subcommands and nothing else. */
#include "answer.h"
#include "commands.h"
#include "conf.h"
#include "event.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef VERSION
#define VERSION "unknown"
#endif

static const struct command {
    const char *name;
    int (*run)(const struct conf *conf);
    const char *meaning;
} commands[] = {
    {"serve", command_serve, "serve FastCGI or CGI, found out by itself (the default)"},
    {"migrate", command_migrate, "create or upgrade schema vcc in the database"},
    {"check", command_check,
     "look at configuration, database with its schema and rights; exit 0 if all is well, else 1"},
    {"fields", command_fields, "list the attributes of a ticket, their columns and types"},
};

static void help(void)
{
    puts("ticketd: stores the ticket events of VCC Live's webhook in PostgreSQL\n\nusage: ticketd "
         "[COMMAND]\n\ncommands:");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        printf("  %-9s %s\n", commands[i].name, commands[i].meaning);
    puts("  --help, --version\n\nsettings (environment variables):");
    conf_describe(stdout);
    puts("\nexit status: 0 well, 1 not, 2 wrong command line");
}

/* A CGI process that cannot work owes its web server an answer all the same. */
static void excuse(void)
{
    struct event event = {.outcome = OUTCOME_UNAVAILABLE};
    struct text answer = {0};
    answer_event(&answer, &event);
    if (!answer.failed)
        fputs(answer.bytes, stdout);
    text_free(&answer);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "serve";
    const struct command *command = NULL;
    struct conf conf;

    if (strcmp(name, "--help") == 0) {
        help();
        return EXIT_SUCCESS;
    }
    if (strcmp(name, "--version") == 0) {
        puts("ticketd " VERSION);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].name, name) == 0)
            command = &commands[i];
    if (!command || argc > 2) {
        fprintf(stderr, "ticketd: no such command: %s\nTry: ticketd --help\n", command ? argv[2] : name);
        return 2;
    }
    bool serves = command->run == command_serve;
    bool good = conf_read(&conf) && store_valid_conninfo(&conf) && (!serves || conf_may_serve(&conf));
    if (!good && serves && getenv("GATEWAY_INTERFACE"))
        excuse();
    return good ? command->run(&conf) : EXIT_FAILURE;
}
