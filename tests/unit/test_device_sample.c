#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "device/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 64, DRAWS = 200000 };

static void test_greedy_takes_the_lowest_of_the_greatest(void **state)
{
    float logits[] = {-1, 3, 0, 3, 2.5f};
    double weights[5];
    assert_int_equal(cop_sample(logits, 5, 0, 1, 1, 0, weights), 1);
    logits[1] = -3;
    assert_int_equal(cop_sample(logits, 5, 0, 0.1f, 9, 9, weights), 3);
}

static void test_draw_depends_on_seed_and_position_alone(void **state)
{
    float logits[N];
    double weights[N];
    int differ_by_seed = 0, differ_by_position = 0;
    for (int i = 0; i < N; i++)
        logits[i] = (float)sin(i);
    for (uint32_t p = 0; p < 100; p++) {
        uint32_t token = cop_sample(logits, N, 1, 0.9f, 5, p, weights);
        memset(weights, 0xff, sizeof weights);
        assert_int_equal(cop_sample(logits, N, 1, 0.9f, 5, p, weights), token);
        differ_by_seed += cop_sample(logits, N, 1, 0.9f, 6, p, weights) != token;
        differ_by_position += cop_sample(logits, N, 1, 0.9f, 5, p + 1, weights) != token;
    }
    assert_true(differ_by_seed > 80 && differ_by_position > 80); /* of 100; ~97 expected */
}

/* The obvious nucleus: sort by (logit down, id up), add until top_p. */
static const float *sort_logits;
static int by_logit(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (sort_logits[x] != sort_logits[y])
        return sort_logits[x] > sort_logits[y] ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void obvious_distribution(const float *logits, float temperature, float top_p, double p[N])
{
    uint32_t order[N];
    double total = 0, sum = 0, kept = 0;
    for (uint32_t i = 0; i < N; i++) {
        order[i] = i;
        total += p[i] = exp((double)logits[i] / temperature);
    }
    sort_logits = logits;
    qsort(order, N, sizeof *order, by_logit);
    for (int i = 0; i < N; i++) {
        double mine = p[order[i]];
        if (sum >= top_p * total)
            p[order[i]] = 0;
        else
            kept += mine;
        sum += mine;
    }
    for (int i = 0; i < N; i++)
        p[i] /= kept;
}

/* Chi-squared against the obvious distribution, with ties at the edge of the nucleus. */
static void check_distribution(float temperature, float top_p)
{
    float logits[N];
    double weights[N], p[N], chi = 0;
    static int seen[N];
    int kinds = 0;
    for (int i = 0; i < N; i++)
        logits[i] = (float)(i * 37 % 16) / 4 - 2; /* every value four times */
    obvious_distribution(logits, temperature, top_p, p);
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < DRAWS; i++)
        seen[cop_sample(logits, N, temperature, top_p, 3, i, weights)]++;
    for (int i = 0; i < N; i++) {
        if (p[i] == 0) {
            assert_int_equal(seen[i], 0);
            continue;
        }
        double expected = p[i] * DRAWS;
        chi += (seen[i] - expected) * (seen[i] - expected) / expected;
        kinds++;
    }
    double spread = sqrt(2.0 * (kinds - 1)); /* of chi-squared, mean kinds - 1 */
    assert_true(chi < kinds - 1 + 5 * spread + 5);
}

static void test_draws_follow_the_nucleus(void **state)
{
    check_distribution(1, 1);
    check_distribution(0.5f, 1);
    check_distribution(1, 0.9f);
    check_distribution(1, 0.43f);
    check_distribution(2, 0.05f);
    check_distribution(1, 0.01f);
}

static void test_extreme_logits(void **state)
{
    float logits[N];
    double weights[N];
    for (int i = 0; i < N; i++)
        logits[i] = i == 17 ? 1e30f : -1e30f;
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(cop_sample(logits, N, 0.01f, 0.99f, 1, i, weights), 17);
    for (int i = 0; i < N; i++)
        logits[i] = i % 2 ? 0.0f : -0.0f; /* all equal: the nucleus of a half is the first half */
    for (uint32_t i = 0; i < 200; i++)
        assert_true(cop_sample(logits, N, 1, 0.5f, 1, i, weights) < N / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_lowest_of_the_greatest),
        cmocka_unit_test(test_draw_depends_on_seed_and_position_alone),
        cmocka_unit_test(test_draws_follow_the_nucleus),
        cmocka_unit_test(test_extreme_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
