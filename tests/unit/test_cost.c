#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "core/cost.h"

#include <math.h>

static void assert_near(double got, double expected, double relative)
{
    if (!(fabs(got - expected) <= relative * fabs(expected)))
        fail_msg("got %.17g, expected %.17g", got, expected);
}

static void test_pairs_are_the_sum_of_positions(void **state)
{
    double sum = 0;
    for (uint64_t position = 100; position < 150; position++)
        sum += (double)position + 1;
    assert_true(cop_cost_pairs(100, 50) == sum);
    assert_true(cop_cost_pairs(7, 0) == 0);
    assert_true(cop_cost_pairs(0, 10) + cop_cost_pairs(10, 5) == cop_cost_pairs(0, 15));
}

static void test_prefill_counts_steps_tokens_and_pairs(void **state)
{
    cop_cost cost = {.step_ns = 1000, .per_token_ns = 10, .per_pair_ns = 0.5, .chunk_tokens = 100};
    assert_true(cop_cost_prefill_ns(&cost, 250, 0) == 3 * 1000 + 250 * 10 + 0.5 * 31375);
    assert_true(cop_cost_prefill_ns(&cost, 250, 50) ==
                2 * 1000 + 200 * 10 + 0.5 * cop_cost_pairs(50, 200));
    assert_true(cop_cost_prefill_ns(&cost, 250, 250) == 0);
    cost.link_alpha_ns = 5000;
    cost.link_beta_ns = 0.1;
    cost.block_bytes = 1024;
    assert_true(cop_cost_transfer_ns(&cost, 4) == 5000 + 0.1 * 4096);
}

enum { N = 60 };

typedef struct {
    double tokens[N], pairs[N], ns[N];
} samples;

/* Steps of 1 .. 256 tokens at several depths; noise is relative. */
static samples draw(double step, double token, double pair, double noise)
{
    samples s;
    cop_rng rng;
    cop_rng_init(&rng, 1, 2);
    for (int i = 0; i < N; i++) {
        uint64_t count = 1 + cop_rng_below(&rng, 256), start = cop_rng_below(&rng, 8192);
        s.tokens[i] = (double)count;
        s.pairs[i] = cop_cost_pairs(start, count);
        s.ns[i] = (step + token * s.tokens[i] + pair * s.pairs[i]) *
                  (1 + noise * (2 * cop_rng_double(&rng) - 1));
    }
    return s;
}

static void test_fit_finds_the_coefficients(void **state)
{
    samples s = draw(2e6, 3e4, 1.5, 0);
    cop_cost cost = {.block_tokens = 16};
    cop_cost_fit(&cost, s.tokens, s.pairs, s.ns, N);
    assert_near(cost.step_ns, 2e6, 1e-9);
    assert_near(cost.per_token_ns, 3e4, 1e-9);
    assert_near(cost.per_pair_ns, 1.5, 1e-9);
    assert_int_equal(cost.block_tokens, 16); /* the rest is left alone */
    s = draw(2e6, 3e4, 1.5, 0.02);
    cop_cost_fit(&cost, s.tokens, s.pairs, s.ns, N);
    assert_near(cost.per_token_ns, 3e4, 0.05);
}

static double residual(const samples *s, double step, double token, double pair)
{
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double d = step + token * s->tokens[i] + pair * s->pairs[i] - s->ns[i];
        sum += d * d;
    }
    return sum;
}

/* Truth with a negative constant: it must become 0, and no small change of the others may do
 * better. */
static void test_fit_never_goes_below_zero(void **state)
{
    samples s = draw(-1e5, 3e4, 1.5, 0);
    cop_cost cost = {0};
    cop_cost_fit(&cost, s.tokens, s.pairs, s.ns, N);
    assert_true(cost.step_ns == 0 && cost.per_token_ns > 0 && cost.per_pair_ns > 0);
    double best = residual(&s, 0, cost.per_token_ns, cost.per_pair_ns);
    assert_true(best < residual(&s, 0, cost.per_token_ns * 1.001, cost.per_pair_ns));
    assert_true(best < residual(&s, 0, cost.per_token_ns * 0.999, cost.per_pair_ns));
    assert_true(best < residual(&s, 0, cost.per_token_ns, cost.per_pair_ns * 1.001));
    assert_true(best < residual(&s, 0, cost.per_token_ns, cost.per_pair_ns * 0.999));
}

static void test_fit_of_samples_that_say_too_little(void **state)
{
    double tokens[] = {64, 64, 64}, pairs[] = {2080, 2080, 2080}, ns[] = {990, 1000, 1010};
    cop_cost cost = {0};
    cop_cost_fit(&cost, tokens, pairs, ns, 3);
    assert_true(cost.step_ns >= 0 && cost.per_token_ns >= 0 && cost.per_pair_ns >= 0);
    assert_near(cost.step_ns + cost.per_token_ns * 64 + cost.per_pair_ns * 2080, 1000, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_are_the_sum_of_positions),
        cmocka_unit_test(test_prefill_counts_steps_tokens_and_pairs),
        cmocka_unit_test(test_fit_finds_the_coefficients),
        cmocka_unit_test(test_fit_never_goes_below_zero),
        cmocka_unit_test(test_fit_of_samples_that_say_too_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
