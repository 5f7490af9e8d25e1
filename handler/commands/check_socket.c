/* Whether the web server can reach the socket: its users, as far as this host has them, and each directory on the way.
 * Access control lists (acl(5)) are not looked at. */
#include "commands/check_socket.h"
#include "base/log.h"
#include "web/listener.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

const char *check_socket_look(const char *address, struct text *words)
{
    if (!*address) {
        text_append(words, "inherited from whoever starts ticketd (TICKETD_LISTEN is not set)");
        return "ok";
    }
    return strncmp(address, "unix:", 5) == 0 ? look_at_unix(address + 5, words) : look_at_tcp(address, words);
}
