/* The small modules: text, clock, outcome, sqlstate, answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "answer.h"
#include "clock.h"
#include "outcome.h"
#include "sqlstate.h"
#include "text.h"

static void test_json_strings(void **state)
{
    (void)state;
    struct text text = {0};
    text_append_json(&text, "a\"b\\c\n\x01\x7f\xc3\xa9");
    assert_string_equal(text.bytes, "\"a\\\"b\\\\c\\u000a\\u0001\\u007f\xc3\xa9\"");
    text_free(&text);
    for (int i = 0; i < 3000; i++)
        text_append(&text, "0123456789");
    assert_int_equal(text.length, 30000);
    assert_int_equal(strlen(text.bytes), 30000);
    text_free(&text);
    assert_null(text.bytes);
}

static void test_visible_text(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *visible;
    } cases[] = {
        {"a\\\"b \xc3\xa9\xe2\x82\xac\xf0\x9f\x8e\xab", "a\\\"b \xc3\xa9\xe2\x82\xac\xf0\x9f\x8e\xab"},
        {"\n\t\r\x1b[2J\x7f", "\\n\\t\\r\\x1b[2J\\x7f"},
        {"\xc2\x9b\xc2\xa0", "\\xc2\\x9b\xc2\xa0"}, /* a control of two bytes; a space that is none */
        {"\xe2\x80\xae\xf3\xa0\x80\x81", "\\xe2\\x80\\xae\\xf3\\xa0\\x80\\x81"}, /* right to left; a tag */
        {"\xff\xc3(\xe2\x82", "\\xff\\xc3(\\xe2\\x82"},                          /* not UTF-8, or cut */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct text text = {0};
        text_append_visible(&text, cases[i].bytes, strlen(cases[i].bytes));
        assert_string_equal(text.bytes, cases[i].visible);
        text_free(&text);
    }
    struct text text = {0};
    text_append_visible(&text, "a\0b", 3);
    assert_string_equal(text.bytes, "a\\x00b");
    text_free(&text);
}

static void test_uuid(void **state)
{
    (void)state;
    uint8_t uuid[16];
    char text[37];

    /* The time of the example in RFC 9562 appendix A.6. */
    clock_uuid(uuid, INT64_C(0x017F22E279B0) * 1000);
    clock_uuid_text(uuid, text);
    assert_memory_equal(text, "017f22e2-79b0-7000-", 19);
    assert_non_null(strchr("89ab", text[19]));
    assert_int_equal(strlen(text), 36);

    static const uint8_t random[8] = {0xff, 1, 2, 3, 4, 5, 6, 7};
    clock_uuid_from(uuid, INT64_C(0x017F22E279B0) * 1000 + 500, random);
    clock_uuid_text(uuid, text);
    assert_string_equal(text, "017f22e2-79b0-7800-bf01-020304050607");

    uint8_t next[16];
    for (int64_t us = INT64_C(1700000000000000); us < INT64_C(1700000000003000); us++) {
        clock_uuid(uuid, us);
        clock_uuid(next, us + 1);
        assert_true(memcmp(uuid, next, 16) < 0);
    }
}

static void test_outcomes(void **state)
{
    (void)state;
    assert_int_equal(outcome_by_result("ignored"), OUTCOME_IGNORED);
    assert_int_equal(outcome_by_result("nonsense"), OUTCOME_NONE);
    assert_int_equal(outcome_by_result(outcome_word(OUTCOME_UNAVAILABLE)), OUTCOME_NONE);
    for (enum outcome o = OUTCOME_NONE + 1; o < OUTCOME_COUNT; o++) {
        int status = outcome_status(o);
        assert_false(status == 410 || status == 500 || status / 100 == 3);
    }
}

static void test_sqlstates(void **state)
{
    (void)state;
    static const struct {
        const char *state;
        enum sqlstate_class class;
    } rows[] = {
        {NULL, SQLSTATE_RECONNECT},       {"", SQLSTATE_RECONNECT},         {"08006", SQLSTATE_RECONNECT},
        {"57P01", SQLSTATE_RECONNECT},    {"53300", SQLSTATE_RECONNECT},    {"58030", SQLSTATE_RECONNECT},
        {"25006", SQLSTATE_RECONNECT},    {"26000", SQLSTATE_RECONNECT},    {"XX000", SQLSTATE_RECONNECT},
        {"40001", SQLSTATE_TRY_AGAIN},    {"40P01", SQLSTATE_TRY_AGAIN},    {"55P03", SQLSTATE_TRY_AGAIN},
        {"57014", SQLSTATE_TRY_AGAIN},    {"22P02", SQLSTATE_EVENT},        {"23514", SQLSTATE_EVENT},
        {"54001", SQLSTATE_EVENT},        {"42501", SQLSTATE_INSTALLATION}, {"28P01", SQLSTATE_INSTALLATION},
        {"3D000", SQLSTATE_INSTALLATION}, {"3F000", SQLSTATE_INSTALLATION},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(sqlstate_classify(rows[i].state), rows[i].class);
}

static void test_answers(void **state)
{
    (void)state;
    struct text answer = {0};
    struct event event;

    event_init(&event, NULL, 0);
    event.outcome = OUTCOME_UNPROCESSABLE;
    event_refuse(&event, OUTCOME_UNPROCESSABLE, "/ticket/a\"b", "is wrong");
    event_refuse(&event, OUTCOME_UNPROCESSABLE, "", "is worse");
    answer_event(&answer, &event);
    assert_non_null(strstr(answer.bytes, "Status: 422 "));
    assert_non_null(strstr(answer.bytes, "\"errors\":[{\"pointer\":\"/ticket/a\\\"b\",\"detail\":\"is wrong\"},"
                                         "{\"pointer\":\"\",\"detail\":\"is worse\"}]}"));
    text_free(&answer);
    event_free(&event);

    event.outcome = OUTCOME_UNAVAILABLE;
    answer_event(&answer, &event);
    assert_non_null(strstr(answer.bytes, "Status: 503 "));
    assert_non_null(strstr(answer.bytes, "\r\nRetry-After: "));
    text_free(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_strings), cmocka_unit_test(test_visible_text), cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_outcomes),     cmocka_unit_test(test_sqlstates),    cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests_name("small", tests, NULL, NULL);
}
