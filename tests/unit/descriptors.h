/* Descriptors that run out, and whether any stays open. Include cmocka.h before. */
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1000; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* No more than `more` can be opened until the limit that this returns is set again (setrlimit(2)). */
static struct rlimit leave_descriptors(int more)
{
    struct rlimit before;
    int lowest = dup(STDERR_FILENO);

    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit few = {(rlim_t)(lowest + more), before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    return before;
}
