/* The directory of the spool, and its files by their names. For the files of this folder. */
#ifndef TICKETD_SPOOL_DIRECTORY_H
#define TICKETD_SPOOL_DIRECTORY_H

#include "spool/spool.h"

#include <limits.h>

/* In `path`, PATH_MAX bytes: a file of the directory. Returns it. */
const char *spool_name(const struct spool *spool, char *path, const char *name);

/* Takes a flock(2) on a file of the directory, waiting so long. Below 0: errno, EWOULDBLOCK where others have it. */
int spool_lock(const struct spool *spool, const char *name, int operation, int wait_ms) MUST_USE;

/* Makes the directory if it is missing. NULL, or what is wrong with it, a static string. */
const char *spool_make_directory(const struct spool *spool);

/* Makes an empty file, for this user alone, whatever the umask, and durable. The -wal and -shm get its permissions. For
 * who has spool.lock to himself. False: errno. */
bool spool_make_file(const struct spool *spool) MUST_USE;

/* Renames the file and what belongs to it. `bad`: its new path. For who has spool.lock to himself. False: errno. */
bool spool_keep_aside(const struct spool *spool, char bad[PATH_MAX]) MUST_USE;

/* Removes the file, or what a process that was killed here has left of one. For who has spool.lock to himself. False:
 * errno; then it is as it was, or a new one cannot be made. */
bool spool_unlink(const struct spool *spool) MUST_USE;

/* NULL: the disk has room for more than what taking out needs. Else what to say, a static string. */
const char *spool_disk_problem(const struct spool *spool);

/* What errno means, a static string. */
const char *spool_reason(void);

#endif
