/* Tokens: where they are found in a request, what stands around them in a file, who gets in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "event/auth.h"
#include "event/query.h"
#include "failing_malloc.h"
#include "standard_error.h"

static const struct conf nothing = {.token = "", .token_file = "", .token_param = "secret-key", .auth = AUTH_NONE};

/* ---- the query */

static void check_query(const char *query, const char *name, enum query_found expected, const char *expected_value)
{
    char *value = malloc(strlen(query) + 1); /* just this long: the sanitizer sees a write past it */
    size_t length = 0;

    assert_int_equal(query_find(query, name, value, &length), expected);
    if (expected != QUERY_NONE) {
        assert_int_equal(length, strlen(expected_value));
        assert_string_equal(value, expected_value);
    }
    free(value);
}

static void test_query(void **state)
{
    (void)state;
    check_query("", "k", QUERY_NONE, "");
    check_query("k=v", "k", QUERY_ONE, "v");
    check_query("a=1&k=v&b", "k", QUERY_ONE, "v");
    check_query("k", "k", QUERY_ONE, "");
    check_query("k=", "k", QUERY_ONE, "");
    check_query("&&k=v&&", "k", QUERY_ONE, "v");
    check_query("k=a=b", "k", QUERY_ONE, "a=b");
    check_query("k=a&k=b", "k", QUERY_REPEATED, "a");
    check_query("k=a&%6b=b", "k", QUERY_REPEATED, "a");
    check_query("K=v", "k", QUERY_NONE, "");
    check_query("kk=v", "k", QUERY_NONE, "");
    check_query("k=v", "kk", QUERY_NONE, "");
    check_query("=v", "k", QUERY_NONE, "");
    check_query("=v", "", QUERY_ONE, "v");
    check_query("secret%2Dkey=%41%6a%6A", "secret-key", QUERY_ONE, "Ajj");
    check_query("k=a+b", "k", QUERY_ONE, "a+b");
    check_query("k=%", "k", QUERY_ONE, "%");
    check_query("k=%4", "k", QUERY_ONE, "%4");
    check_query("k=%4&x=1", "k", QUERY_ONE, "%4");
    check_query("k=%zz%4g", "k", QUERY_ONE, "%zz%4g");
    check_query("k=%c3%bc", "k", QUERY_ONE, "ü");
    check_query("k%00=v&k=w", "k", QUERY_ONE, "w");

    char value[16];
    size_t length;
    assert_int_equal(query_find("k=a%00b", "k", value, &length), QUERY_ONE);
    assert_int_equal(length, 3);
    assert_memory_equal(value, "a\0b", 4);
}

/* ---- tokens */

static void test_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *query, *authorization;
        bool allowed;
    } cases[] = {
        {"secret-key=alpha", "", true},
        {"secret-key=beta%20gamma", "", true},
        {"x=1&secret%2dkey=%61lpha", "", true},
        {"", "Bearer alpha", true},
        {"", "bearer   alpha", true},
        {"x=1", "Bearer alpha", true},
        {"", "", false},
        {"secret-key", "", false},
        {"secret-key=", "", false},
        {"secret-key=alph", "", false},
        {"secret-key=alphaa", "", false},
        {"secret-key=ALPHA", "", false},
        {"secret-key=alpha%00", "", false},
        {"secret-key=alpha&secret-key=alpha", "", false},
        {"secret-key=alpha&secret-key=x", "Bearer alpha", false},
        {"Secret-Key=alpha", "", false},
        {"key=alpha", "", false},
        {"secret-key=alpha\n", "", false},
        {"secret-key=alpha%0abeta%20gamma", "", false},
        {"", "alpha", false},
        {"", "Bearer", false},
        {"", "Bearer ", false},
        {"", "Basic alpha", false},
        {"", "Beareralpha", false},
    };
    struct conf conf = nothing;
    conf.token = "alpha\n\nbeta gamma\r\n";
    conf.auth = AUTH_TOKEN;
    struct auth *auth = auth_open(&conf);

    assert_non_null(auth);
    assert_int_equal(auth_token_count(auth), 2);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (auth_allows(auth, cases[i].query, cases[i].authorization) != cases[i].allowed)
            fail_msg("query '%s', authorization '%s'", cases[i].query, cases[i].authorization);
    auth_close(auth);

    auth = auth_open(&nothing);
    assert_true(auth_allows(auth, "", ""));
    auth_close(auth);
}

static void write_file(const char *path, const char *content, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    fchmod(fd, mode);
    close(fd);
}

static void test_rotation(void **state)
{
    (void)state;
    char path[] = "/tmp/ticketd-test-XXXXXX";
    close(mkstemp(path));
    struct conf conf = nothing;
    conf.auth = AUTH_TOKEN;
    conf.token = "always";
    conf.token_file = path;
    write_file(path, "old", 0600);
    struct auth *auth = auth_open(&conf);

    assert_true(auth_allows(auth, "secret-key=old", "") && auth_allows(auth, "secret-key=always", ""));
    write_file(path, "old\nnew\n", 0600);
    assert_false(auth_allows(auth, "secret-key=new", ""));
    assert_true(auth_reload(auth));
    assert_true(auth_allows(auth, "secret-key=old", "") && auth_allows(auth, "secret-key=new", ""));
    write_file(path, "new\n", 0600);
    assert_true(auth_reload(auth));
    assert_false(auth_allows(auth, "secret-key=old", ""));
    unlink(path);
    assert_false(auth_reload(auth)); /* it says so, and keeps what there is */
    assert_true(auth_allows(auth, "secret-key=new", "") && auth_allows(auth, "secret-key=always", ""));
    auth_close(auth);
}

/* What editors and people put around tokens. Keys are taken as they are. */
static void test_what_stands_around_tokens(void **state)
{
    (void)state;
    char path[] = "/tmp/ticketd-test-XXXXXX", text[1000];
    close(mkstemp(path));
    struct conf conf = nothing;
    conf.auth = AUTH_TOKEN;
    conf.token_file = path;
    write_file(path, "\xef\xbb\xbf bom\n# comment\n \n\t\v\n  # another\n\tspaced out \t\r\n#\n\r\nlong-enough-0123",
               0600);
    int file = memfd_create("errors", MFD_CLOEXEC), error = redirect(file);
    log_setup(LOG_WARNING, LOG_LOGFMT);
    struct auth *auth = auth_open(&conf);
    log_setup(LOG_ERROR, LOG_LOGFMT);
    put_back(error);
    read_back(file, text, sizeof(text));

    assert_non_null(strstr(text, "fewer than 16 characters"));
    assert_non_null(strstr(text, "tokens=2"));
    assert_null(strstr(text, "bom"));
    assert_int_equal(auth_token_count(auth), 3);
    static const char *const good[] = {"bom", "spaced%20out", "long-enough-0123"}, *const bad[] = {"%23%20comment",
                                                                                                   "%20",
                                                                                                   "%23",
                                                                                                   "%ef%bb%bfbom",
                                                                                                   "%ef%bb%bf%20bom",
                                                                                                   "spaced%20out%20"};
    char query[100];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        snprintf(query, sizeof(query), "secret-key=%s", good[i]);
        assert_true(auth_allows(auth, query, ""));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(query, sizeof(query), "secret-key=%s", bad[i]);
        assert_false(auth_allows(auth, query, ""));
    }
    auth_close(auth);
    write_file(path, "# only a comment\n \n", 0600);
    assert_null(auth_open(&conf));
    unlink(path);
}

static void test_settings_that_make_no_sense(void **state)
{
    (void)state;
    struct conf conf = nothing;
    conf.auth = AUTH_TOKEN;
    assert_null(auth_open(&conf)); /* no token */
    conf.token = "\n\r\n";
    assert_null(auth_open(&conf));
    conf.token = "t";
    conf.token_file = "/nonexistent/file";
    assert_null(auth_open(&conf));
    conf.token_file = "/";
    assert_null(auth_open(&conf));
    conf.token_file = "/dev/zero";
    assert_null(auth_open(&conf));
    conf.token_file = "";
    conf.auth = AUTH_NONE;
    assert_null(auth_open(&conf)); /* a token that nobody would look at */
}

/* ---- memory that runs out */

/* At whichever allocation: opened, or not at all. Tokens that are read again stay the old ones or become the new. */
static void test_opening_without_memory(void **state)
{
    (void)state;
    char path[] = "/tmp/ticketd-test-XXXXXX";
    close(mkstemp(path));
    write_file(path, "one\ntwo\n", 0600);
    struct conf conf = nothing;
    conf.auth = AUTH_TOKEN;
    conf.token = "always";
    conf.token_file = path;
    struct auth *auth = auth_open(&conf);
    bool failed = true;

    assert_non_null(auth);
    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        struct auth *other = auth_open(&conf);
        failed = stop_failing_allocations();
        assert_true(other || failed);
        if (other)
            assert_true(auth_allows(other, "secret-key=two", "") && auth_allows(other, "secret-key=always", ""));
        auth_close(other);
        assert_true(n < 1000);
    }
    write_file(path, "three\n", 0600);
    failed = true;
    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        bool good = auth_reload(auth);
        failed = stop_failing_allocations();
        bool new = auth_allows(auth, "secret-key=three", "");
        assert_int_equal(new, good);
        assert_int_not_equal(auth_allows(auth, "secret-key=two", ""), new);
        assert_true(auth_allows(auth, "secret-key=always", "") && (new || failed));
        assert_true(n < 1000);
    }
    assert_true(auth_allows(auth, "secret-key=three", ""));
    auth_close(auth);
    unlink(path);
}

/* Nobody gets in who should not, and whose token is right gets in or is told to come again. */
static void test_tokens_without_memory(void **state)
{
    (void)state;
    struct conf conf = nothing;
    conf.auth = AUTH_TOKEN;
    conf.token = "alpha";
    struct auth *auth = auth_open(&conf);
    bool failed = true;

    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        bool wrong = auth_allows(auth, "secret-key=beta", "Bearer gamma");
        bool right = auth_allows(auth, "secret-key=alpha", "");
        failed = stop_failing_allocations();
        assert_false(wrong);
        assert_true(right || failed);
        assert_true(n < 1000);
    }
    auth_close(auth);
}

int main(void)
{
    log_setup(LOG_ERROR, LOG_LOGFMT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_what_stands_around_tokens),
        cmocka_unit_test(test_settings_that_make_no_sense),
        cmocka_unit_test(test_opening_without_memory),
        cmocka_unit_test(test_tokens_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
