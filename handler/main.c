/* The table of subcommands, and as whom each runs. */
#include "base/conf.h"
#include "base/log.h"
#include "base/settings_file.h"
#include "commands/commands.h"
#include "event/event.h"
#include "event/timestamp.h"
#include "serve/process.h"
#include "spool/spool.h"
#include "store/store.h"
#include "web/answer.h"
#include "web/listener.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "unknown"
#endif

#define SERVICE "ticketd" /* the service's user: contrib/systemd/ticketd.sysusers */

/* What a command has of the installation: nothing; its settings file; and, started by root, the service's user too. */
enum place { NOWHERE, AS_CALLER, AS_SERVICE };

static const struct command {
    const char *name;
    int (*run)(const struct conf *conf, int argc, char **argv);
    enum place place;
    const char *words;     /* one of these must be the first argument, separated by |; NULL: it has none */
    const char *arguments; /* what else may follow, for people */
    int least, most;       /* how many arguments there may be */
    int cannot_run;        /* exit status where the configuration is bad */
    const char *meaning;
} commands[] = {
    {"serve", command_serve, AS_SERVICE, NULL, "", 0, 0, 1, "serve FastCGI or CGI, found out by itself (the default)"},
    {"migrate", command_migrate, AS_CALLER, NULL, "", 0, 0, 1, "create or upgrade schema vcc in the database"},
    {"check", command_check, AS_SERVICE, NULL, "[--url URL]", 0, 2, 1,
     "look at settings, socket, tokens, spool, database, schema and rights, and whether the database takes an event; "
     "with --url send one through the web server, too; each is taken back"},
    {"import", command_import, AS_SERVICE, NULL, "FILE|-", 1, 1, EXIT_CANNOT_RUN,
     "apply a file with one event a line, or JSON (-: standard input); the same file again applies nothing twice"},
    {"rejected", command_rejected, AS_SERVICE, "list|retry|show|drop", "[SINCE [UNTIL]|ID]", 1, 3, EXIT_CANNOT_RUN,
     "list the bodies that were refused, or try them again: those last received from SINCE on and before UNTIL; write "
     "the body ID to standard output; remove it"},
    {"spool", command_spool, AS_SERVICE, "status|list|drop|drain|add|adopt", "[ID|FILE]", 1, 2, EXIT_CANNOT_RUN,
     "look at the events that wait; set the event ID aside; apply them now; add those of a recovered FILE"},
    {"verify", command_verify, AS_SERVICE, NULL, "[--rebuild] [PROJECT]", 0, 2, EXIT_CANNOT_RUN,
     "compare the tickets, of all projects or one, with what the journal says; set those that differ right"},
    {"fields", command_fields, NOWHERE, NULL, "", 0, 0, 1, "list the attributes of a ticket, their columns and types"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* "rejected list|retry [SINCE [UNTIL]]" */
static void usage(const struct command *command, char *line, size_t size)
{
    const char *words = command->words ? command->words : "";
    snprintf(line, size, "%s%s%s%s%s", command->name, *words ? " " : "", words, *command->arguments ? " " : "",
             command->arguments);
}

static void help(void)
{
    puts("ticketd: stores the ticket events of VCC Live's webhook in PostgreSQL\n\nusage: ticketd "
         "[COMMAND]\n\ncommands:");
    for (size_t i = 0; i < COMMANDS; i++) {
        char line[64];
        usage(&commands[i], line, sizeof(line));
        printf("  %-48s %s\n", line, commands[i].meaning);
    }
    printf("  --help, --version\n\nsettings (environment variables%s%s):\n", *settings_file ? ", and lines of " : "",
           settings_file);
    conf_describe(stdout);
    puts("\nexit status: 0 well (check: nothing is wrong; verify: all tickets are as the journal says, or were "
         "rebuilt),\n"
         "1 not (import, rejected: some events are set aside or still refused; verify: some tickets differ),\n"
         "2 wrong command line (import, rejected, spool, verify: also could not run, or stopped half-way)");
}

/* The command that is meant; NULL: said what is wrong. */
static const struct command *find_command(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "serve";
    int count = argc > 2 ? argc - 2 : 0;

    for (size_t i = 0; i < COMMANDS; i++) {
        const struct command *command = &commands[i];
        if (strcmp(command->name, name) != 0)
            continue;
        if (count >= command->least && count <= command->most &&
            (!command->words || text_choice(command->words, argv[2]) >= 0))
            return command;
        char line[64];
        usage(command, line, sizeof(line));
        fprintf(stderr, "ticketd: wrong arguments of %s\nusage: ticketd %s\n", name, line);
        return NULL;
    }
    fprintf(stderr, "ticketd: no such command: %s\nTry: ticketd --help\n", name);
    return NULL;
}

static bool valid_time_zone(const struct conf *conf)
{
    bool good = timestamp_set_zone(conf->time_zone);

    if (!good)
        log_line(LOG_ERROR, "bad setting", LOG_TEXT("name", "TICKETD_TIME_ZONE"), LOG_TEXT("value", conf->time_zone),
                 LOG_TEXT("expected", "a name of the tz database, such as Europe/Budapest"));
    return good;
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

/* Files that are made are for this user alone; the memory with its keys is for nobody: no core is left behind, and
 * other processes of the user cannot look (prctl(2), PR_SET_DUMPABLE). */
static void protect(void)
{
    umask(077);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
#ifndef __SANITIZE_ADDRESS__ /* its search for leaks looks */
    prctl(PR_SET_DUMPABLE, 0);
#endif
}

/* The service's user has its files, and is who the database lets in. Where there is no such user root stays root. */
static bool become_service(void)
{
    const struct passwd *user = getpwnam(SERVICE);
    bool good = !user || (initgroups(SERVICE, user->pw_gid) == 0 && setgid(user->pw_gid) == 0 &&
                          setuid(user->pw_uid) == 0 && setenv("HOME", user->pw_dir, 1) == 0); /* ~/.pgpass */

    protect(); /* another user has lost it again: prctl(2) */
    if (!good)
        log_line(LOG_ERROR, "cannot become the service's user", LOG_TEXT("user", SERVICE),
                 LOG_TEXT("error", strerror(errno)));
    return good;
}

/* Reads the settings file that the command has, as root where root started it. */
static bool take_place(enum place place)
{
    enum settings_found found = place == NOWHERE ? SETTINGS_NONE : settings_file_read();

    return found != SETTINGS_BAD &&
           (found == SETTINGS_NONE || place != AS_SERVICE || geteuid() != 0 || become_service());
}

int main(int argc, char **argv)
{
    struct conf conf;

    protect();
    /* A web server may pass the words of a query string on as arguments (RFC 3875 section 4.4): a request must not
     * choose the command. */
    if (getenv("GATEWAY_INTERFACE"))
        argc = 1;
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("ticketd " VERSION);
        return EXIT_SUCCESS;
    }
    for (int i = 1; i < argc; i++) {
        if (text_choice("--help|-h", argv[i]) >= 0 || (i == 1 && strcmp(argv[i], "help") == 0)) {
            help();
            return EXIT_SUCCESS;
        }
    }
    const struct command *command = find_command(argc, argv);
    if (!command)
        return 2;
    bool serves = command->run == command_serve;
    bool good = take_place(command->place) && conf_read(&conf) && valid_time_zone(&conf) &&
                listener_valid(conf.listen) && store_valid_conninfo(&conf) && spool_valid_directory(&conf);
    int status = good ? command->run(&conf, argc > 2 ? argc - 2 : 0, argv + 2) : command->cannot_run;
    if (status != EXIT_SUCCESS && serves && getenv("GATEWAY_INTERFACE"))
        excuse();
    return status;
}
