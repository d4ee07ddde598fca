#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/turns.h"

static void test_the_order_is_that_of_the_announcements(void **state)
{
    cop_turns turns = {0};
    int a, b, c;
    assert_null(cop_turns_next(&turns));
    cop_turns_expect(&turns, 7);
    cop_turns_expect(&turns, 9);
    cop_turns_expect(&turns, 12);
    cop_turns_post(&turns, 12, &c);
    cop_turns_post(&turns, 9, &b);
    assert_null(cop_turns_next(&turns)); /* 7 may still be posted */
    cop_turns_post(&turns, 7, &a);
    assert_int_equal(turns.posted, 3);
    assert_ptr_equal(cop_turns_next(&turns), &a);
    assert_ptr_equal(cop_turns_next(&turns), &a);
    cop_turns_take(&turns);
    assert_ptr_equal(cop_turns_next(&turns), &b);
    cop_turns_take(&turns);
    assert_ptr_equal(cop_turns_next(&turns), &c);
    cop_turns_take(&turns);
    assert_null(cop_turns_next(&turns));
    assert_int_equal(turns.posted, 0);
    cop_turns_fini(&turns);
}

static void test_who_is_forgotten_holds_up_nobody(void **state)
{
    cop_turns turns = {0};
    int posted[200];
    for (uint64_t id = 1; id <= 200; id++)
        cop_turns_expect(&turns, id);
    for (uint64_t id = 200; id >= 1; id--) /* every third one is never posted */
        if (id % 3)
            cop_turns_post(&turns, id, &posted[id - 1]);
        else if (id > 100)
            cop_turns_forget(&turns, id);
    for (uint64_t id = 1; id <= 200; id++) {
        if (id % 3 == 0 && id <= 100) {
            assert_null(cop_turns_next(&turns));
            cop_turns_forget(&turns, id);
        }
        if (id % 3 == 0)
            continue;
        assert_ptr_equal(cop_turns_next(&turns), &posted[id - 1]);
        cop_turns_take(&turns);
    }
    assert_int_equal(turns.count, 0);
    cop_turns_fini(&turns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_order_is_that_of_the_announcements),
        cmocka_unit_test(test_who_is_forgotten_holds_up_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
