/* Weights on their way into the device: conversions beside the compiler's own, the rounding to int8
 * beside its definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "device/cpu.h"

#include "../shapes.h"
#include "../typed_weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t seed = 31;

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The BF16 number nearest to x, the even one of two; x and its neighbours are exact in double. */
static void expect_nearest_bf16(float x, uint16_t got)
{
    if (isnan(x)) {
        assert_true(isnan(cop_bf16_to_float(got)));
        return;
    }
    const double greatest = cop_bf16_to_float(0x7f7f), step = ldexp(1, 120);
    double y = cop_bf16_to_float(got), error = fabs(y - x);
    assert_int_equal(got >> 15, signbit(x) != 0);
    if (isinf(y)) { /* infinity stands one step above the greatest number */
        assert_true(isinf(x) || fabs((double)x) >= greatest + step / 2);
        return;
    }
    for (int side = -1; side <= 1; side += 2) {
        uint16_t magnitude = got & 0x7fff;
        if (side < 0 && magnitude == 0)
            continue;
        double neighbour = magnitude == 0x7f7f && side > 0
                               ? greatest + step
                               : cop_bf16_to_float((uint16_t)(magnitude + side));
        double other = fabs(neighbour - fabs((double)x));
        assert_true(error < other || (error == other && got % 2 == 0));
    }
}

static void test_every_f16_becomes_its_float(void **state)
{
    enum { N = 1 << 16 };
    char *in = (char *)cop_malloc(2 * N + 1) + 1; /* not aligned */
    float *out = cop_malloc(N * sizeof *out);
    uint16_t *bf16 = cop_malloc(N * sizeof *bf16);
    for (uint32_t i = 0; i < N; i++)
        memcpy(in + 2 * i, &(uint16_t){(uint16_t)i}, 2);
    cop_convert_weights(in, COP_F16, N, 4, out);
    cop_convert_weights(in, COP_F16, N, 2, bf16);
    for (uint32_t i = 0; i < N; i++) {
        _Float16 half;
        memcpy(&half, in + 2 * i, sizeof half);
        float want = (float)half;
        if (isnan(want))
            assert_true(isnan(out[i]));
        else
            assert_memory_equal(&out[i], &want, sizeof want);
        expect_nearest_bf16(want, bf16[i]);
    }
    free(in - 1);
    free(out);
    free(bf16);
}

static void test_f32_becomes_the_nearest_bf16(void **state)
{
    enum { N = 200000 };
    print_message("seed %llu\n", (unsigned long long)seed);
    cop_rng rng;
    cop_rng_init(&rng, seed, 0);
    char *in = (char *)cop_malloc(4 * N + 1) + 1;
    uint16_t *out = cop_malloc(N * sizeof *out);
    float *same = cop_malloc(N * sizeof *same);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t bits = (uint32_t)cop_rng_u64(&rng);
        bits = i % 4 == 0 ? (bits & 0xffff0000u) | 0x8000 : bits; /* a tie */
        bits = i % 1024 == 1 ? bits | 0x7f7f0000u : bits;         /* near infinity, infinity, NaN */
        memcpy(in + 4 * i, &bits, 4);
    }
    cop_convert_weights(in, COP_F32, N, 2, out);
    cop_convert_weights(in, COP_F32, N, 4, same);
    assert_memory_equal(in, same, 4 * N);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t bits;
        memcpy(&bits, in + 4 * i, 4);
        expect_nearest_bf16(float_of(bits), out[i]);
    }
    free(in - 1);
    free(out);
    free(same);
}

static void test_int8_is_the_nearest_multiple(void **state)
{
    enum { N = 192 };
    print_message("seed %llu\n", (unsigned long long)seed);
    cop_rng rng;
    cop_rng_init(&rng, seed, 1);
    for (int round = 0; round < 5000; round++) {
        float x[N], greatest = 0;
        int8_t q[N], most = 0;
        double size = ldexp(1, (int)cop_rng_below(&rng, 180) - 90);
        for (int i = 0; i < N; i++) {
            x[i] = (float)((cop_rng_double(&rng) * 2 - 1) * size);
            x[i] = round % 5 == 0 ? (float)(cop_rng_below(&rng, 255) - 127.0) * 0.5f : x[i];
            greatest = fmaxf(greatest, fabsf(x[i]));
        }
        float scale = cop_int8_scale(greatest);
        cop_int8_round(x, N, scale, q);
        for (int i = 0; i < N; i++) {
            double error = fabs(x[i] - (double)q[i] * scale);
            assert_true(error <= scale * 0.5 * (1 + 0x1p-14)); /* x / scale rounds to 24 bits */
            assert_true(q[i] >= -127);
            most = (int8_t)abs(q[i]) > most ? (int8_t)abs(q[i]) : most;
        }
        assert_int_equal(most, 127);
    }
}

static void test_int8_ties_and_zeros(void **state)
{
    static const float x[] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -127, 126.5f, 0};
    static const int8_t want[] = {127, 0, 2, 2, 0, -2, -2, -127, 126, 0};
    int8_t q[10];
    cop_int8_round(x, 10, cop_int8_scale(127), q);
    assert_memory_equal(q, want, sizeof want);
    assert_true(cop_int8_scale(0) == 0);
    assert_true(cop_int8_scale(0x1p-94f) == 0); /* 127 * 2^-100 is a little more */
    assert_true(cop_int8_scale(0x1p-93f) > 0);
    cop_int8_round((const float[]){0x1p-94f, -0x1p-94f, 0}, 3, 0, q);
    assert_memory_equal(q, ((int8_t[]){0, 0, 0}), 3);
}

static cop_status open_with(const typed_weights *w, bool int8, cop_error *err)
{
    cop_device *device;
    cop_device_options options = {.geometry = w->geometry,
                                  .weights = typed_source(w),
                                  .blocks = 2,
                                  .block_tokens = 16,
                                  .max_batch_tokens = 4,
                                  .max_sequences = 1,
                                  .threads = 2,
                                  .int8_weights = int8};
    cop_status status = cop_device_cpu.open(&device, &options, err);
    if (status == COP_OK)
        cop_device_cpu.close(device);
    return status;
}

static void test_int8_wants_finite_weights(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};
    typed_weights w;
    cop_error err;
    typed_open(&w, &shape_odd, 5, COP_F32);
    char *up = w.tensor[COP_TENSORS + COP_TENSOR_UP] + (size_t)(77 * shape_odd.hidden + 9) * 4;
    assert_int_equal(open_with(&w, true, &err), COP_OK);
    for (int i = 0; i < 3; i++) {
        memcpy(up, &bad[i], sizeof bad[i]);
        assert_int_equal(open_with(&w, true, &err), COP_ERR_INVALID);
        assert_string_equal(err.text, "model.weights=int8: row 77 of up in layer 1 has a weight "
                                      "that is not a finite number");
        assert_int_equal(open_with(&w, false, &err), COP_OK);
    }
    typed_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_f16_becomes_its_float),
        cmocka_unit_test(test_f32_becomes_the_nearest_bf16),
        cmocka_unit_test(test_int8_is_the_nearest_multiple),
        cmocka_unit_test(test_int8_ties_and_zeros),
        cmocka_unit_test(test_int8_wants_finite_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
