/* Decoding. Each pair of files in a folder of TEST_DATA is a case: NAME.json, the body, and NAME.expect, what must come
 * of it. NAME.expect is the event as describe() writes it; a line that begins with # says what the case is for. The
 * lines `detail …` that explain a fault may be left out, all of them or none. A new case is two new files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"
#include "event/event.h"
#include "event/timestamp.h"
#include "failing_malloc.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char *read_file(const char *name, const char *suffix, size_t *length)
{
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s%s", TEST_DATA, name, suffix);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s is missing", path);
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*length + 1);
    assert_int_equal(fread(bytes, 1, *length, file), *length);
    bytes[*length] = '\0';
    fclose(file);
    return bytes;
}

/* Decodes a copy of the body of just this length: the sanitizer sees a look past the end. */
static enum outcome decode(struct event *event, const char *body, size_t length)
{
    char *copy = malloc(length + 1);
    memcpy(copy, body, length);
    copy[length] = '\0';
    event_init(event, copy, length);
    return event_decode(event) ? event->refusal : OUTCOME_UNAVAILABLE;
}

static void describe_time(struct text *text, int64_t microseconds)
{
    int64_t seconds = microseconds / 1000000 - (microseconds % 1000000 < 0);
    int64_t fraction = microseconds - seconds * 1000000;
    time_t t = (time_t)seconds;
    struct tm tm;

    gmtime_r(&t, &tm);
    text_append_format(text, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                       tm.tm_min, tm.tm_sec);
    if (fraction)
        text_append_format(text, ".%06" PRId64, fraction);
    text_append(text, "Z");
}

static void describe_value(struct text *text, enum field field, const struct value *value)
{
    if (value->presence == ABSENT)
        return;
    text_append_format(text, "%s ", event_fields[field].column);
    if (value->presence == CLEARED) {
        text_append(text, "null");
    } else if (event_fields[field].type == TYPE_TEXT) {
        assert_int_equal(strlen(value->text), value->length);
        text_append_json(text, value->text);
    } else if (event_fields[field].type == TYPE_TIME) {
        describe_time(text, value->number);
    } else {
        text_append_format(text, "%" PRId64, value->number);
    }
    text_append(text, "\n");
}

/* One line a fact: `outcome decoded` or its status; `action`; a column that is not absent and its value; a name of
 * extra; the pointer of a fault. Texts are JSON strings. */
static char *describe(const struct event *event, bool details)
{
    struct text text = {0};

    if (event->refusal == OUTCOME_NONE)
        text_append_format(&text, "outcome decoded\naction %s\n", action_name(event->action));
    else
        text_append_format(&text, "outcome %d\n", outcome_status(event->refusal));
    for (int f = 0; f < FIELD_COUNT && event->refusal == OUTCOME_NONE; f++)
        describe_value(&text, (enum field)f, &event->values[f]);
    for (size_t i = 0; i < event->extra_count; i++) {
        text_append(&text, "extra ");
        text_append_json(&text, event->extra[i]);
        text_append(&text, "\n");
    }
    for (size_t i = 0; i < event->fault_count; i++) {
        text_append(&text, "fault ");
        text_append_json(&text, event->faults[i].pointer);
        text_append(&text, "\n");
        if (details) {
            text_append(&text, "detail ");
            text_append(&text, event->faults[i].detail);
            text_append(&text, "\n");
        }
    }
    return text.bytes;
}

/* The file without its comments. */
static char *read_expected(const char *name)
{
    size_t length;
    struct text text = {0};
    char *file = read_file(name, ".expect", &length), *rest = file;
    for (char *line; (line = strsep(&rest, "\n"));) {
        if (*line == '#' || (*line == '\0' && !rest))
            continue;
        text_append(&text, line);
        text_append(&text, "\n");
    }
    free(file);
    return text.bytes;
}

static void check_case(void **state)
{
    const char *name = *state;
    struct event event;
    size_t length;
    char *body = read_file(name, ".json", &length);
    char *expected = read_expected(name);
    assert_non_null(expected);
    enum outcome outcome = decode(&event, body, length);

    assert_int_equal(outcome, event.refusal);
    char *described = describe(&event, strstr(expected, "\ndetail ") != NULL);
    assert_string_equal(described, expected);

    /* The body is kept as it came, but for a BOM, whatever came of it. */
    size_t skipped = length - event.length;
    assert_true(skipped == 0 || (skipped == 3 && memcmp(body, "\xef\xbb\xbf", 3) == 0));
    assert_ptr_equal(event.body, event.allocation + skipped);
    assert_memory_equal(event.allocation, body, length + 1);

    free(described);
    free(expected);
    free(body);
    event_free(&event);
}

static void test_init_and_free(void **state)
{
    (void)state;
    struct event event;
    char *body = strdup("{}");

    event_init(&event, body, 2);
    assert_ptr_equal(event.body, body);
    assert_ptr_equal(event.allocation, body);
    assert_int_equal(event.length, 2);
    assert_int_equal(event.outcome, OUTCOME_NONE);
    assert_int_equal(event.received_at, 0);
    event_free(&event);
    assert_null(event.body);
    assert_null(event.allocation);
    event_free(&event);

    event_init(&event, NULL, 0);
    assert_true(event_decode(&event));
    assert_int_equal(event.refusal, OUTCOME_BAD_REQUEST);
    assert_int_equal(event.fault_count, 1);
    event_free(&event);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(event_field_by_column("project_id"), FIELD_project_id);
    assert_int_equal(event_field_by_column("soft_deadline"), FIELD_soft_deadline);
    assert_int_equal(event_field_by_column("softDeadline"), FIELD_COUNT);
    assert_int_equal(event_field_by_column(""), FIELD_COUNT);
    for (int f = 0; f < FIELD_COUNT; f++)
        assert_int_equal(event_field_by_column(event_fields[f].column), f);
    assert_string_equal(action_name(ACTION_ADD), "add");
    assert_string_equal(action_name(ACTION_UPDATE), "update");
    assert_string_equal(action_name(ACTION_DELETE), "delete");
}

/* Times of a body without an offset are times of the configured zone. */
static void test_zone(void **state)
{
    (void)state;
    static const char body[] =
        "{\"action\":\"add\",\"ticket\":{\"ticketId\":1,\"projectId\":2,\"softDeadline\":\"2024-07-01 12:00\"}}";
    struct event event;
    assert_true(timestamp_set_zone("Europe/Budapest"));
    enum outcome outcome = decode(&event, body, sizeof(body) - 1);
    assert_true(timestamp_set_zone("UTC"));
    assert_int_equal(outcome, OUTCOME_NONE);
    assert_int_equal(event.values[FIELD_soft_deadline].number, INT64_C(1719828000000000));
    event_free(&event);
}

/* What a fault tells is bounded, and never ends in half a character. */
static void test_fault_length(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        struct event event;
        char long_text[2000] = "abc";
        for (size_t at = shift; at + 5 < sizeof(long_text); at += 4)
            memcpy(long_text + at, "\xf0\x9f\x98\x80", 5);
        event_init(&event, NULL, 0);
        event_refuse(&event, OUTCOME_UNPROCESSABLE, long_text, long_text);
        const char *texts[] = {event.faults[0].pointer, event.faults[0].detail};
        for (int i = 0; i < 2; i++) {
            size_t length = strlen(texts[i]);
            assert_true(length > 200 && length < 300);
            assert_int_equal((length - shift - 3) % 4, 0);
            assert_memory_equal(texts[i], long_text, length - 3);
            assert_string_equal(texts[i] + length - 3, "\xe2\x80\xa6");
        }
        event_free(&event);
    }
}

static void test_fault_copies(void **state)
{
    (void)state;
    struct event event;
    char pointer[] = "/a", detail[257];

    memset(detail, 'x', 256);
    detail[256] = '\0';
    event_init(&event, NULL, 0);
    event_refuse(&event, OUTCOME_UNPROCESSABLE, pointer, detail);
    pointer[0] = '?';
    assert_string_equal(event.faults[0].pointer, "/a");
    assert_string_equal(event.faults[0].detail, detail);
    assert_int_equal(event.outcome, OUTCOME_NONE);
    event_free(&event);
}

/* 300 faults of the body: 100 are kept, and a word that there were more. */
static void test_many_faults(void **state)
{
    (void)state;
    struct event event;
    struct text body = {0};
    text_append(&body, "{\"action\":\"add\",\"ticket\":{\"ticketId\":1,\"projectId\":2,\"list\":[\"\\u0000\"");
    for (int i = 1; i < 300; i++)
        text_append(&body, ",\"\\u0000\"");
    text_append(&body, "]}}");
    assert_int_equal(decode(&event, body.bytes, body.length), OUTCOME_UNPROCESSABLE);
    assert_int_equal(event.fault_count, 101);
    assert_string_equal(event.faults[0].pointer, "/ticket/list/0");
    assert_string_equal(event.faults[99].pointer, "/ticket/list/99");
    assert_string_equal(event.faults[100].pointer, "");
    assert_string_equal(event.faults[100].detail, "has more faults than are listed");
    event_free(&event);
    text_free(&body);
}

static void test_many_calls(void **state)
{
    (void)state;
    struct event event;
    event_init(&event, NULL, 0);
    for (int i = 0; i < 200; i++)
        event_refuse(&event, OUTCOME_UNPROCESSABLE, "/a", "is wrong");
    assert_int_equal(event.fault_count, 101);
    assert_string_equal(event.faults[99].detail, "is wrong");
    assert_string_equal(event.faults[100].detail, "has more faults than are listed");
    event_free(&event);
}

/* The pointer of a name of 100 kB is cut. */
static void test_long_name(void **state)
{
    (void)state;
    struct event event;
    struct text body = {0};
    text_append(&body, "{\"action\":\"add\",\"ticket\":{\"ticketId\":1,\"projectId\":2,\"");
    for (int i = 0; i < 100000; i++)
        text_append(&body, "~");
    text_append(&body, "\":\"\\u0000\"}}");
    assert_int_equal(decode(&event, body.bytes, body.length), OUTCOME_UNPROCESSABLE);
    assert_int_equal(event.fault_count, 1);
    assert_true(strlen(event.faults[0].pointer) < 300);
    assert_memory_equal(event.faults[0].pointer, "/ticket/~0~0~0", 14);
    event_free(&event);
    text_free(&body);
}

/* An attribute of 1 MB and an unknown name of 100 kB are like any others. */
static void test_long_text(void **state)
{
    (void)state;
    struct event event;
    struct text body = {0};
    text_append(&body, "{\"action\":\"add\",\"ticket\":{\"ticketId\":1,\"projectId\":2,\"description\":\"");
    for (int i = 0; i < 500000; i++)
        text_append(&body, "\xc3\xa9");
    text_append(&body, "\",\"");
    for (int i = 0; i < 100000; i++)
        text_append(&body, "n");
    text_append(&body, "\":1}}");
    assert_int_equal(decode(&event, body.bytes, body.length), OUTCOME_NONE);
    assert_int_equal(event.values[FIELD_description].length, 1000000);
    assert_int_equal(strlen(event.values[FIELD_description].text), 1000000);
    assert_int_equal(event.extra_count, 1);
    assert_int_equal(strlen(event.extra[0]), 100000);
    event_free(&event);
    text_free(&body);
}

/* A hundred thousand unknown attributes, each sent twice: each name once, and without quadratic time. */
static void test_many_names(void **state)
{
    (void)state;
    struct event event;
    struct text body = {0};
    text_append(&body, "{\"action\":\"add\",\"ticket\":{\"ticketId\":1,\"projectId\":2");
    for (int i = 0; i < 200000; i++)
        text_append_format(&body, ",\"%d\":0", i % 100000);
    text_append(&body, "}}");
    clock_t start = clock();
    assert_int_equal(decode(&event, body.bytes, body.length), OUTCOME_NONE);
    assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
    assert_int_equal(event.extra_count, 100000);
    for (size_t i = 1; i < event.extra_count; i++)
        assert_true(strcmp(event.extra[i - 1], event.extra[i]) < 0);
    event_free(&event);
    text_free(&body);
}

/* The event does not point into a tree that is gone, nor does a refused one carry half of its values. */
static void test_refused_has_no_values(void **state)
{
    (void)state;
    static const char body[] = "{\"action\":\"add\",\"ticket\":{\"ticketId\":1,\"title\":\"x\",\"foo\":1}}";
    struct event event;
    assert_int_equal(decode(&event, body, sizeof(body) - 1), OUTCOME_UNPROCESSABLE);
    for (int f = 0; f < FIELD_COUNT; f++) {
        assert_int_equal(event.values[f].presence, f == FIELD_ticket_id ? PRESENT : ABSENT);
        assert_null(event.values[f].text);
    }
    assert_int_equal(event.extra_count, 0);
    event_free(&event);
}

static void check_nested(size_t depth, enum outcome expected)
{
    struct event event;
    struct text body = {0};
    text_append(&body, "{\"action\":\"add\",\"ticket\":{\"ticketId\":1,\"projectId\":2,\"a\":");
    for (size_t i = 0; i < depth; i++)
        text_append(&body, "[");
    text_append(&body, "\"\\u0000\"");
    for (size_t i = 0; i < depth; i++)
        text_append(&body, "]");
    text_append(&body, "}}");
    assert_int_equal(decode(&event, body.bytes, body.length), expected);
    if (expected == OUTCOME_BAD_REQUEST)
        assert_non_null(strstr(event.faults[0].detail, "nested too deeply"));
    event_free(&event);
    text_free(&body);
}

/* At whichever allocation: refused as unavailable, or decoded just as with enough of it. */
static void test_decoding_without_memory(void **state)
{
    (void)state;
    static const char *const samples[] = {
        "{\"action\":\"add\",\"ticket\":{\"projectId\":1,\"ticketId\":\"2\",\"title\":\"a\",\"z\":1,\"y\":{\"x\":[1,"
        "null]}}}",
        "{\"action\":\"add\",\"ticket\":{\"projectId\":1,\"ticketId\":\"2\",\"title\":\"\\u0000\"}}",
        "{\"action\":\"close\",\"ticket\":{\"ticketId\":1.5,\"title\":7,\"softDeadline\":\"2023-02-29\"}}",
        "{\"action\":",
        "\xff",
        "",
    };

    for (size_t s = 0; s < sizeof(samples) / sizeof(samples[0]); s++) {
        struct event whole;
        event_init(&whole, strdup(samples[s]), strlen(samples[s]));
        assert_true(event_decode(&whole));
        bool failed = true;
        for (long n = 0; failed; n++) {
            struct event event;
            event_init(&event, strdup(samples[s]), strlen(samples[s]));
            fail_allocations_after(n);
            bool good = event_decode(&event);
            failed = stop_failing_allocations();
            if (good) {
                assert_int_equal(event.refusal, whole.refusal);
                assert_int_equal(event.extra_count, whole.extra_count);
                assert_int_equal(event.values[FIELD_ticket_id].number, whole.values[FIELD_ticket_id].number);
            } else {
                assert_true(failed);
            }
            assert_string_not_equal(event_reason(&event), "");
            event_free(&event);
            assert_true(n < 1000);
        }
        event_free(&whole);
    }
}

/* 1000 levels are taken, the two of the event included. */
static void test_nesting(void **state)
{
    (void)state;
    check_nested(998, OUTCOME_UNPROCESSABLE);
    check_nested(999, OUTCOME_BAD_REQUEST);
}

/* Whatever is cut off a body, what is left is refused or is an event; nothing is read behind its end. */
static void test_truncated(void **state)
{
    (void)state;
    size_t length;
    char *body = read_file("sample/add", ".json", &length);
    while (length > 0 && body[length - 1] == '\n')
        length--;
    for (size_t cut = 0; cut < length; cut++) {
        struct event event;
        assert_int_equal(decode(&event, body, cut), OUTCOME_BAD_REQUEST);
        assert_int_equal(event.fault_count, 1);
        event_free(&event);
    }
    free(body);
}

#define CASES_MAX 4000

static char *cases[CASES_MAX];
static size_t case_count;

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A NAME that has a body or an expectation: one without the other fails. */
static int find_case(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status;
    const char *name = path + strlen(TEST_DATA "/"), *dot = strrchr(path + place->base, '.');
    if (type != FTW_F || !dot || (strcmp(dot, ".json") != 0 && strcmp(dot, ".expect") != 0))
        return 0;
    if (case_count == CASES_MAX) {
        fprintf(stderr, "CASES_MAX is too small\n");
        exit(1);
    }
    cases[case_count++] = strndup(name, (size_t)(dot - name));
    return 0;
}

static void find_cases(void)
{
    if (nftw(TEST_DATA, find_case, 16, FTW_PHYS) != 0) {
        perror(TEST_DATA);
        exit(1);
    }
    qsort(cases, case_count, sizeof(cases[0]), compare_names);
    size_t kept = 0;
    for (size_t i = 0; i < case_count; i++) {
        if (kept && strcmp(cases[kept - 1], cases[i]) == 0)
            free(cases[i]);
        else
            cases[kept++] = cases[i];
    }
    case_count = kept;
}

int main(void)
{
    static struct CMUnitTest tests[CASES_MAX + 20] = {
        cmocka_unit_test(test_init_and_free), cmocka_unit_test(test_names),
        cmocka_unit_test(test_zone),          cmocka_unit_test(test_fault_length),
        cmocka_unit_test(test_fault_copies),  cmocka_unit_test(test_many_faults),
        cmocka_unit_test(test_long_name),     cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_many_names),    cmocka_unit_test(test_refused_has_no_values),
        cmocka_unit_test(test_many_calls),    cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_truncated),     cmocka_unit_test(test_decoding_without_memory),
    };
    size_t count = 0;

    find_cases();
    while (tests[count].name)
        count++;
    for (size_t i = 0; i < case_count; i++)
        tests[count++] = (struct CMUnitTest){cases[i], check_case, NULL, NULL, cases[i]};
    int failed = _cmocka_run_group_tests("event", tests, count, NULL, NULL);
    for (size_t i = 0; i < case_count; i++)
        free(cases[i]);
    return failed;
}
