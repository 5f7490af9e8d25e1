/* json_check: what it refuses, where it says that the fault is, and when it sees an escaped U+0000. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "event/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `wrong` is a part of the text; NULL: nothing is wrong. */
struct row {
    const char *bytes;
    size_t length;
    const char *wrong;
    size_t offset;
    bool has_nul;
};

#define GOOD(bytes)                                                                                                    \
    {                                                                                                                  \
        bytes, sizeof(bytes) - 1, NULL, sizeof(bytes) - 1, false                                                       \
    }
#define NUL(bytes)                                                                                                     \
    {                                                                                                                  \
        bytes, sizeof(bytes) - 1, NULL, sizeof(bytes) - 1, true                                                        \
    }
#define BAD(bytes, wrong, offset)                                                                                      \
    {                                                                                                                  \
        bytes, sizeof(bytes) - 1, wrong, offset, false                                                                 \
    }

static struct row rows[] = {
    GOOD(""),
    GOOD(" \t\r\n"),
    GOOD("{\"a\":[1,true,null,\"x\"]}"),

    /* UTF-8: the first and the last character of each length, and what lies around the surrogates. */
    GOOD("\"\x20\x7f\""),
    GOOD("\"\xc2\x80\xdf\xbf\""),
    GOOD("\"\xe0\xa0\x80\xef\xbf\xbf\""),
    GOOD("\"\xed\x9f\xbf\xee\x80\x80\""),
    GOOD("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""),
    GOOD("\"\xf3\xbf\xbf\xbf\xf1\x80\x80\x80\""),
    BAD("\"\x80\"", "UTF-8", 1),
    BAD("\"ab\xbf\"", "UTF-8", 3),
    BAD("\"\xc0\x80\"", "UTF-8", 1),
    BAD("\"\xc1\xbf\"", "UTF-8", 1),
    BAD("\"\xc2\"", "UTF-8", 1),
    BAD("\"\xc2\xc2\"", "UTF-8", 1),
    BAD("\"\xe0\x9f\xbf\"", "UTF-8", 1),
    BAD("\"\xe1\x80\"", "UTF-8", 1),
    BAD("\"\xe1\x80\xc0\"", "UTF-8", 1),
    BAD("\"\xed\xa0\x80\"", "UTF-8", 1),
    BAD("\"\xed\xbf\xbf\"", "UTF-8", 1),
    BAD("\"\xf0\x8f\xbf\xbf\"", "UTF-8", 1),
    BAD("\"\xf1\x80\x80\"", "UTF-8", 1),
    BAD("\"\xf1\x80\x80\x7f\"", "UTF-8", 1),
    BAD("\"\xf4\x90\x80\x80\"", "UTF-8", 1),
    BAD("\"\xf5\x80\x80\x80\"", "UTF-8", 1),
    BAD("\"\xf8\x88\x80\x80\x80\"", "UTF-8", 1),
    BAD("\"\xfe\"", "UTF-8", 1),
    BAD("\"\xff\"", "UTF-8", 1),
    BAD("\"\xc3", "UTF-8", 1),
    BAD("\"\xf0\x9f\x98", "UTF-8", 1),
    BAD("\x80", "UTF-8", 0),
    BAD("[\xc3]", "UTF-8", 1),
    BAD("\xef\xbb\xbf{}", "unexpected", 0),
    BAD("[\xc2\xa0]", "unexpected", 1),

    /* Control characters. */
    BAD("\0", "control", 0),
    BAD("{}\0", "control", 2),
    BAD("\v", "control", 0),
    BAD("[\f]", "control", 1),
    BAD("[\x1f]", "control", 1),
    BAD("[\b]", "control", 1),
    BAD("\"\t\"", "control", 1),
    BAD("\"\n\"", "control", 1),
    BAD("\"a\r\"", "control", 2),
    BAD("\"a\0\"", "control", 2),
    BAD("\"\x01\"", "control", 1),
    BAD("\"\x1f\"", "control", 1),

    /* Numbers. */
    GOOD("0"),
    GOOD("-0"),
    GOOD("10"),
    GOOD("-12"),
    GOOD("0.0"),
    GOOD("1.50"),
    GOOD("1e5"),
    GOOD("1E5"),
    GOOD("0e0"),
    GOOD("1e+5"),
    GOOD("1E-05"),
    GOOD("-1.25e-10"),
    GOOD("1e999"),
    GOOD("[1,-2]"),
    BAD("-", "number", 1),
    BAD("-a", "number", 1),
    BAD("--1", "number", 1),
    BAD("01", "number", 1),
    BAD("-01", "number", 2),
    BAD("00", "number", 1),
    BAD("[1,02]", "number", 4),
    BAD("1.", "number", 2),
    BAD("1.e5", "number", 2),
    BAD("-.5", "number", 1),
    BAD("1e", "number", 2),
    BAD("1e+", "number", 3),
    BAD("1E-]", "number", 3),
    BAD("1e.5", "number", 2),
    BAD("-Infinity", "number", 1),
    GOOD("\"01 1. -\""),

    /* Escapes. */
    GOOD("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    GOOD("\"\\u0041\\uFFFF\\ufdd0\\uaBcD\""),
    GOOD("\"\\ud83d\\ude00\""),
    GOOD("\"\\uD800\\uDC00\\uDBFF\\uDFFF\""),
    GOOD("\"\\ud7ff\\ue000\""),
    BAD("\"\\a\"", "escape", 1),
    BAD("\"\\0\"", "escape", 1),
    BAD("\"\\U0041\"", "escape", 1),
    BAD("\"\\'\"", "escape", 1),
    BAD("\"\\\0\"", "escape", 1),
    BAD("\"\\\n\"", "escape", 1),
    BAD("\"\\x41\"", "escape", 1),
    BAD("\"\\u\"", "escape", 1),
    BAD("\"\\u004\"", "escape", 1),
    BAD("\"\\u00g0\"", "escape", 1),
    BAD("\"\\u00@0\"", "escape", 1),
    BAD("\"\\u00`0\"", "escape", 1),
    BAD("\"\\u+041\"", "escape", 1),
    BAD("\"\\u 041\"", "escape", 1),
    BAD("\"\\u00", "escape", 1),
    BAD("\"\\", "escape", 1),
    BAD("\"\\ud800\"", "surrogate", 1),
    BAD("\"\\udbff\"", "surrogate", 1),
    BAD("\"\\udc00\"", "surrogate", 1),
    BAD("\"\\udfff\"", "surrogate", 1),
    BAD("\"\\ud800a\"", "surrogate", 1),
    BAD("\"\\ud800\\n\"", "surrogate", 1),
    BAD("\"\\ud800\\u0041\"", "surrogate", 1),
    BAD("\"\\ud800\\ud800\"", "surrogate", 1),
    BAD("\"\\ud800\\ue000\"", "surrogate", 1),
    BAD("\"\\ud800udc00\"", "surrogate", 1),
    BAD("\"\\ud800xudc00\"", "surrogate", 1),
    BAD("\"\\udc00\\ud800\"", "surrogate", 1),
    BAD("\"\\udc00\\udc00\"", "surrogate", 1),
    BAD("\"\\ud83d\\ude00\\ude00\"", "surrogate", 13),
    BAD("\"\\ud800\\udc0", "surrogate", 1),

    /* U+0000. */
    NUL("\"\\u0000\""),
    NUL("{\"a\\u0000b\":1}"),
    NUL("[\"\\\\\\u0000\"]"),
    NUL("[\"\\u0000\",\"x\"]"),
    GOOD("\"\\\\u0000\""),
    GOOD("\"\\u0001\""),
    GOOD("\"\\u1000\""),

    /* Strings that do not end. */
    BAD("\"", "inside a string", 1),
    BAD("\"abc", "inside a string", 4),
    BAD("\"abc\\\"", "inside a string", 6),
    BAD("{\"a\":\"b\",\"}", "inside a string", 11),

    /* A backslash belongs into a string. */
    BAD("\\", "unexpected", 0),
    BAD("[\"\\u0000\",\\", "unexpected", 10),
    BAD("{\"a\":\\u0000}", "unexpected", 5),

    /* Grammar is the parser's business. */
    GOOD("{]"),
    GOOD("tru"),
    GOOD("1 2"),
    GOOD("]]]]"),
};

static void check_row(void **state)
{
    const struct row *row = *state;
    struct json_notes notes = {.has_nul = !row->has_nul};
    size_t offset = 12345;
    /* A copy of just this length: the sanitizer sees a look past the end. */
    char *bytes = malloc(row->length ? row->length : 1);
    memcpy(bytes, row->bytes, row->length);
    const char *wrong = json_check(bytes, row->length, &notes, &offset);
    free(bytes);

    if (!row->wrong)
        assert_null(wrong);
    else if (!wrong || !strstr(wrong, row->wrong))
        fail_msg("\"%s\" does not say \"%s\"", wrong ? wrong : "(nothing)", row->wrong);
    assert_int_equal(offset, row->offset);
    if (!row->wrong)
        assert_int_equal(notes.has_nul, row->has_nul);
}

/* Every byte that may not stand in a string, and every one that may. */
static void test_bytes_in_string(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char bytes[] = {'"', (char)c, '"'};
        struct json_notes notes;
        size_t offset;
        bool good = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
        if ((json_check(bytes, 3, &notes, &offset) == NULL) != good)
            fail_msg("byte %02x", (unsigned)c);
    }
}

static void check_depth(size_t depth, bool good)
{
    char *bytes = malloc(2 * depth + 1);
    struct json_notes notes;
    size_t offset;

    memset(bytes, '[', depth);
    memset(bytes + depth, ']', depth);
    const char *wrong = json_check(bytes, 2 * depth, &notes, &offset);
    free(bytes);
    if (good)
        assert_null(wrong);
    else
        assert_non_null(strstr(wrong, "nested"));
}

static void test_depth(void **state)
{
    (void)state;
    check_depth(1000, true);
    check_depth(1001, false);
}

/* Not how deep it is that counts, but how deep it is at once. */
static void test_brackets_side_by_side(void **state)
{
    (void)state;
    char bytes[3 * 2000];
    struct json_notes notes;
    size_t offset;
    for (size_t i = 0; i < sizeof(bytes); i += 3)
        memcpy(bytes + i, i % 2 ? "[]," : "{},", 3);
    assert_null(json_check(bytes, sizeof(bytes), &notes, &offset));
}

int main(void)
{
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    static char names[ROWS][64];
    static struct CMUnitTest tests[ROWS + 3];

    for (size_t i = 0; i < ROWS; i++) {
        size_t length = (size_t)snprintf(names[i], sizeof(names[i]), "row %zu ", i);
        for (size_t b = 0; b < rows[i].length && length < sizeof(names[i]) - 1; b++) {
            char c = rows[i].bytes[b];
            names[i][length++] = c > 0x20 && c < 0x7f ? c : '?';
        }
        tests[i] = (struct CMUnitTest){names[i], check_row, NULL, NULL, &rows[i]};
    }
    tests[ROWS] = (struct CMUnitTest)cmocka_unit_test(test_bytes_in_string);
    tests[ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(test_depth);
    tests[ROWS + 2] = (struct CMUnitTest)cmocka_unit_test(test_brackets_side_by_side);
    return _cmocka_run_group_tests("json", tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
}
