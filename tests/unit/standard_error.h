/* Standard error into a file, to see what was said. Include cmocka.h before. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Standard error goes to `fd` until the descriptor that this returns is put back. */
static int redirect(int fd)
{
    int before = dup(STDERR_FILENO);
    fflush(stderr);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    return before;
}

static void put_back(int before)
{
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
}

/* The text that was written to `file`, which is closed. */
static void read_back(int file, char *text, size_t size)
{
    ssize_t length = pread(file, text, size - 1, 0);
    assert_true(length >= 0);
    text[length] = '\0';
    close(file);
}
