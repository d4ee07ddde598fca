#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/block_pool.h"

static void test_blocks_come_in_order_until_none_is_left(void **state)
{
    cop_pool pool;
    cop_pool_init(&pool, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(pool.free_count, 5 - i);
        assert_int_equal(cop_pool_take(&pool), i);
        cop_pool_check(&pool);
    }
    assert_int_equal(cop_pool_take(&pool), COP_NO_BLOCK);
    assert_int_equal(cop_pool_take(&pool), COP_NO_BLOCK);
    cop_pool_fini(&pool);
}

static void test_what_was_given_last_is_taken_first(void **state)
{
    cop_pool pool;
    cop_pool_init(&pool, 4);
    for (int i = 0; i < 3; i++)
        cop_pool_take(&pool);
    cop_pool_give(&pool, 2);
    cop_pool_give(&pool, 0);
    cop_pool_check(&pool);
    assert_int_equal(cop_pool_take(&pool), 0);
    assert_int_equal(cop_pool_take(&pool), 2);
    assert_int_equal(cop_pool_take(&pool), 3);
    assert_int_equal(cop_pool_take(&pool), COP_NO_BLOCK);
    cop_pool_check(&pool);
    cop_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_come_in_order_until_none_is_left),
        cmocka_unit_test(test_what_was_given_last_is_taken_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
