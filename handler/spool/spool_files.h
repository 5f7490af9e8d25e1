/* What is in the spool's directory: segments, the locks on them and what those say. For spool.c, drain.c and
 * spool_command.c; spool.h says what it is for. Functions that return a descriptor or false leave errno. */
#ifndef TICKETD_SPOOL_FILES_H
#define TICKETD_SPOOL_FILES_H

#include "base/outcome.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPOOL_NAME 40 /* bytes of a file's name */

/* The name of a segment. */
void spool_name(char name[SPOOL_NAME], uint64_t number);

/* Whether this is one, and which. */
bool spool_is_segment(const char *name, uint64_t *number) MUST_USE;

struct spool_contents {
    uint64_t *segments; /* numbers, lowest first */
    size_t count;
    size_t bad;       /* segments kept aside */
    uint64_t highest; /* number in use */
    int64_t bytes;    /* of all segments, without those aside */
};

/* The directory, as a descriptor to be closed by the caller. Below 0: *why says why not, a static string. */
int spool_directory(const char *path, const char **why) MUST_USE;

/* Lists the directory; spool_contents_free frees. False: errno. */
bool spool_list(int directory, struct spool_contents *contents) MUST_USE;
void spool_contents_free(struct spool_contents *contents);

enum spool_lock { SPOOL_APPEND_SHARED, SPOOL_APPEND, SPOOL_DRAIN };

/* Takes a lock; closing the descriptor that it returns lets go of it. SPOOL_DRAIN does not wait, the others do for two
 * seconds. Below 0: errno, EWOULDBLOCK where another process has it. */
int spool_lock(int directory, enum spool_lock lock) MUST_USE;

/* Opens a lock's file without taking the lock, for its note. Below 0: errno. */
int spool_note(int directory, enum spool_lock lock) MUST_USE;

/* Opens a segment for reading. Below 0: errno. */
int spool_segment(int directory, uint64_t number) MUST_USE;

/* Removes a segment, or keeps it aside as NUMBER.bad. The caller holds SPOOL_APPEND. False: errno. */
bool spool_remove(int directory, uint64_t number, bool aside) MUST_USE;

/* What a lock file says, and says on when nobody holds it. */
struct spool_note {
    uint64_t events;  /* drain.lock: how many were drained, ever */
    uint64_t segment; /* append.lock: the segment that was last appended to, and where its records then ended */
    int64_t end;
    int64_t error_at; /* microseconds since 1970-01-01T00:00:00Z; 0: there never was one */
    char error[160];
};

/* Reads or writes the note of an open lock file. Best effort: nothing hangs on it. */
void spool_read_note(int lock, struct spool_note *note);
void spool_write_note(int lock, const struct spool_note *note);
void spool_note_error(int lock, const char *error);

/* What errno means, as a static string. */
const char *spool_reason(void);

/* Closes a descriptor, below 0 too; errno is kept. Not for a file whose last write must be known to have gone well. */
void spool_close_file(int fd);

#endif
