/* `ticketd rejected retry` when memory runs out: on a list that the test makes up. What it does with a database is in
 * tests/e2e/test_rejected.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "failing_malloc.h"
#include "standard_error.h"
#include "store/store.h"

static const struct rejected sealed = {.body = "AAAA",
                                       .length = 4,
                                       .reason = "cannot be decrypted, or is not JSON",
                                       .project_id = 1,
                                       .iv = "00",
                                       .coding = ""};

static bool give_sealed(struct store_list *list, struct rejected *row)
{
    (void)list;
    *row = sealed;
    return true;
}

#define command_rejected command_rejected_of_the_test
#define store_list_next  give_sealed
#include "commands/rejected.c"

/* At whichever allocation: there is the event, or it is said why there is none. */
static void test_retrying_without_memory(void **state)
{
    (void)state;
    struct conf conf = {.cipher = "aes-256-cbc", .cipher_key = "k", .cipher_key_file = ""};
    struct retry retry = {.decrypt = decrypt_open(&conf)};
    bool failed = true;

    assert_non_null(retry.decrypt);
    for (long n = 0; failed; n++) {
        struct event event;
        char text[1000];
        int file = memfd_create("errors", MFD_CLOEXEC), before = redirect(file);
        event_init(&event, NULL, 0);
        retry.failed = false;
        fail_allocations_after(n);
        bool good = next_body(&retry, &event);
        failed = stop_failing_allocations();
        put_back(before);
        read_back(file, text, sizeof(text));
        assert_true(good || failed);
        assert_int_equal(retry.failed, !good);
        assert_string_equal(text, good ? "" : "ticketd: out of memory\n");
        event_free(&event);
        assert_true(n < 1000);
    }
    decrypt_close(retry.decrypt);
}

int main(void)
{
    log_setup(LOG_ERROR, LOG_LOGFMT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retrying_without_memory),
    };
    return cmocka_run_group_tests_name("rejected", tests, NULL, NULL);
}
