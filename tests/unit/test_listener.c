/* A socket that cannot be opened: why is said, and no descriptor stays open. Those that can are in
 * tests/e2e/test_serving.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "descriptors.h"
#include "standard_error.h"
#include "web/listener.h"

static int good_looks = -1; /* lstat(2) goes well so often and then fails once; below 0: it never fails */

int lstat(const char *path, struct stat *status)
{
    if (good_looks >= 0 && good_looks-- == 0) {
        errno = EIO;
        return -1;
    }
    return fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

/* Opens the address with `more` free descriptors. The log must name `error`, if that is not 0. */
static void check_open(const char *address, int more, int error)
{
    struct listener listener;
    char text[1000];
    int count = open_descriptors(), file = memfd_create("errors", MFD_CLOEXEC), saved = redirect(file);
    struct rlimit before = leave_descriptors(more);

    bool opened = listener_open(&listener, address);
    setrlimit(RLIMIT_NOFILE, &before);
    put_back(saved);
    read_back(file, text, sizeof(text));
    if (opened)
        listener_close(&listener);
    assert_int_equal(opened, error == 0);
    assert_int_equal(open_descriptors(), count);
    if (error && !strstr(text, strerror(error)))
        fail_msg("%s: %s", strerror(error), text);
}

static void test_too_few_descriptors(void **state)
{
    (void)state;
    char folder[] = "/tmp/ticketd-test-XXXXXX", address[64];
    struct sockaddr_un stale = {.sun_family = AF_UNIX};

    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof(address), "unix:%s/s", folder);
    check_open(address, 0, EMFILE);
    check_open(address, 1, EMFILE); /* for its directory */
    check_open(address, 2, 0);

    strcpy(stale.sun_path, address + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&stale, sizeof(stale)), 0);
    close(fd);
    check_open(address, 1, EMFILE); /* nor is it known whether somebody listens there */
    check_open(address, 2, 0);
    check_open("127.0.0.1:0", 0, EMFILE);
    rmdir(folder);
}

/* The path cannot be looked at, before or after the socket was bound there. */
static void test_a_path_that_cannot_be_seen(void **state)
{
    (void)state;
    char folder[] = "/tmp/ticketd-test-XXXXXX", address[64];

    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof(address), "unix:%s/s", folder);
    for (int looks = 0; looks < 2; looks++) {
        good_looks = looks;
        check_open(address, 10, EIO);
        assert_int_equal(good_looks, -1);
    }
    check_open(address, 10, 0); /* the next start finds it stale */
    rmdir(folder);
}

int main(void)
{
    log_setup(LOG_ERROR, LOG_LOGFMT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_too_few_descriptors),
        cmocka_unit_test(test_a_path_that_cannot_be_seen),
    };
    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
