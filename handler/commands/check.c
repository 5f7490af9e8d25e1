/* `ticketd check`: what an administrator wants to know before the first event comes, or when none comes any more. */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "commands/check_url.h"
#include "commands/commands.h"
#include "event/auth.h"
#include "event/decrypt.h"
#include "spool/spool.h"
#include "store/store.h"
#include "store/store_report.h"
#include "web/listener.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

struct checklist {
    const struct conf *conf;
    bool wrong;
};

/* "database   wrong: why, and what to do"; of a text of several lines the others stand below. */
static void say(void *context, const char *name, const char *grade, const char *words)
{
    struct checklist *list = context;

    printf("%-10s %s%s", name, grade, *words ? ": " : "");
    for (; *words; words += *words == '\n') {
        size_t length = strcspn(words, "\n");
        struct text line = {0};
        text_append_visible(&line, words, length);
        printf("%s", line.failed || !line.bytes ? "" : line.bytes);
        text_free(&line);
        words += length;
        if (*words)
            printf("\n%-11s", "");
    }
    putchar('\n');
    fflush(stdout);
    list->wrong = list->wrong || strcmp(grade, "wrong") == 0;
}

/* The same with the words of a text, which is freed. */
static void say_text(struct checklist *list, const char *name, const char *grade, struct text *words)
{
    say(list, name, grade, words->failed ? "out of memory" : words->bytes ? words->bytes : "");
    text_free(words);
}

/* -- the socket, with the web server's eyes ------------------------------------------------------------------------ */

/* Its users, as far as this host has them, and each directory on the way. Access control lists (acl(5)) are not looked
 * at. */

#define GROUPS 128 /* of one user */

static const char *const web_servers[] = {"www-data", "nginx", "apache", "httpd"};

struct user {
    uid_t id;
    gid_t groups[GROUPS];
    int group_count;
};

/* Whether a user has these rights (bits of S_IRWXO) to a file: the first class that fits decides (path_resolution(7)).
 */
static bool may(const struct user *user, const struct stat *file, mode_t rights)
{
    if (user->id == 0)
        return true;
    if (user->id == file->st_uid)
        return (file->st_mode >> 6 & rights) == rights;
    for (int i = 0; i < user->group_count; i++)
        if (user->groups[i] == file->st_gid)
            return (file->st_mode >> 3 & rights) == rights;
    return (file->st_mode & rights) == rights;
}

/* Whether a user may connect (unix(7): to write to the socket, and to pass each directory). Else *obstacle is set, in
 * `path`, which is the socket's and is cut there. */
static bool may_connect(const struct user *user, char *path)
{
    struct stat file;

    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        bool passes = stat(path, &file) == 0 && may(user, &file, S_IXOTH);
        if (!passes)
            return false;
        *slash = '/';
    }
    return stat(path, &file) == 0 && may(user, &file, S_IWOTH);
}

static void append_owner(struct text *words, const char *path)
{
    struct stat file;

    if (stat(path, &file) != 0)
        return;
    const struct passwd *owner = getpwuid(file.st_uid);
    text_append_format(words, " (mode %04o, owner %.32s, ", file.st_mode & 07777, owner ? owner->pw_name : "unknown");
    const struct group *group = getgrgid(file.st_gid);
    text_append_format(words, "group %.32s)", group ? group->gr_name : "unknown");
}

/* "www-data may connect". False: one of them may not, and nobody else of them may. */
static bool append_web_servers(struct text *words, const char *socket_path)
{
    bool any = false, seen = false;

    for (size_t i = 0; i < sizeof(web_servers) / sizeof(web_servers[0]); i++) {
        const struct passwd *entry = getpwnam(web_servers[i]);
        struct user user = {.group_count = GROUPS};
        char path[PATH_MAX];
        if (!entry || strlen(socket_path) >= sizeof(path))
            continue;
        user.id = entry->pw_uid;
        if (getgrouplist(entry->pw_name, entry->pw_gid, user.groups, &user.group_count) < 0)
            user.group_count = GROUPS;
        strcpy(path, socket_path);
        bool can = may_connect(&user, path);
        text_append_format(words, "%s%s may %sconnect", seen ? "; " : ", ", web_servers[i], can ? "" : "not ");
        if (!can) {
            text_append(words, ": ");
            text_append(words, path);
            append_owner(words, path);
        }
        seen = true;
        any = any || can;
    }
    if (seen && !any)
        text_append(words, ". Put the web server's user into that group, and restart the web server");
    return any || !seen;
}

static const char *look_at_unix(const char *path, struct text *words)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat file;

    text_append(words, path);
    if (*path != '/' || strlen(path) >= sizeof(address.sun_path)) {
        text_append(words, ": give a path from / on, of at most 107 bytes");
        return "wrong";
    }
    strcpy(address.sun_path, path);
    if (stat(path, &file) != 0) {
        int error = errno;
        char parent[sizeof(address.sun_path)];
        strcpy(parent, path);
        *(strrchr(parent, '/') + (strrchr(parent, '/') == parent)) = '\0';
        bool there = error == ENOENT && stat(parent, &file) == 0 && S_ISDIR(file.st_mode);
        text_append(words, there ? " is not there: ticketd makes it when it starts" : ": ");
        text_append(words, there ? "" : error == ENOENT ? "its directory is missing" : strerror(error));
        return there ? "note" : "wrong";
    }
    if (!S_ISSOCK(file.st_mode)) {
        text_append(words, " is something else than a socket: take it away, or choose another path");
        return "wrong";
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool listens = connect(probe, (const struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN;
    int error = errno;
    close(probe);
    text_append(words, listens                 ? ": somebody listens"
                       : error == ECONNREFUSED ? ": nobody listens"
                                               : ": may not be opened by this user");
    bool reachable = append_web_servers(words, path);
    return !reachable ? "wrong" : listens ? "ok" : "note";
}

/* Whether it could be bound: of a port that is in use that is all there is to see. */
static const char *look_at_tcp(const char *address, struct text *words)
{
    struct listener listener = {.fd = -1};
    struct text said = {0};

    text_append(words, address);
    log_redirect(&said);
    bool good = listener_open(&listener, address);
    log_redirect(NULL);
    if (good)
        text_append(words, ": nobody listens there now");
    if (said.length) {
        text_append(words, "\n");
        text_append(words, said.bytes);
    }
    text_free(&said);
    listener_close(&listener);
    return good ? "ok" : "note";
}

static const char *look_at_socket(const char *address, struct text *words)
{
    if (!*address) {
        text_append(words, "inherited from whoever starts ticketd (TICKETD_LISTEN is not set)");
        return "ok";
    }
    return strncmp(address, "unix:", 5) == 0 ? look_at_unix(address + 5, words) : look_at_tcp(address, words);
}

static void check_socket(struct checklist *list)
{
    struct text words = {0};
    const char *grade = look_at_socket(list->conf->listen, &words);
    say_text(list, "socket", grade, &words);
}

/* -- the rest ------------------------------------------------------------------------------------------------------ */

/* Tokens, cipher and keys; auth.c and decrypt.c say themselves what is wrong or to be warned of. */
static void check_access(struct checklist *list)
{
    struct text said = {0}, words = {0};

    log_redirect(&said);
    struct auth *auth = auth_open(list->conf);
    struct decrypt *decrypt = decrypt_open(list->conf);
    log_redirect(NULL);
    bool good = auth && decrypt, open = auth && auth_token_count(auth) == 0;
    if (!good)
        text_append(&words, said.length ? "" : "out of memory");
    else if (open)
        text_append(&words, "TICKETD_AUTH=none: whoever reaches the location can send events");
    else
        text_append_format(&words, "%zu token%s", auth_token_count(auth), auth_token_count(auth) == 1 ? "" : "s");
    if (good && decrypt_key_count(decrypt))
        text_append_format(&words, "; bodies are encrypted with %s, %zu key%s", list->conf->cipher,
                           decrypt_key_count(decrypt), decrypt_key_count(decrypt) == 1 ? "" : "s");
    else if (good)
        text_append(&words, "; bodies are not encrypted");
    if (said.length) {
        text_append(&words, words.length ? "\n" : "");
        text_append(&words, said.bytes);
    }
    say_text(list, "access", !good ? "wrong" : open || said.length ? "note" : "ok", &words);
    text_free(&said);
    decrypt_close(decrypt);
    auth_close(auth);
}

/* Bytes that the disk of a directory, or of what is above one that is not there yet, has for ordinary users. */
static int64_t room_on_disk(const char *path)
{
    struct statvfs volume;
    char *copy = strdup(path), *slash;
    int64_t room = -1;

    while (copy && room < 0) {
        if (statvfs(*copy ? copy : "/", &volume) == 0)
            room = (int64_t)volume.f_bavail * (int64_t)volume.f_frsize;
        else if ((slash = strrchr(copy, '/')))
            *slash = '\0';
        else
            break;
    }
    free(copy);
    return room;
}

static void check_spool(struct checklist *list)
{
    const char *path = list->conf->spool_dir;
    struct text words = {0};

    if (!*path) {
        say(list, "spool", "note", "TICKETD_SPOOL_DIR is not set: while the database is away events are answered 503");
        return;
    }
    struct spool *spool = spool_open(list->conf);
    const char *problem = spool ? spool_problem(spool) : "out of memory", *grade = "ok";
    struct spool_status status = {0};
    const char *unread = spool ? spool_look(spool, &status) : NULL;
    int64_t most = (int64_t)list->conf->spool_max_mb * 1048576, room = room_on_disk(path);

    text_append(&words, path);
    if (problem || unread) {
        grade = "wrong";
        text_append(&words, problem ? ": it can take no more: " : ": it cannot be read: ");
        text_append(&words, problem ? problem : unread);
    } else {
        bool scarce = room >= 0 && room < most - status.bytes;
        const char *warning = spool_warning(spool);
        grade = status.events > 0 || status.missing || scarce || warning ? "note" : "ok";
        if (status.events > 0)
            text_append_format(&words, ": %" PRId64 " event%s of %" PRId64 " ticket%s wait%s: see ticketd spool status",
                               status.events, status.events == 1 ? "" : "s", status.tickets,
                               status.tickets == 1 ? "" : "s", status.events == 1 ? "s" : "");
        else
            text_append(&words, status.missing ? " is missing: ticketd makes it" : ": nothing waits");
        if (status.events > 0 && *status.identity)
            text_append_format(&words, "; meant for the database %s", status.identity);
        if (warning)
            text_append_format(&words, "; %s", warning);
        if (scarce)
            text_append_format(&words, "; the disk has room for %" PRId64 " MB, less than TICKETD_SPOOL_MAX_MB=%d",
                               room / 1048576, list->conf->spool_max_mb);
    }
    say_text(list, "spool", grade, &words);
    spool_close(spool);
}

static void check_database(struct checklist *list)
{
    _Atomic int64_t stop_at = INT64_MAX;
    struct store *store = store_open(list->conf, &stop_at, NULL);

    if (store)
        store_check(store, clock_monotonic_ms() + list->conf->db_timeout_ms, say, list);
    else
        say(list, "database", "wrong", "out of memory");
    store_close(store);
}

int command_check(const struct conf *conf, int argc, char **argv)
{
    struct checklist list = {.conf = conf};
    struct text zone = {0};

    if (argc > 0 && (argc != 2 || strcmp(argv[0], "--url") != 0)) {
        fprintf(stderr, "ticketd: wrong arguments of check\nusage: ticketd check [--url URL]\n");
        return 2;
    }
    text_append(&zone, "times without an offset are those of ");
    text_append(&zone, conf->time_zone);
    say_text(&list, "settings", "ok", &zone); /* conf_read, which comes first, found them good */
    check_socket(&list);
    check_access(&list);
    check_spool(&list);
    check_database(&list);
    if (conf->report) {
        struct text said = {0}, words = {0};
        log_redirect(&said);
        const char *problem = store_report_problem(conf);
        log_redirect(NULL);
        text_append(&words, problem ? problem : "the dashboard has its data");
        text_append(&words, said.length ? "\n" : "");
        text_append(&words, said.length ? said.bytes : "");
        say_text(&list, "reports", problem ? "wrong" : "ok", &words);
        text_free(&said);
    }
    if (argc > 0)
        check_url(conf, argv[1], say, &list);
    return list.wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
