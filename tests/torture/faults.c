/* Makes a libc call fail at its Nth use on files under a directory. Put before a program with LD_PRELOAD. The file of a
 * unix socket is that of its peer.
 *
 *   FAULT_DIR     the directory: an absolute path without symbolic links
 *   FAULT         CALL:N:WHAT for the Nth use, CALL:N+:WHAT for the Nth and all later; several with commas between them
 *   FAULT_REPORT  a file that gets a byte each time the fault happens
 *   FAULT_LOG     a file that gets all that was written, cut, made, removed and synchronised there: what a power cut
 *                 would leave. One line each, "CALL PATH OFFSET LENGTH"; behind that of a write come its bytes. OFFSET
 * is the size of a cut file; of a "sync" the length of the log when it began: what came later it does not cover
 *
 * CALL is a family: open covers openat and the like; lock is fcntl's, to lock; mmap is that of a file. WHAT is the name
 * of an error, or
 *   SHORT  (write) half of the bytes are written and every later write fails with ENOSPC: the disk is full
 *   HALF   (write) half of the bytes are written, and that is all
 *   TORN   (write) half of the bytes are written and the process is killed
 *   KILL   the process is killed before the call
 *   CUT    (send, recv) the connection is shut down before the call: only what has arrived can still be received
 *
 * What passes goes to the kernel by syscall(2), and so does all that is done here: nothing of it is counted. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum what { FAIL, SHORT, HALF, TORN, KILL, CUT };

static const struct {
    const char *name;
    enum what what;
    int error;
} whats[] = {
    {"ENOSPC", FAIL, ENOSPC}, {"EIO", FAIL, EIO},       {"EACCES", FAIL, EACCES},
    {"EMFILE", FAIL, EMFILE}, {"EINTR", FAIL, EINTR},   {"ENOLCK", FAIL, ENOLCK},
    {"ENOENT", FAIL, ENOENT}, {"EROFS", FAIL, EROFS},   {"SHORT", SHORT, ENOSPC},
    {"HALF", HALF, 0},        {"TORN", TORN, 0},        {"KILL", KILL, 0},
    {"CUT", CUT, 0},          {"EPIPE", FAIL, EPIPE},   {"ECONNRESET", FAIL, ECONNRESET},
    {"EAGAIN", FAIL, EAGAIN}, {"ENOMEM", FAIL, ENOMEM},
};

struct fault {
    char family[16];
    int nth;
    bool and_later;
    enum what what;
    int error;
    atomic_int uses;
};

static struct fault faults[8];
static int fault_count;
static const char *directory, *report, *history;

static bool parse(const char *text, struct fault *fault)
{
    char name[16] = "", plus[2] = "";

    if (sscanf(text, "%15[a-z]:%d%1[+]:%15[A-Z]", fault->family, &fault->nth, plus, name) != 4 &&
        sscanf(text, "%15[a-z]:%d:%15[A-Z]", fault->family, &fault->nth, name) != 3)
        return false;
    fault->and_later = *plus == '+';
    for (size_t i = 0; i < sizeof(whats) / sizeof(whats[0]); i++) {
        if (strcmp(whats[i].name, name) == 0) {
            fault->what = whats[i].what;
            fault->error = whats[i].error;
            return true;
        }
    }
    return false;
}

__attribute__((constructor)) static void init(void)
{
    directory = getenv("FAULT_DIR");
    report = getenv("FAULT_REPORT");
    history = getenv("FAULT_LOG");
    for (const char *text = getenv("FAULT"); text; text = strchr(text, ',')) {
        text += *text == ',';
        if (!directory || fault_count == sizeof(faults) / sizeof(faults[0]) || !parse(text, &faults[fault_count++])) {
            fprintf(stderr, "faults: no FAULT_DIR, or a bad FAULT: %s\n", text);
            _exit(125);
        }
    }
}

static void append(const char *path, const char *bytes, size_t length)
{
    long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (fd >= 0) {
        syscall(SYS_write, fd, bytes, length);
        syscall(SYS_close, fd);
    }
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
}

/* Whether a file is the directory or under it. `full` gets its path. Without a path it is the file open as `fd`. */
static bool is_ours(int fd, const char *path, char full[PATH_MAX])
{
    char link[32];
    size_t length = 0;
    int before = errno;

    if (!directory)
        return false;
    if (!path || *path != '/') {
        snprintf(link, sizeof(link), fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
        long got = syscall(SYS_readlinkat, AT_FDCWD, link, full, (size_t)PATH_MAX - 1);
        errno = before;
        if (got < 0)
            return false;
        length = (size_t)got;
        full[length] = 0;
    }
    if (path)
        snprintf(full + length, PATH_MAX - length, "%s%s", *path == '/' ? "" : "/", path);
    length = strlen(directory);
    return strncmp(full, directory, length) == 0 && (full[length] == 0 || full[length] == '/');
}

/* Counts a use. The fault that happens now, or NULL; errno is set. */
static const struct fault *find(const char *call, int fd, const char *path)
{
    char full[PATH_MAX];
    const struct fault *found = NULL;

    for (struct fault *fault = faults; fault < faults + fault_count; fault++) {
        if (strcmp(call, fault->family) != 0 || !is_ours(fd, path, full))
            continue;
        int use = atomic_fetch_add(&fault->uses, 1) + 1;
        if (use == fault->nth || (use > fault->nth && (fault->and_later || fault->what == SHORT)))
            found = fault;
    }
    if (found) {
        append(report, "x", 1);
        if (found->what == KILL)
            die();
        errno = found->error;
    }
    return found;
}

static bool happens(const char *call, int fd, const char *path)
{
    return find(call, fd, path) != NULL;
}

/* The log's length: what is in it was done before. */
static off_t logged(void)
{
    struct stat log = {0};
    int before = errno;

    if (history)
        (void)!stat(history, &log);
    errno = before;
    return log.st_size;
}

static void note(const char *event, int fd, const char *path, off_t offset, const void *bytes, size_t size)
{
    char full[PATH_MAX], line[PATH_MAX + 64];
    int before = errno;

    if (history && is_ours(fd, path, full)) {
        int length = snprintf(line, sizeof(line), "%s %s %lld %zu\n", event, full, (long long)offset, size);
        struct iovec pieces[] = {{line, (size_t)length}, {(void *)(uintptr_t)bytes, size}};
        long log = syscall(SYS_openat, AT_FDCWD, history, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log >= 0) {
            syscall(SYS_writev, log, pieces, 2);
            syscall(SYS_close, log);
        }
    }
    errno = before;
}

static int open_it(int fd, const char *path, int flags, mode_t mode)
{
    if (happens("open", fd, path))
        return -1;
    bool made = flags & O_CREAT && history && syscall(SYS_faccessat, fd, path, F_OK) < 0;
    int opened = (int)syscall(SYS_openat, fd, path, flags, mode);
    if (made && opened >= 0)
        note("make", fd, path, 0, NULL, 0);
    return opened;
}

/* Those with underscores are what _FORTIFY_SOURCE calls. */
#define OPEN(name, parameters, fd)                                                                                     \
    int name parameters                                                                                                \
    {                                                                                                                  \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;                  \
        va_end(more);                                                                                                  \
        return open_it(fd, path, flags, mode);                                                                         \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(__open_2, (const char *path, int flags, ...), AT_FDCWD)
OPEN(__open64_2, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int fd, const char *path, int flags, ...), fd)
OPEN(openat64, (int fd, const char *path, int flags, ...), fd)
OPEN(__openat_2, (int fd, const char *path, int flags, ...), fd)
OPEN(__openat64_2, (int fd, const char *path, int flags, ...), fd)

static ssize_t read_it(int fd, void *bytes, size_t size, off_t offset)
{
    if (happens("read", fd, NULL))
        return -1;
    return offset < 0 ? syscall(SYS_read, fd, bytes, size) : syscall(SYS_pread64, fd, bytes, size, offset);
}

/* Half of what is in several pieces is written from one. */
static ssize_t write_half(int fd, const struct iovec *pieces, int count, off_t offset)
{
    size_t size = 0, left;
    for (int i = 0; i < count; i++)
        size += pieces[i].iov_len;
    left = size /= 2;
    char *bytes = malloc(size + 1), *end = bytes;
    for (int i = 0; bytes && i < count && left > 0; i++) {
        size_t length = pieces[i].iov_len < left ? pieces[i].iov_len : left;
        memcpy(end, pieces[i].iov_base, length);
        end += length;
        left -= length;
    }
    ssize_t written = offset < 0 ? syscall(SYS_write, fd, bytes, size) : syscall(SYS_pwrite64, fd, bytes, size, offset);
    free(bytes);
    return written;
}

static ssize_t write_it(int fd, const struct iovec *pieces, int count, off_t offset)
{
    const struct fault *fault = find("write", fd, NULL);
    if (fault && (fault->what == FAIL || (fault->what == SHORT && atomic_load(&fault->uses) > fault->nth)))
        return -1;
    if (fault) {
        ssize_t written = write_half(fd, pieces, count, offset);
        if (fault->what == TORN)
            die();
        return written;
    }
    ssize_t written =
        offset < 0 ? syscall(SYS_writev, fd, pieces, count) : syscall(SYS_pwritev, fd, pieces, count, offset, 0);
    if (written > 0 && offset >= 0 && count == 1) /* so SQLite writes */
        note("write", fd, NULL, offset, pieces->iov_base, (size_t)written);
    return written;
}

#define READ(name, parameters, offset)                                                                                 \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        return read_it(fd, bytes, size, offset);                                                                       \
    }
READ(read, (int fd, void *bytes, size_t size), -1)
READ(__read_chk, (int fd, void *bytes, size_t size, size_t room __attribute__((unused))), -1)
READ(pread, (int fd, void *bytes, size_t size, off_t from), from)
READ(pread64, (int fd, void *bytes, size_t size, off_t from), from)
READ(__pread_chk, (int fd, void *bytes, size_t size, off_t from, size_t room __attribute__((unused))), from)
READ(__pread64_chk, (int fd, void *bytes, size_t size, off_t from, size_t room __attribute__((unused))), from)

#define WRITE(name, parameters, offset)                                                                                \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        return write_it(fd, &(struct iovec){(void *)bytes, size}, 1, offset);                                          \
    }
WRITE(write, (int fd, const void *bytes, size_t size), -1)
WRITE(pwrite, (int fd, const void *bytes, size_t size, off_t to), to)
WRITE(pwrite64, (int fd, const void *bytes, size_t size, off_t to), to)

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    return write_it(fd, pieces, count, -1);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t to)
{
    return write_it(fd, pieces, count, to);
}

/* False: the call fails now. */
static bool may_pass(const char *call, int fd)
{
    struct sockaddr_un peer = {0};
    socklen_t size = sizeof(peer) - 1;
    int before = errno;
    bool has_file =
        getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sun_family == AF_UNIX && *peer.sun_path;

    errno = before;
    const struct fault *fault = has_file ? find(call, AT_FDCWD, peer.sun_path) : NULL;
    if (!fault || fault->what != CUT)
        return !fault;
    shutdown(fd, SHUT_RDWR);
    return true;
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    return may_pass("send", fd) ? syscall(SYS_sendto, fd, bytes, size, flags, NULL, 0) : -1;
}

static ssize_t recv_it(int fd, void *bytes, size_t size, int flags)
{
    return may_pass("recv", fd) ? syscall(SYS_recvfrom, fd, bytes, size, flags, NULL, NULL) : -1;
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    return recv_it(fd, bytes, size, flags);
}

ssize_t __recv_chk(int fd, void *bytes, size_t size, size_t room __attribute__((unused)), int flags)
{
    return recv_it(fd, bytes, size, flags);
}

DIR *opendir(const char *path)
{
    if (happens("opendir", AT_FDCWD, path))
        return NULL;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? NULL : fdopendir(fd);
}

struct dirent *readdir(DIR *listing)
{
    struct dirent *(*pass)(DIR *) = (struct dirent * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir");
    return happens("readdir", dirfd(listing), NULL) ? NULL : pass(listing);
}

static int sync_it(int fd, long call)
{
    off_t before = logged();

    if (happens("fsync", fd, NULL))
        return -1;
    int result = (int)syscall(call, fd);
    if (result == 0)
        note("sync", fd, NULL, before, NULL, 0);
    return result;
}

int fsync(int fd)
{
    return sync_it(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_it(fd, SYS_fdatasync);
}

#define OTHER(name, parameters, call, fd, path, pass)                                                                  \
    int name parameters                                                                                                \
    {                                                                                                                  \
        return happens(call, fd, path) ? -1 : (int)pass;                                                               \
    }
OTHER(rename, (const char *from, const char *to), "rename", AT_FDCWD, to, syscall(SYS_rename, from, to))
OTHER(renameat, (int in, const char *from, int fd, const char *to), "rename", fd, to,
      syscall(SYS_renameat, in, from, fd, to))
OTHER(renameat2, (int in, const char *from, int fd, const char *to, unsigned flags), "rename", fd, to,
      syscall(SYS_renameat2, in, from, fd, to, flags))
OTHER(flock, (int fd, int operation), "flock", fd, NULL, syscall(SYS_flock, fd, operation))

static int unlink_it(int fd, const char *path, int flags)
{
    if (happens("unlink", fd, path))
        return -1;
    int result = (int)syscall(SYS_unlinkat, fd, path, flags);
    if (result == 0)
        note("unlink", fd, path, 0, NULL, 0);
    return result;
}

int unlink(const char *path)
{
    return unlink_it(AT_FDCWD, path, 0);
}

int unlinkat(int fd, const char *path, int flags)
{
    return unlink_it(fd, path, flags);
}

static int truncate_it(int fd, off_t size)
{
    if (happens("ftruncate", fd, NULL))
        return -1;
    int result = (int)syscall(SYS_ftruncate, fd, size);
    if (result == 0)
        note("cut", fd, NULL, size, NULL, 0);
    return result;
}

int ftruncate(int fd, off_t size)
{
    return truncate_it(fd, size);
}

int ftruncate64(int fd, off_t size)
{
    return truncate_it(fd, size);
}

/* SQLite's locks. */
static int fcntl_it(int fd, int command, void *argument)
{
    bool locks = (command == F_SETLK || command == F_SETLKW) && ((struct flock *)argument)->l_type != F_UNLCK;

    if (locks && happens("lock", fd, NULL))
        return -1;
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

#define FCNTL(name)                                                                                                    \
    int name(int fd, int command, ...)                                                                                 \
    {                                                                                                                  \
        va_list more;                                                                                                  \
        va_start(more, command);                                                                                       \
        void *argument = va_arg(more, void *); /* a number fits into it, too */                                        \
        va_end(more);                                                                                                  \
        return fcntl_it(fd, command, argument);                                                                        \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

/* SQLite's -shm. */
static void *mmap_it(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fd >= 0 && happens("mmap", fd, NULL))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return mmap_it(at, size, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return mmap_it(at, size, protection, flags, fd, offset);
}
