/* The checks of instrumented kernels: each mistake is found, in every order of threads, and kernels
 * without one run through. */
#include "emulator.h"
#include "test_aborts.h"
#include "test_check_kernels.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

extern "C" {
#include <cmocka.h>
}

enum { SEEDS = 8 };

static void run(check_kernel which, uint64_t seed)
{
    float host[128] = {}, *data;
    emulator_seed(seed);
    if (cudaMalloc((void **)&data, sizeof host) ||
        cudaMemcpy(data, host, sizeof host, cudaMemcpyHostToDevice) ||
        check_launch(which, data, host) || cudaDeviceSynchronize() || cudaFree(data))
        exit(1);
}

static void test_right_kernels_pass(void **)
{
    const check_kernel right[] = {CHECK_SUM,     CHECK_REUSE,  CHECK_LANES,
                                  CHECK_ATOMICS, CHECK_MATRIX, CHECK_CONSTANT};
    for (check_kernel which : right)
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            run(which, seed);
}

static void test_races(void **)
{
    const check_kernel racy[] = {CHECK_SUM_RACE, CHECK_REUSE_RACE, CHECK_LANES_SHUFFLE,
                                 CHECK_ATOMICS_RACE, CHECK_MATRIX_RACE};
    for (check_kernel which : racy)
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            assert_true(aborts_with("race in shared memory", [&] { run(which, seed); }));
}

static void test_wrong_addresses(void **)
{
    assert_true(aborts_with("behind the end of an allocation of 512 bytes",
                            [] { run(CHECK_BEHIND_THE_END, 1); }));
    assert_true(aborts_with("not device memory", [] { run(CHECK_HOST_POINTER, 1); }));
    assert_true(aborts_with("nor shared memory of the block", [] { run(CHECK_BEHIND_SHARED, 1); }));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right_kernels_pass),
        cmocka_unit_test(test_races),
        cmocka_unit_test(test_wrong_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
