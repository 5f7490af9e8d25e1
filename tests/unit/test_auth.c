/* Tokens, and encrypted bodies as PHP makes them: tests/unit/encrypt.php is the sender, and says what PHP itself reads.
 */
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
#include <zlib.h>

#include "base/log.h"
#include "event/auth.h"
#include "event/decrypt.h"
#include "event/query.h"
#include "event/secrets.h"
#include "failing_malloc.h"
#include "standard_error.h"

#define FIELDS 5

static const struct conf nothing = {.token = "",
                                    .token_file = "",
                                    .token_param = "secret-key",
                                    .cipher = "",
                                    .cipher_key = "",
                                    .cipher_key_file = "",
                                    .auth = AUTH_NONE};

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
    conf.token = "";
    conf.cipher_key = "k";
    assert_null(decrypt_open(&conf)); /* likewise a key */
    conf.cipher = "aes-256-cbc";
    decrypt_close(decrypt_open(&conf));
    conf.cipher_key = "";
    assert_null(decrypt_open(&conf)); /* no key */
    conf.cipher_key = "k";
    static const char *const refused[] = {"null",        "NULL",         "nonsense",
                                          "aes-256-gcm", "AES-128-CCM",  "chacha20-poly1305",
                                          "aes-128-xts", "aes-128-wrap", "aes-128-cbc-hmac-sha1",
                                          "aes-128-siv", "sha256"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        conf.cipher = refused[i];
        assert_null(decrypt_open(&conf));
    }
}

/* ---- encrypted bodies */

static size_t from_hex(const char *hex, char *bytes)
{
    size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)(query_hex_digit(hex[2 * i]) << 4 | query_hex_digit(hex[2 * i + 1]));
    bytes[length] = '\0';
    return length;
}

static bool is_refused_kind(const char *cipher)
{
    static const char *const kinds[] = {"ccm", "gcm", "ocb", "siv", "wrap", "xts", "poly1305", "null", "hmac", "cts"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strstr(cipher, kinds[i]))
            return true;
    return false;
}

/* Returns whether the cipher is one of ours. */
static bool check_line(char *line)
{
    char *field[FIELDS], key[256], body[8192], expected[4096], *plain;
    size_t length, expected_length = 0;

    for (int i = 0; i < FIELDS; i++)
        field[i] = strsep(&line, "\t\n");
    assert_non_null(field[FIELDS - 1]);
    from_hex(field[1], key);
    size_t body_length = from_hex(field[3], body);
    bool fails = strcmp(field[4], "-") == 0;
    if (!fails)
        expected_length = from_hex(field[4], expected);

    struct conf conf = nothing;
    conf.cipher = field[0];
    conf.cipher_key = key;
    struct decrypt *decrypt = decrypt_open(&conf);
    if (!decrypt != is_refused_kind(field[0]))
        fail_msg("%s is %s", field[0], decrypt ? "let in" : "refused");
    if (!decrypt)
        return false;

    enum decrypted result = decrypt_bytes(decrypt, 0, field[2], body, body_length, &plain, &length);
    if (result != (fails ? DECRYPT_FAILED : DECRYPTED) ||
        (!fails && (length != expected_length || memcmp(plain, expected, length) != 0)))
        fail_msg("%s, key of %zu bytes, %s, body %s: not as PHP reads it (%s)", field[0], strlen(key), field[2],
                 field[3], field[4]);
    if (!fails)
        assert_int_equal(plain[length], '\0');
    free(plain);
    assert_int_equal(decrypt_bytes(decrypt, 1, field[2], body, body_length, &plain, &length), DECRYPT_NO_KEY);
    decrypt_close(decrypt);
    return true;
}

static void test_php(void **state)
{
    (void)state;
    FILE *php = popen("php '" TEST_DATA "/../unit/encrypt.php'", "r");
    char *line = NULL;
    size_t size = 0;
    int cases = 0;

    assert_non_null(php);
    while (getline(&line, &size, php) > 0)
        cases += check_line(line);
    free(line);
    assert_int_equal(pclose(php), 0);
    print_message("%d cases of ciphers that both have\n", cases);
    assert_true(cases > 3000);
}

static void test_iv(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        enum decrypted expected;
    } cases[] = {
        {"", DECRYPTED},
        {"iv=", DECRYPTED},
        {"iv=00", DECRYPTED},
        {"iv=aAbB%30%31", DECRYPTED},
        {"iv=0", DECRYPT_BAD_IV},
        {"iv=0g", DECRYPT_BAD_IV},
        {"iv=00 ", DECRYPT_BAD_IV},
        {"iv=%0000", DECRYPT_BAD_IV},
        {"iv=00&iv=00", DECRYPT_BAD_IV},
        {"iv=0011223344556677889900112233445566778899zz", DECRYPT_BAD_IV},
    };
    struct conf conf = nothing;
    conf.cipher = "AES-256-CTR";
    conf.cipher_key = "one\ntwo\n";
    struct decrypt *decrypt = decrypt_open(&conf);
    char *plain;
    size_t length;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t key = 0; key < 2; key++) {
            assert_int_equal(decrypt_bytes(decrypt, key, cases[i].query, "YWJj", 4, &plain, &length),
                             cases[i].expected);
            free(plain);
        }
    }
    assert_int_equal(decrypt_bytes(decrypt, 2, "", "YWJj", 4, &plain, &length), DECRYPT_NO_KEY);
    decrypt_close(decrypt);
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

/* Encrypted with the second key. */
#define SEALED "oTMmdykCY8pKUmjfVsm8F5EF+A/IlsNwlSbMyUzhbhvmoit2u9wtRwO6E4ZBtnNNqsyB8lkYRmq3O39wpva6KA=="
#define OPENED "{\"action\":\"add\",\"ticket\":{\"projectId\":1,\"ticketId\":2}}"
#define IV     "iv=000102030405060708090a0b0c0d0e0f"

#define SEALED_REASON "cannot be decrypted, or is not JSON; "

static void make_sealed(struct event *event, const char *body)
{
    event_init(event, strdup(body), strlen(body));
}

/* At whichever allocation: the sender is told to come again, or all is as with enough of it: a good body is opened, and
 * what a body was sent with is kept. */
static void test_bodies_without_memory(void **state)
{
    (void)state;
    static const struct sealed {
        const char *body, *query;
        enum outcome refusal;
        const char *reason;
    } cases[] = {
        {SEALED, "a=b&" IV, OUTCOME_NONE, "refused"},
        {"AAAA", "a=b&" IV, OUTCOME_BAD_REQUEST, "cannot be decrypted, or is not JSON"},
    };
    struct conf conf = nothing;
    conf.cipher = "AES-256-CBC";
    conf.cipher_key = "one\ntwo\n";
    conf.max_body_kb = 1;
    struct decrypt *decrypt = decrypt_open(&conf);

    for (size_t i = 0; i < 2 * (sizeof(cases) / sizeof(cases[0])); i++) {
        const struct sealed *c = &cases[i / 2];
        bool failed = true;
        for (long n = 0; failed; n++) {
            struct event event;
            uLongf length = 200;
            Bytef *packed = malloc(length);
            assert_int_equal(compress(packed, &length, (const Bytef *)c->body, strlen(c->body)), Z_OK);
            event_init(&event, (char *)packed, length);
            (i % 2 ? fail_allocations_after : fail_one_allocation_after)(n);
            bool good = decrypt_keep(&event, c->query, "deflate") && decrypt_unpack(decrypt, &event) &&
                        decrypt_decode(decrypt, c->query, &event);
            failed = stop_failing_allocations();
            assert_true(good || failed);
            if (good) {
                assert_int_equal(event.refusal, c->refusal);
                assert_string_equal(event.body, c->refusal == OUTCOME_NONE ? OPENED : c->body);
                assert_string_equal(event_reason(&event), c->reason);
                assert_string_equal(event.iv, IV + strlen("iv="));
                assert_string_equal(event.coding, "deflate");
                event_received(&event, &length);
                assert_int_equal(length == strlen(event.body), event.refusal == OUTCOME_NONE);
            }
            event_free(&event);
            assert_true(n < 1000);
        }
    }
    decrypt_close(decrypt);
}

/* At whichever allocation: opened, or not at all; keys that are read again stay the old ones or become the new. */
static void test_keys_without_memory(void **state)
{
    (void)state;
    struct conf conf = nothing;
    conf.cipher = "AES-256-CBC";
    conf.cipher_key = "a\nb\n";
    struct decrypt *decrypt = decrypt_open(&conf);
    bool failed = true;

    assert_non_null(decrypt);
    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        struct decrypt *other = decrypt_open(&conf);
        bool good = decrypt_reload(decrypt);
        failed = stop_failing_allocations();
        assert_true((other && good) || failed);
        assert_int_equal(decrypt_key_count(decrypt), 2);
        decrypt_close(other);
        assert_true(n < 1000);
    }
    decrypt_close(decrypt);
}

/* Likewise when it is tried again: by the iv that was kept, or that is in the reason. */
static void test_bodies_again_without_memory(void **state)
{
    (void)state;
    struct conf conf = nothing;
    conf.cipher = "AES-256-CBC";
    conf.cipher_key = "one\ntwo\n";
    struct decrypt *decrypt = decrypt_open(&conf);

    for (int i = 0; i < 4; i++) {
        bool failed = true;
        for (long n = 0; failed; n++) {
            struct event event;
            make_sealed(&event, SEALED);
            event_keep(event.iv, i % 2 ? IV + strlen("iv=") : "");
            (i / 2 ? fail_one_allocation_after : fail_allocations_after)(n);
            bool good = decrypt_again(decrypt, i % 2 ? "is not JSON; iv=00" : SEALED_REASON IV, &event);
            failed = stop_failing_allocations();
            assert_true(good || failed);
            assert_string_equal(event.iv, IV + strlen("iv="));
            assert_string_equal(event.body, good ? OPENED : SEALED);
            event_free(&event);
            assert_true(n < 1000);
        }
    }
    decrypt_close(decrypt);
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
        cmocka_unit_test(test_php),
        cmocka_unit_test(test_iv),
        cmocka_unit_test(test_opening_without_memory),
        cmocka_unit_test(test_tokens_without_memory),
        cmocka_unit_test(test_bodies_without_memory),
        cmocka_unit_test(test_keys_without_memory),
        cmocka_unit_test(test_bodies_again_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
