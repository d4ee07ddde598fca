#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drive/account.h"

/* prompt 1000 in blocks of 16: 992 tokens in whole blocks that can hit, 8 of tail */
static cop_requests_row row(uint32_t ideal, uint32_t best, uint32_t predicted, uint32_t resident,
                            uint32_t local, uint32_t migrated)
{
    return (cop_requests_row){.prompt_tokens = 1000,
                              .ideal_hit_tokens = ideal,
                              .best_hit_tokens = best,
                              .predicted_hit_tokens = predicted,
                              .resident_tokens = resident,
                              .hit_local_tokens = local,
                              .hit_migrated_tokens = migrated,
                              .computed_tokens = 1000 - local - migrated};
}

static void assert_class(cop_requests_row r, uint8_t class)
{
    assert_int_equal(cop_account_miss(&r, 16), class);
}

static void test_each_step_of_the_ladder_is_a_class(void **state)
{
    enum { TAIL, COLD, CAPACITY, ELSEWHERE, STALE, SELF };
    assert_class(row(992, 992, 992, 992, 992, 0), TAIL);
    assert_class(row(0, 0, 0, 0, 0, 0), COLD);
    assert_class(row(992, 64, 64, 64, 64, 0), CAPACITY);
    assert_class(row(992, 992, 64, 64, 64, 0), ELSEWHERE);
    assert_class(row(992, 992, 992, 64, 64, 0), STALE);
    assert_class(row(992, 992, 992, 992, 64, 0), SELF);
    assert_class(row(600, 500, 100, 90, 80, 0), ELSEWHERE);
}

/* A pull brought what was elsewhere: what is computed then is the rest, which nobody had. */
static void test_what_a_transfer_brought_is_not_missed(void **state)
{
    assert_class(row(896, 896, 0, 0, 0, 896), 1);
    assert_class(row(896, 896, 896, 0, 896, 0), 1);
    assert_class(row(992, 992, 0, 0, 0, 992), 0);
    assert_class(row(0, 0, 0, 999, 999, 0), 0); /* a partial block hit beyond the ideal */
}

static void test_parts_add_up_whatever_the_clock_says(void **state)
{
    cop_request_story stories[] = {
        {.received_ns = 130,
         .queue_end_ns = 150,
         .transfer_end_ns = 170,
         .prefill_start_ns = 200,
         .prefill_end_ns = 300},
        {.received_ns = 80,
         .queue_end_ns = 90,
         .transfer_end_ns = 95,
         .prefill_start_ns = 110,
         .prefill_end_ns = 200}, /* a clock that is behind */
        {.received_ns = 900,
         .queue_end_ns = 950,
         .transfer_end_ns = 960,
         .prefill_start_ns = 970,
         .prefill_end_ns = 990}, /* one that is ahead */
    };
    for (int i = 0; i < 3; i++) {
        cop_requests_row r = {.scheduled_ns = 50,
                              .arrived_ns = 60,
                              .routed_ns = 100,
                              .dispatch_ns = 10,
                              .route_ns = 40};
        cop_account_stamps(&r, &stories[i], 320);
        assert_int_equal(r.ttft_ns, 270);
        assert_int_equal(r.dispatch_ns + r.route_ns + r.send_ns + r.queue_ns + r.transfer_ns +
                             r.prefill_wait_ns + r.prefill_ns + r.return_ns,
                         r.ttft_ns);
        assert_true(r.send_ns >= 0 && r.queue_ns >= 0 && r.transfer_ns >= 0);
        assert_true(r.prefill_wait_ns >= 0 && r.prefill_ns >= 0 && r.return_ns >= 0);
    }
}

static void test_gain_counts_the_wait_for_the_transfer_alone(void **state)
{
    cop_cost cost = {.per_token_ns = 10, .block_tokens = 16, .chunk_tokens = 1000};
    cop_requests_row r = row(992, 992, 0, 0, 0, 992);
    r.received_ns = 1000;
    r.transfer_end_ns = 4000;
    double saved = cop_cost_prefill_ns(&cost, 1000, 0) - cop_cost_prefill_ns(&cost, 1000, 992);
    assert_true(saved > 9900 && saved < 9940);
    assert_true(cop_account_gain(&cost, &r, 4000) == saved - 3000);
    assert_true(cop_account_gain(&cost, &r, 2000) == saved - 1000); /* ended, then queued */
    assert_true(cop_account_gain(&cost, &r, 500) == saved);         /* before it came */
    assert_true(cop_account_gain(&cost, &r, INT64_MAX) == saved - 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_step_of_the_ladder_is_a_class),
        cmocka_unit_test(test_what_a_transfer_brought_is_not_missed),
        cmocka_unit_test(test_parts_add_up_whatever_the_clock_says),
        cmocka_unit_test(test_gain_counts_the_wait_for_the_transfer_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
