/* Every kernel of every instruction set beside plain double arithmetic. Bounds are those of the
 * number formats: u = 2^-24 for float32, 2^-9 for BF16. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "device/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t seed = 2024;
static const double unit_float = 0x1p-24, unit_bf16 = 0x1p-9;

typedef void check(const cop_kernels *kernels, cop_rng *rng);

static void for_all_kernels(check *c)
{
    static const char *const isas[] = {"avx512bf16", "avx2", "baseline"};
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < 6; i++) {
        const cop_kernels *kernels;
        cop_error err;
        cop_rng rng;
        cop_rng_init(&rng, seed, (uint64_t)i);
        cop_status status = cop_kernels_find(isas[i / 2], i % 2, &kernels, &err);
        if (status != COP_OK) {
            assert_int_equal(status, COP_ERR_UNSUPPORTED);
            print_message("%s\n", err.text);
            continue;
        }
        c(kernels, &rng);
    }
}

static float uniform(cop_rng *rng, double limit)
{
    return (float)((cop_rng_double(rng) * 2 - 1) * limit);
}

static double act_at(const cop_kernels *k, const void *a, size_t i)
{
    return k->act_bytes == 2 ? cop_bf16_to_float(((const uint16_t *)a)[i]) : ((const float *)a)[i];
}

/* Element (k, column) of a panel; see cpu_kernels.h. */
static double panel_at(const void *panel, size_t k, size_t column, bool bf16)
{
    if (bf16)
        return cop_bf16_to_float(((const uint16_t *)panel)[k / 2 * 128 + column * 2 + k % 2]);
    return ((const float *)panel)[k * 64 + column];
}

typedef struct {
    float *a;     /* act [6][k] */
    float *panel; /* of either kind */
    size_t k;
    bool bf16;
} operands;

static operands make_operands(const cop_kernels *kernels, cop_rng *rng, size_t k, bool bf16)
{
    operands o = {.k = k, .bf16 = bf16};
    o.a = cop_malloc(6 * k * sizeof(float));
    o.panel = cop_malloc(64 * k * sizeof(float));
    float row[64];
    for (size_t i = 0; i < 6 * k; i += 64) {
        for (int j = 0; j < 64; j++)
            row[j] = uniform(rng, 1);
        kernels->store_act(row, (char *)o.a + i * kernels->act_bytes, 64);
    }
    for (size_t i = 0; i < 64 * k; i++) {
        if (bf16)
            ((uint16_t *)o.panel)[i] =
                (uint16_t)(0x3c00 + cop_rng_below(rng, 0x180) + (cop_rng_below(rng, 2) << 15));
        else
            o.panel[i] = uniform(rng, 1);
    }
    return o;
}

static void expect_product(const cop_kernels *kernels, const operands *o, const float *c,
                           uint32_t rows)
{
    for (uint32_t r = 0; r < rows; r++)
        for (size_t column = 0; column < 64; column++) {
            double sum = 0, size = 0;
            for (size_t k = 0; k < o->k; k++) {
                double p =
                    act_at(kernels, o->a, r * o->k + k) * panel_at(o->panel, k, column, o->bf16);
                sum += p;
                size += fabs(p);
            }
            double bound = (double)(o->k + 1) * unit_float * size;
            assert_true(fabs(c[r * 64 + column] - sum) <= bound);
        }
}

/* One call over k, two calls with a cut anywhere, and every number of rows: the same bits. */
static void check_tile(const cop_kernels *kernels, cop_rng *rng)
{
    const bool bf16 = kernels->panel_bytes == 2;
    operands o = make_operands(kernels, rng, 64 * (1 + cop_rng_below(rng, 6)), bf16);
    float all[6 * 64], part[6 * 64];
    cop_tile t = {.a = o.a, .lda = o.k, .panel = o.panel, .k = o.k, .c = all, .ldc = 64};
    kernels->tile(&t, 6);
    expect_product(kernels, &o, all, 6);
    for (uint32_t rows = 1; rows <= 6; rows++) {
        size_t cut = 2 * cop_rng_below(rng, o.k / 2 + 1);
        uint32_t first = (uint32_t)cop_rng_below(rng, 7 - rows);
        t.a = (char *)o.a + first * o.k * kernels->act_bytes;
        t.panel = o.panel;
        t.k = cut;
        t.c = part;
        t.accumulate = false;
        kernels->tile(&t, rows);
        t.a = (char *)t.a + cut * kernels->act_bytes;
        t.panel = (char *)o.panel + cut * 64 * kernels->panel_bytes;
        t.k = o.k - cut;
        t.accumulate = true;
        t.ahead = o.panel;
        kernels->tile(&t, rows);
        t.ahead = NULL;
        assert_memory_equal(part, all + first * 64, rows * 64 * sizeof(float));
    }
    free(o.a);
    free(o.panel);
}

static void check_tiles(const cop_kernels *kernels, cop_rng *rng)
{
    for (int i = 0; i < 20; i++)
        check_tile(kernels, rng);
}

static void test_tiles(void **state)
{
    for_all_kernels(check_tiles);
}

static void check_stores(const cop_kernels *kernels, cop_rng *rng)
{
    float x[64], act[64];
    uint16_t kv[64];
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 64; i++) {
            uint32_t bits = (uint32_t)cop_rng_below(rng, 0x60000000) + 0x10000000;
            bits = i % 4 ? bits : (bits & 0xffff0000u) | 0x8000; /* a tie */
            memcpy(&x[i], &bits, sizeof bits);
            x[i] = i % 2 ? -x[i] : x[i];
        }
        kernels->store_act(x, act, 64);
        if (kernels->panel_bytes == 4) {
            assert_memory_equal(act, x, sizeof x);
            continue;
        }
        kernels->store_kv(x, kv, 64);
        for (int i = 0; i < 64; i++) {
            double y = cop_bf16_to_float(kv[i]);
            float below = cop_bf16_to_float((uint16_t)(kv[i] - 1));
            float above = cop_bf16_to_float((uint16_t)(kv[i] + 1));
            double error = fabs(y - x[i]);
            assert_true(error <= fabs(below - (double)x[i]) && error <= fabs(above - (double)x[i]));
            if (error == fabs(above - (double)x[i]) || error == fabs(below - (double)x[i]))
                assert_int_equal(kv[i] % 2, 0); /* ties to even */
            assert_true(act_at(kernels, act, (size_t)i) == y);
        }
    }
}

static void test_stores_round_to_nearest_even(void **state)
{
    for_all_kernels(check_stores);
}

static void check_norm(const cop_kernels *kernels, cop_rng *rng)
{
    enum { N = 896 };
    float x[N], g[N], y[N];
    double squares = 0;
    for (int i = 0; i < N; i++) {
        x[i] = uniform(rng, 3);
        g[i] = 1 + uniform(rng, 0.1);
        squares += (double)x[i] * x[i];
    }
    kernels->rmsnorm(x, g, 1e-6f, y, N);
    for (int i = 0; i < N; i++) {
        double want = x[i] / sqrt(squares / N + 1e-6) * g[i];
        assert_true(fabs(y[i] - want) <= 64 * unit_float * fabs(want)); /* sums of 56 */
    }
}

static void check_elements(const cop_kernels *kernels, cop_rng *rng)
{
    float x[128], b[128], c[128], y[128], product[128];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 128; i++) {
            x[i] = uniform(rng, round % 2 ? 4 : 150); /* silu at its ends too */
            b[i] = uniform(rng, 2);
            c[i] = uniform(rng, 1);
        }
        kernels->swiglu(x, b, y, 128);
        for (int i = 0; i < 128; i++) {
            double want = x[i] / (1 + exp(-(double)x[i])) * b[i];
            /* the product inside 2^x rounds: relative error |x| u of the exponential */
            double bound = (8 + 2 * fabs(x[i])) * unit_float * fabs(want);
            assert_true(fabs(y[i] - want) <= bound + 1e-35);
        }
        kernels->rope(x, round % 3 ? b : NULL, c, c + 64, y, 128);
        for (int i = 0; i < 64; i++) {
            double p = x[i] + (round % 3 ? b[i] : 0.0), q = x[i + 64] + (round % 3 ? b[i + 64] : 0);
            double bound = 4 * unit_float * (fabs(p) + fabs(q));
            assert_true(fabs(y[i] - (p * c[i] - q * c[i + 64])) <= bound);
            assert_true(fabs(y[i + 64] - (q * c[i] + p * c[i + 64])) <= bound);
        }
        memcpy(y, x, sizeof y);
        kernels->add(y, b, 128);
        for (int i = 0; i < 128; i++)
            assert_true(y[i] == x[i] + b[i]);
        memcpy(product, y, sizeof y);
        kernels->multiply(product, c, 128);
        for (int i = 0; i < 128; i++)
            assert_true(product[i] == y[i] * c[i]);
        kernels->scale(y, c[0], 128);
        for (int i = 0; i < 128; i++)
            assert_true(y[i] == (x[i] + b[i]) * c[0]);
    }
    check_norm(kernels, rng);
}

static void test_elementwise(void **state)
{
    for_all_kernels(check_elements);
}

/* Two tiles through the online softmax against one softmax over both. */
static void check_softmax(const cop_kernels *kernels, cop_rng *rng)
{
    for (int round = 0; round < 300; round++) {
        float scores[128], raw[128], scale = 0.18f;
        uint32_t valid = 64 + (uint32_t)cop_rng_below(rng, 64) + 1;
        for (int i = 0; i < 128; i++)
            raw[i] = scores[i] = uniform(rng, round % 2 ? 30 : 300) + (i < 64 ? 0 : 50);
        cop_softmax row = {.max = -3.4e38f};
        kernels->softmax(&row, scores, 64, scale);
        float factor = kernels->softmax(&row, scores + 64, valid - 64, scale);
        double total = 0, sum = 0, top = -1e300;
        for (uint32_t i = 0; i < valid; i++)
            top = fmax(top, (double)raw[i] * scale);
        for (uint32_t i = 0; i < valid; i++)
            total += exp2((double)raw[i] * scale - top);
        for (int i = 0; i < COP_SOFTMAX_LANES; i++)
            sum += row.sum[i];
        for (uint32_t i = 0; i < 128; i++) {
            double want = i < valid ? exp2((double)raw[i] * scale - top) / total : 0;
            double got = scores[i] * (i < 64 ? factor : 1.0) / sum;
            /* exponents to 100 rounded to float32, then e^x */
            assert_true(fabs(got - want) <= 3e-5 * want + 1e-35);
            if (i >= valid)
                assert_true(scores[i] == 0);
        }
    }
}

static void test_softmax(void **state)
{
    for_all_kernels(check_softmax);
}

static void check_packing(const cop_kernels *kernels, cop_rng *rng)
{
    enum { WIDTH = 128 };
    uint32_t *data = cop_malloc(64 * WIDTH * 4), *out = cop_malloc(64 * WIDTH * 4);
    const void *rows[64];
    for (int i = 0; i < 64 * WIDTH; i++)
        data[i] = (uint32_t)cop_rng_u64(rng);
    for (int i = 0; i < 64; i++)
        rows[i] = data + (i * 29 % 64) * WIDTH; /* rows in any order */
    for (size_t words = 32; words <= WIDTH; words += 32) {
        kernels->transpose(rows, words, out);
        for (size_t w = 0; w < words; w++)
            for (int j = 0; j < 64; j++)
                assert_int_equal(out[w * 64 + j], ((const uint32_t *)rows[j])[w]);
    }
    for (size_t column = 0; column < WIDTH; column += 64) {
        kernels->pack_values(rows, column, out);
        for (size_t k = 0; k < 64; k++)
            for (size_t c = 0; c < 64; c++) {
                if (kernels->panel_bytes == 2)
                    assert_int_equal(((uint16_t *)out)[k / 2 * 128 + c * 2 + k % 2],
                                     ((const uint16_t *)rows[k])[column + c]);
                else
                    assert_int_equal(out[k * 64 + c], ((const uint32_t *)rows[k])[column + c]);
            }
    }
    free(data);
    free(out);
}

static void check_unpacking(const cop_kernels *kernels, cop_rng *rng)
{
    enum { K = 192 };
    int8_t *in = cop_malloc(K * 64);
    char *out = cop_malloc(K * 64 * kernels->panel_bytes);
    for (int i = 0; i < K * 64; i++)
        in[i] = (int8_t)((int)cop_rng_below(rng, 255) - 127);
    for (size_t k = 4; k <= K; k += 4 * (1 + cop_rng_below(rng, 8))) {
        memset(out, 0xff, K * 64 * kernels->panel_bytes);
        kernels->unpack(in, k, out);
        for (size_t i = 0; i < k * 64; i++) {
            size_t at = i / 256 * 4 + i % 4, column = i / 4 % 64;
            assert_true(panel_at(out, at, column, kernels->panel_bytes == 2) == in[i] * 0x1p24);
        }
        for (size_t i = k * 64 * kernels->panel_bytes; i < K * 64 * kernels->panel_bytes; i++)
            assert_int_equal((uint8_t)out[i], 0xff); /* and not an element more */
    }
    free(in);
    free(out);
}

static void test_int8_unpacks_exactly(void **state)
{
    for_all_kernels(check_unpacking);
}

static void test_packing_moves_every_element(void **state)
{
    for_all_kernels(check_packing);
}

static void test_bf16_unit_is_what_bounds_assume(void **state)
{
    assert_true(cop_bf16_to_float(0x3f81) - 1.0 == 4 * unit_bf16); /* spacing 2^-7 = 4 u */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_stores_round_to_nearest_even),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_packing_moves_every_element),
        cmocka_unit_test(test_int8_unpacks_exactly),
        cmocka_unit_test(test_bf16_unit_is_what_bounds_assume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
