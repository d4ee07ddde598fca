#include "test_check_kernels.h"
#include <gpu.cuh>

template <bool RIGHT> static __global__ void sum(float *data)
{
    __shared__ float part[128];
    part[threadIdx.x] = data[threadIdx.x];
    if (RIGHT)
        __syncthreads();
    if (threadIdx.x == 0)
        for (int i = 1; i < 128; i++)
            data[0] += part[i];
}

template <bool RIGHT> static __global__ void reuse(float *data)
{
    float *shared = (float *)cop_shared_memory();
    float total = 0;
    for (int i = 0; i < 3; i++) {
        shared[threadIdx.x] = data[threadIdx.x] * (float)i;
        __syncthreads();
        total += shared[127 - threadIdx.x];
        if (RIGHT)
            __syncthreads();
    }
    data[threadIdx.x] = total;
}

template <bool RIGHT> static __global__ void lanes(float *data)
{
    float *shared = (float *)cop_shared_memory();
    uint32_t warp = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
    shared[threadIdx.x] = data[threadIdx.x];
    if (RIGHT)
        __syncwarp();
    else
        __shfl_sync(0xffffffffu, lane, 0);
    data[threadIdx.x] = shared[warp + 31 - lane];
}

template <bool RIGHT> static __global__ void atomics(float *data)
{
    unsigned *count = (unsigned *)cop_shared_memory();
    if (threadIdx.x == 0)
        *count = 0;
    if (RIGHT)
        __syncthreads();
    atomicAdd(count, 1u);
    __syncthreads();
    data[threadIdx.x] = (float)*count;
}

template <bool RIGHT> static __global__ void matrix(float *data)
{
    unsigned char *shared = cop_shared_memory();
    if (threadIdx.x < 32)
        cop_copy_async(shared + 16 * threadIdx.x, data + 4 * threadIdx.x, true);
    cop_copy_commit();
    cop_copy_wait<0>();
    if (RIGHT)
        __syncthreads();
    uint32_t r[4];
    cop_load_matrices(r, shared + 16 * (threadIdx.x % 32));
    data[threadIdx.x] = cop_low_bf16(r[0]);
}

static __global__ void behind_the_end(float *data)
{
    if (data[threadIdx.x + 1] == 5)
        data[threadIdx.x] = 0;
}

static __global__ void host_pointer(float *data, const float *host)
{
    data[threadIdx.x] = host[0];
}

static __global__ void behind_shared(float *data)
{
    data[threadIdx.x] = ((const float *)cop_shared_memory())[threadIdx.x];
}

static __constant__ float table[4] = {1, 2, 3, 4};

static __global__ void constant(float *data)
{
    data[threadIdx.x] = table[threadIdx.x % 4];
}

cudaError_t check_launch(check_kernel which, float *data, const float *host)
{
    switch (which) {
    case CHECK_SUM:
        return cop_launch(sum<true>, dim3(1), dim3(128), 0, NULL, data);
    case CHECK_SUM_RACE:
        return cop_launch(sum<false>, dim3(1), dim3(128), 0, NULL, data);
    case CHECK_REUSE:
        return cop_launch(reuse<true>, dim3(1), dim3(128), 512, NULL, data);
    case CHECK_REUSE_RACE:
        return cop_launch(reuse<false>, dim3(1), dim3(128), 512, NULL, data);
    case CHECK_LANES:
        return cop_launch(lanes<true>, dim3(1), dim3(128), 512, NULL, data);
    case CHECK_LANES_SHUFFLE:
        return cop_launch(lanes<false>, dim3(1), dim3(128), 512, NULL, data);
    case CHECK_ATOMICS:
        return cop_launch(atomics<true>, dim3(1), dim3(128), 4, NULL, data);
    case CHECK_ATOMICS_RACE:
        return cop_launch(atomics<false>, dim3(1), dim3(128), 4, NULL, data);
    case CHECK_MATRIX:
        return cop_launch(matrix<true>, dim3(1), dim3(128), 512, NULL, data);
    case CHECK_MATRIX_RACE:
        return cop_launch(matrix<false>, dim3(1), dim3(128), 512, NULL, data);
    case CHECK_BEHIND_THE_END:
        return cop_launch(behind_the_end, dim3(1), dim3(128), 0, NULL, data);
    case CHECK_HOST_POINTER:
        return cop_launch(host_pointer, dim3(1), dim3(128), 0, NULL, data, host);
    case CHECK_BEHIND_SHARED:
        return cop_launch(behind_shared, dim3(1), dim3(32), 124, NULL, data);
    case CHECK_CONSTANT:
        return cop_launch(constant, dim3(1), dim3(128), 0, NULL, data);
    }
    return cudaErrorInvalidValue;
}
