/* The small modules: text, clock, outcome, sqlstate, answer, lines, digest, log, progress. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/outcome.h"
#include "base/text.h"
#include "commands/bodies.h"
#include "commands/progress.h"
#include "event/digest.h"
#include "event/wrapped.h"
#include "failing_malloc.h"
#include "standard_error.h"
#include "store/sqlstate.h"
#include "web/answer.h"
#include "web/endpoints.h"

static void test_json_strings(void **state)
{
    (void)state;
    struct text text = {0};
    text_append_json(&text, "a\"b\\c\n\x01\x7f\xc3\xa9");
    assert_string_equal(text.bytes, "\"a\\\"b\\\\c\\u000a\\u0001\\u007f\xc3\xa9\"");
    text_free(&text);
    text_append_json(
        &text, "\xc2\x9b\xe2\x80\xae\xf0\x9f\x98\x80\xf3\xa0\x80\x81\xc3(\xff"); /* hidden, seen, hidden; no UTF-8 */
    assert_string_equal(text.bytes, "\"\\u009b\\u202e\xf0\x9f\x98\x80\\udb40\\udc01\\ufffd(\\ufffd\"");
    text_free(&text);
    for (int i = 0; i < 3000; i++)
        text_append(&text, "0123456789");
    assert_int_equal(text.length, 30000);
    assert_int_equal(strlen(text.bytes), 30000);
    text_free(&text);
    assert_null(text.bytes);
}

/* What does not fit into a format is missing, and said to be: no half of it goes out. */
static void test_text_that_fails(void **state)
{
    (void)state;
    struct text text = {0};
    char end[600];

    memset(end, 'x', sizeof(end) - 1);
    end[sizeof(end) - 1] = '\0';
    text_append(&text, "begin ");
    text_append_format(&text, "%.505s ", end);
    assert_false(text.failed);
    text_append_format(&text, "%s", end);
    assert_true(text.failed);
    text_append(&text, "more");
    assert_int_equal(text.length, 512);
    assert_int_equal(strlen(text.bytes), 512);
    text_free(&text);
    assert_false(text.failed);

    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_false(text_write(full, "x", 1));
    assert_int_equal(errno, ENOSPC);
    assert_true(text_write(full, "", 0));
    close(full);
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

static void test_whole_numbers(void **state)
{
    static const char *const none[] = {"", "-", "x", "5x", "5 ", "1.0", "9223372036854775808"};
    int64_t number;
    (void)state;

    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_false(text_integer(none[i], &number));
    assert_true(text_integer("-9223372036854775808", &number));
    assert_int_equal(number, INT64_MIN);
    assert_true(text_integer("130", &number));
    assert_int_equal(number, 130);
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
        {NULL, SQLSTATE_OUTAGE},     {"", SQLSTATE_OUTAGE},      {"08006", SQLSTATE_OUTAGE}, {"25006", SQLSTATE_OUTAGE},
        {"26000", SQLSTATE_OUTAGE},  {"53100", SQLSTATE_OUTAGE}, {"53300", SQLSTATE_OUTAGE}, {"57P01", SQLSTATE_OUTAGE},
        {"58030", SQLSTATE_OUTAGE},  {"40001", SQLSTATE_HELD},   {"40P01", SQLSTATE_HELD},   {"55P03", SQLSTATE_HELD},
        {"57014", SQLSTATE_TIMEOUT}, {"22P02", SQLSTATE_FAULT},  {"23514", SQLSTATE_FAULT},  {"54001", SQLSTATE_FAULT},
        {"P0001", SQLSTATE_FAULT},   {"XX000", SQLSTATE_FAULT},  {"20000", SQLSTATE_FAULT},  {"21000", SQLSTATE_FAULT},
        {"55000", SQLSTATE_FAULT},   {"42703", SQLSTATE_FAULT},  {"53200", SQLSTATE_FAULT},  {"ZX001", SQLSTATE_FAULT},
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

static void test_endpoints(void **state)
{
    (void)state;
    static const struct {
        struct request_head head;
        enum endpoint endpoint;
    } cases[] = {
        {{.uri = "/vcc/tickets"}, ENDPOINT_EVENTS},
        {{.uri = "/vcc/tickets/?a=/livez"}, ENDPOINT_EVENTS},
        {{.uri = "/vcc/tickets/livez?a=b"}, ENDPOINT_LIVE},
        {{.uri = "/x/readyz/"}, ENDPOINT_READY},
        {{.uri = "/metrics", .path_info = "/livez"}, ENDPOINT_METRICS},
        {{.uri = "", .path_info = "/report.json", .script_name = "/livez"}, ENDPOINT_REPORT},
        {{.uri = "", .path_info = "", .script_name = "/tickets/livez"}, ENDPOINT_LIVE},
        {{.uri = "", .path_info = "", .script_name = ""}, ENDPOINT_EVENTS},
        {{.uri = "/"}, ENDPOINT_EVENTS},
        {{.uri = "livez"}, ENDPOINT_EVENTS},
        {{.uri = "/livez//"}, ENDPOINT_EVENTS},
        {{.uri = "/xlivez"}, ENDPOINT_EVENTS},
        {{.uri = "/livezx"}, ENDPOINT_EVENTS},
        {{.uri = "/livez/x"}, ENDPOINT_EVENTS},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (endpoints_find(&cases[i].head) != cases[i].endpoint)
            fail_msg("case %zu: %s", i, cases[i].head.uri);
}

static int file_of(const char *content)
{
    int fd = memfd_create("lines", MFD_CLOEXEC);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* No line is cut: where reading fails or memory runs out there is none. */
static void test_lines_that_cannot_be_read(void **state)
{
    (void)state;
    static const char content[] = "first\r\nsecond, which is longer\n";
    struct bodies *lines = calloc(1, sizeof(*lines));
    struct body line;
    bool failed = true;

    *lines = (struct bodies){.fd = -1, .left = 10, .most = 100};
    assert_false(bodies_next(lines, &line));
    assert_int_equal(lines->error, EBADF);
    assert_null(line.bytes);

    for (long n = 0; failed; n++) {
        *lines = (struct bodies){.fd = file_of(content), .left = strlen(content), .most = 100};
        int count = 0;
        fail_allocations_after(n);
        while (bodies_next(lines, &line)) {
            assert_string_equal(line.bytes, count++ ? "second, which is longer" : "first");
            free(line.bytes);
        }
        failed = stop_failing_allocations();
        assert_null(line.bytes);
        assert_int_equal(count == 2, !failed);
        assert_int_equal(lines->error, failed ? ENOMEM : 0);
        close(lines->fd);
        assert_true(n < 100);
    }
    free(lines);
}

/* A body is unwrapped, or refused, or left as it is. */
static void test_wrapped_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *sent, *inner, *wrong;
        int64_t time;
    } cases[] = {
        {"\t{\"event\" : {\"a\": \"}\\\"\"} ,\"received_at\":\"1970-01-01T00:00:01\\u002b00:00\" }\r",
         "{\"a\": \"}\\\"\"}", NULL, 1000000},
        {"{\"received_at\":2,\"x\":[{}],\"event\":1,\"received_at\":3,\"event\":[]}", "[]", NULL, 3000000},
        {"{\"received_at\":-1,\"event\":{}}", NULL, "is before 1970", -1},
        {"{\"received_at\":11,\"event\":{}}", NULL, "is in the future", -1},
        {"{\"received_at\":1x,\"event\":{}}", NULL, "must be an ISO 8601 date-time or an integer", -1},
        {"{\"received_at\":\"1970-01-01\\u0000\",\"event\":{}}", NULL, "must be an ISO 8601 date-time or an integer",
         -1},
        {"{\"received_at\":1,\"event\":{}} x", NULL, NULL, -1},
        {"{\"received_at\":1,\"event\":{}", NULL, NULL, -1},
        {"{\"received_at\":1,\"event\":{}]", NULL, NULL, -1},
        {"{\"received_at\":1,\"event\"", NULL, NULL, -1},
        {"[{\"received_at\":1,\"event\":{}}]", NULL, NULL, -1},
        {"{\"received_at\":1}", NULL, NULL, -1},
        {"{\"action\":\"add\",\"ticket\":{\"received_at\":1,\"event\":1}}", NULL, NULL, -1},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool failed = true;
        for (long n = 0; failed; n++) {
            struct event event;
            int64_t time = -1;
            event_init(&event, strdup(cases[i].sent), strlen(cases[i].sent));
            fail_allocations_after(n);
            bool good = wrapped_open(&event, 10000000, &time);
            failed = stop_failing_allocations();
            if (good && !failed) {
                assert_string_equal(event.body, cases[i].inner ? cases[i].inner : cases[i].sent);
                assert_int_equal(event.length, strlen(event.body));
                assert_int_equal(time, cases[i].time);
                assert_int_equal(event.fault_count, cases[i].wrong ? 1 : 0);
                if (cases[i].wrong)
                    assert_string_equal(event.faults[0].detail, cases[i].wrong);
            }
            assert_true(good || failed);
            event_free(&event);
        }
    }
}

/* Right, or said to be wrong; and what failed once does not spoil the next. */
static void test_digests_without_memory(void **state)
{
    (void)state;
    uint8_t right[DIGEST_SIZE], value[DIGEST_SIZE];
    struct digest *digest = digest_new();
    bool failed = true;

    digest_add(digest, "abc", 3);
    assert_true(digest_end(digest, right));
    assert_memory_equal(right, "\xba\x78\x16\xbf\x8f\x01\xcf\xea", 8); /* FIPS 180-2, appendix B.1 */
    digest_free(digest);
    for (long n = 0; failed; n++) {
        fail_allocations_after(n);
        digest = digest_new();
        bool good = false;
        if (digest) {
            digest_add(digest, "abc", 3);
            good = digest_end(digest, value);
        }
        failed = stop_failing_allocations();
        assert_true(good || failed);
        if (good)
            assert_memory_equal(value, right, sizeof(right));
        digest_free(digest);
        assert_true(n < 100);
    }
}

/* A line is a line whatever is in it; behind the time: */
static void test_log_lines(void **state)
{
    (void)state;
    static const char expected[] = "\"level\":\"error\",\"msg\":\"it is \\\"so\\\"\",\"why\":\"a\\u000ab\",\"n\":-5}\n"
                                   "level=error msg=\"it is \\\"so\\\"\" why=\"a\\u000ab\" n=-5 bare=a/b\n";
    int file = memfd_create("log", MFD_CLOEXEC), before = redirect(file);
    char text[1000], *second;

    log_setup(LOG_ERROR, LOG_JSON);
    log_line(LOG_ERROR, "it is \"so\"", LOG_TEXT("why", "a\nb"), LOG_NUMBER("n", -5), LOG_TEXT("none", ""));
    log_line(LOG_WARNING, "nobody wants to know");
    log_setup(LOG_ERROR, LOG_LOGFMT);
    log_line(LOG_ERROR, "it is \"so\"", LOG_TEXT("why", "a\nb"), LOG_NUMBER("n", -5), LOG_TEXT("none", ""),
             LOG_TEXT("bare", "a/b"));
    put_back(before);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    before = redirect(full);
    errno = EDOM;
    log_line(LOG_ERROR, "there is no room for it");
    int kept = errno;
    put_back(before);
    close(full);
    assert_int_equal(kept, EDOM);
    read_back(file, text, sizeof(text));
    assert_memory_equal(text, "{\"time\":\"20", 11);
    second = strstr(text, "\ntime=20");
    assert_non_null(second);
    memmove(second + 1, strstr(second, "level="), strlen(strstr(second, "level=")) + 1);
    assert_string_equal(strstr(text, "\"level\""), expected);
}

/* How long it takes, by the rate of the last seconds. */
static void test_time_that_is_left(void **state)
{
    (void)state;
    static const uint64_t done[] = {1, 1000};
    int terminal, end;
    struct progress progress;
    struct winsize size = {.ws_col = 100};

    setenv("TERM", "xterm", 1);
    for (size_t i = 0; i < 2; i++) {
        char text[1000] = "";
        assert_int_equal(openpty(&terminal, &end, NULL, NULL, &size), 0);
        int before = redirect(end);
        progress_start(&progress, 100000, "reading");
        nanosleep(&(struct timespec){.tv_nsec = 120000000}, NULL);
        progress_update(&progress, done[i], 7);
        progress_end(&progress);
        put_back(before);
        assert_true(read(terminal, text, sizeof(text) - 1) > 0);
        close(terminal);
        close(end);
        /* 100,000 at 1 in 0.12 s or a little more: 3 h 20 min and more; at 1,000 in it: 12 s and more */
        const char *left = strstr(text, "/s  ");
        assert_non_null(left);
        int hours = 0, minutes = 0, seconds = 0;
        if (i == 0)
            assert_int_equal(sscanf(left, "/s  %d:%2d:%2d left", &hours, &minutes, &seconds), 3);
        else
            assert_int_equal(sscanf(left, "/s  %d:%2d left", &minutes, &seconds), 2);
        int total = hours * 3600 + minutes * 60 + seconds;
        assert_in_range(total, i == 0 ? 11900 : 11, i == 0 ? 1000000 : 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_visible_text),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_sqlstates),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_text_that_fails),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_lines_that_cannot_be_read),
        cmocka_unit_test(test_wrapped_bodies),
        cmocka_unit_test(test_digests_without_memory),
        cmocka_unit_test(test_log_lines),
        cmocka_unit_test(test_time_that_is_left),
        cmocka_unit_test(test_whole_numbers),
    };
    return cmocka_run_group_tests_name("small", tests, NULL, NULL);
}
