/* Encrypted bodies as PHP makes them: tests/unit/encrypt.php is the sender, and says what PHP itself reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/log.h"
#include "event/decrypt.h"
#include "event/query.h"
#include "failing_malloc.h"

#define FIELDS 5

static const struct conf nothing = {.cipher = "", .cipher_key = "", .cipher_key_file = ""};

static void test_settings_that_make_no_sense(void **state)
{
    (void)state;
    struct conf conf = nothing;
    conf.cipher_key = "k";
    assert_null(decrypt_open(&conf)); /* a key that nobody would use */
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
        cmocka_unit_test(test_settings_that_make_no_sense),
        cmocka_unit_test(test_php),
        cmocka_unit_test(test_iv),
        cmocka_unit_test(test_bodies_without_memory),
        cmocka_unit_test(test_keys_without_memory),
        cmocka_unit_test(test_bodies_again_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
