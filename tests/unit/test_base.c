#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/heap.h"
#include "base/histogram.h"
#include "base/link.h"
#include "base/map.h"
#include "base/median.h"
#include "base/rng.h"
#include "base/status.h"

#include <stdlib.h>
#include <string.h>

static void test_status_text_and_prefix(void **state)
{
    cop_error err;
    assert_int_equal(cop_fail(&err, COP_ERR_INVALID, "key '%s'", "x"), COP_ERR_INVALID);
    assert_int_equal(cop_fail_prefix(&err, "file %d", 7), COP_ERR_INVALID);
    assert_string_equal(err.text, "file 7: key 'x'");
    assert_int_equal(cop_status_exit(COP_ERR_INVALID), 2);
    assert_int_equal(cop_fail(NULL, COP_ERR_IO, "nobody listens"), COP_ERR_IO);
}

/* The map beside a plain array over a small key space, so that probes collide and gaps close. */
static void test_map_against_array(void **state)
{
    enum { KEYS = 300 };
    cop_rng rng;
    cop_rng_init(&rng, 42, 0);
    cop_map map;
    cop_map_init(&map);
    int64_t truth[KEYS];
    memset(truth, 0xff, sizeof truth);
    for (int i = 0; i < 200000; i++) {
        uint64_t key = cop_rng_below(&rng, KEYS);
        if (cop_rng_below(&rng, 2)) {
            cop_map_put(&map, key << 44, (uint32_t)i);
            truth[key] = i;
        } else {
            assert_int_equal(cop_map_remove(&map, key << 44), truth[key] >= 0);
            truth[key] = -1;
        }
        uint64_t probe = cop_rng_below(&rng, KEYS);
        uint32_t *found = cop_map_get(&map, probe << 44);
        assert_int_equal(found ? (int64_t)*found : -1, truth[probe]);
    }
    cop_map_fini(&map);
}

static void test_heap_pops_in_order(void **state)
{
    enum { ITEMS = 500 };
    cop_rng rng;
    cop_rng_init(&rng, 7, 0);
    cop_heap heap;
    cop_heap_init(&heap, ITEMS);
    cop_heap_key keys[ITEMS];
    for (int round = 0; round < 20000; round++) {
        uint32_t item = (uint32_t)cop_rng_below(&rng, ITEMS);
        if (cop_rng_below(&rng, 3)) {
            keys[item] = (cop_heap_key){cop_rng_below(&rng, 20), cop_rng_below(&rng, 3)};
            cop_heap_put(&heap, item, keys[item]);
        } else {
            cop_heap_remove(&heap, item);
        }
    }
    uint32_t item, previous = UINT32_MAX;
    while (cop_heap_top(&heap, &item)) {
        if (previous != UINT32_MAX) {
            cop_heap_key a = keys[previous], b = keys[item];
            assert_true(a.major < b.major || (a.major == b.major && a.minor < b.minor) ||
                        (a.major == b.major && a.minor == b.minor && previous < item));
        }
        previous = item;
        cop_heap_remove(&heap, item);
    }
    assert_int_not_equal(previous, UINT32_MAX);
    cop_heap_fini(&heap);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_histogram_quantiles_within_their_error(void **state)
{
    enum { N = 20000 };
    static uint64_t values[N];
    static cop_histogram h;
    cop_rng rng;
    cop_rng_init(&rng, 3, 0);
    for (int i = 0; i < N; i++) {
        values[i] = cop_rng_u64(&rng) >> cop_rng_below(&rng, 64);
        cop_histogram_add(&h, values[i]);
    }
    qsort(values, N, sizeof *values, by_value);
    for (int p = 1; p < 100; p++) {
        double exact = (double)values[p * N / 100];
        double got = (double)cop_histogram_quantile(&h, p / 100.0);
        assert_true(got <= exact && got >= exact * (1 - 1.0 / 32) - 1);
    }
    assert_int_equal(cop_histogram_quantile(&h, 1.0), values[N - 1]);
}

static void test_link_serialises_transfers(void **state)
{
    cop_link link;
    cop_link_init(&link, 10, 100); /* 10 us, 100 MB/s = 10 ns a byte */
    assert_int_equal(cop_link_reserve(&link, 0, 1000), 10000 + 10000);
    assert_int_equal(cop_link_wait_ns(&link, 4000), 6000);
    assert_int_equal(cop_link_reserve(&link, 4000, 1000), 20000 + 10000);
    assert_int_equal(cop_link_reserve(&link, 90000, 0), 90000 + 10000);
}

static void test_buffer_round_trip_and_short_read(void **state)
{
    cop_buffer b = {0};
    uint32_t x = 7;
    for (uint32_t i = 0; i < 1000; i++)
        cop_buffer_put(&b, &i, sizeof i);
    cop_cursor c = {b.data, b.data + b.size};
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(cop_cursor_get(&c, &x, sizeof x));
        assert_int_equal(x, i);
    }
    assert_false(cop_cursor_get(&c, &x, 1));
    assert_null(cop_cursor_take(&c, 1));
    cop_buffer_fini(&b);
}

static void test_random_numbers_have_their_moments(void **state)
{
    cop_rng rng;
    cop_rng_init(&rng, 11, 5);
    double exponential = 0, gamma = 0, gamma2 = 0;
    enum { N = 200000 };
    for (int i = 0; i < N; i++) {
        exponential += cop_rng_exponential(&rng, 3);
        double g = cop_rng_gamma(&rng, 0.25, 8); /* mean 2, variance 16 */
        gamma += g;
        gamma2 += g * g;
    }
    assert_true(exponential / N > 2.95 && exponential / N < 3.05);
    assert_true(gamma / N > 1.94 && gamma / N < 2.06);
    double variance = gamma2 / N - gamma / N * (gamma / N);
    assert_true(variance > 15 && variance < 17);
}

static void test_large_allocations_are_zeroed_and_aligned(void **state)
{
    size_t sizes[] = {1, 4096, (size_t)9 << 20};
    for (int i = 0; i < 3; i++) {
        void *p;
        cop_error err;
        assert_int_equal(cop_alloc_large(&p, sizes[i], "a test", &err), COP_OK);
        assert_int_equal((uintptr_t)p % 64, 0);
        assert_int_equal(((char *)p)[sizes[i] - 1], 0);
        cop_free_large(p, sizes[i]);
    }
    void *p;
    cop_error err;
    assert_int_equal(cop_alloc_large(&p, SIZE_MAX / 2, "too much", &err), COP_ERR_NO_MEMORY);
}

static void test_median_of_odd_and_even_counts(void **state)
{
    double values[] = {9, 1, 5, 100};
    assert_true(cop_median(values, 1) == 9);
    assert_true(cop_median(values, 3) == 5);
    assert_true(cop_median(values, 4) == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_text_and_prefix),
        cmocka_unit_test(test_map_against_array),
        cmocka_unit_test(test_heap_pops_in_order),
        cmocka_unit_test(test_histogram_quantiles_within_their_error),
        cmocka_unit_test(test_link_serialises_transfers),
        cmocka_unit_test(test_buffer_round_trip_and_short_read),
        cmocka_unit_test(test_median_of_odd_and_even_counts),
        cmocka_unit_test(test_random_numbers_have_their_moments),
        cmocka_unit_test(test_large_allocations_are_zeroed_and_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
