/* The directory that TICKETD_SPOOL_DIR names, and its files by their names. */
#include "spool/spool_directory.h"
#include "base/clock.h"
#include "spool/spool_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define DISK_ROOM (2 * SPOOL_WAL) /* bytes: a disk with less is full */

const char *spool_reason(void)
{
    const char *known = strerrordesc_np(errno);
    return known ? known : "an unknown error";
}

const char *spool_name(const struct spool *spool, char *path, const char *name)
{
    snprintf(path, PATH_MAX, "%s/%s", spool->path, name);
    return path;
}

static bool sync_directory(const char *path)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = directory >= 0 && fsync(directory) == 0;
    int saved = errno;

    if (directory >= 0)
        close(directory);
    errno = saved;
    return good;
}

const char *spool_make_directory(const struct spool *spool)
{
    struct stat stat;
    char parent[PATH_MAX];

    snprintf(parent, sizeof(parent), "%s", spool->path);
    bool made = mkdir(spool->path, 0700) == 0;
    if ((!made && errno != EEXIST) || (made && !sync_directory(dirname(parent)))) {
        const char *why = spool_reason();
        if (made)
            rmdir(spool->path);
        return why;
    }
    int directory = open(spool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *why = directory < 0 || fstat(directory, &stat) != 0 ? spool_reason() : NULL;
    /* Its files are for one user; those that another one made, root too, would be closed to the first. */
    if (!why && stat.st_uid != geteuid())
        why = "it belongs to another user: ticketd must run as the user who owns it";
    if (directory >= 0)
        close(directory);
    return why;
}

int spool_lock(const struct spool *spool, const char *name, int operation, int wait_ms)
{
    char path[PATH_MAX];
    int fd = open(spool_name(spool, path, name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0 && !clock_lock_within(fd, operation, wait_ms)) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

const char *spool_disk_problem(const struct spool *spool)
{
    struct statvfs volume;
    bool room = statvfs(spool->path, &volume) != 0 || volume.f_bavail * volume.f_frsize >= DISK_ROOM;
    return room ? NULL : "there is no room on the disk";
}

bool spool_unlink(const struct spool *spool)
{
    static const char *const names[] = {"spool.db", "spool.db-wal", "spool.db-shm"};
    char path[PATH_MAX];
    bool good = true;

    /* By the first the other processes know whether theirs is still the one. While that stays it needs its -wal: what
     * left the spool may be told there alone. */
    for (size_t i = 0; good && i < sizeof(names) / sizeof(names[0]); i++)
        good = unlink(spool_name(spool, path, names[i])) == 0 || errno == ENOENT;
    return good;
}

bool spool_make_file(const struct spool *spool)
{
    if (!spool_unlink(spool)) /* SQLite would take an old -wal for the new file's */
        return false;
    int fd = open(spool->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return fd >= 0 && close(fd) == 0 && sync_directory(spool->path);
}

bool spool_keep_aside(const struct spool *spool, char bad[PATH_MAX])
{
    static const char *const suffixes[] = {"-wal", "-shm", ""};
    char name[64], from[PATH_MAX + 8], to[PATH_MAX + 8];
    bool good = true;
    struct tm utc;

    do {
        time_t seconds = time(NULL);
        strftime(name, sizeof(name), "spool-%Y%m%dT%H%M%SZ.bad", gmtime_r(&seconds, &utc));
    } while (access(spool_name(spool, bad, name), F_OK) == 0 && (clock_sleep_ms(100), true));
    for (size_t i = 0; good && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        snprintf(from, sizeof(from), "%s%s", spool->file, suffixes[i]);
        snprintf(to, sizeof(to), "%s%s", bad, suffixes[i]);
        good = rename(from, to) == 0 || (errno == ENOENT && *suffixes[i]);
    }
    return good && sync_directory(spool->path);
}
