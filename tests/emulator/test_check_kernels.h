/* Kernels for test_check.cpp, compiled with the instrumentation of coppice_kernels_checked. Each runs
 * one block; most have one mistake. */
#ifndef COP_EMULATOR_TEST_CHECK_KERNELS_H
#define COP_EMULATOR_TEST_CHECK_KERNELS_H

#include <cuda_runtime_api.h>

enum check_kernel {
    CHECK_SUM,            /* a block's sum, right */
    CHECK_SUM_RACE,       /* without the barrier */
    CHECK_REUSE,          /* shared memory is used twice, right */
    CHECK_REUSE_RACE,     /* the second use overtakes the first */
    CHECK_LANES,          /* lanes give to each other, right */
    CHECK_LANES_SHUFFLE,  /* a shuffle in the place of __syncwarp */
    CHECK_ATOMICS,        /* many add to one word, right */
    CHECK_ATOMICS_RACE,   /* and one sets it */
    CHECK_MATRIX,         /* copied by all, loaded by all, right */
    CHECK_MATRIX_RACE,    /* waited for, but without a barrier */
    CHECK_BEHIND_THE_END, /* of device memory, by one element */
    CHECK_HOST_POINTER,   /* in the argument */
    CHECK_BEHIND_SHARED,  /* reads the slack behind dynamic shared memory */
    CHECK_CONSTANT,       /* a table of the program, right */
};

/* data: 128 floats of device memory. */
cudaError_t check_launch(check_kernel which, float *data, const float *host);

#endif
