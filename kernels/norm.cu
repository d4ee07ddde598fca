/* RMSNorm, alone or with the residual addition that comes before it, a block for each row.
 *
 * A row of up to 16,384 values whose length is a multiple of 8 stays in registers: a thread has up
 * to 4 chunks of 8 values, block-wide strides apart, and loads them all before it uses the first.
 * Other rows are read twice. How the sum of squares is cut up depends on `hidden` alone, so a row's
 * bits do not depend on the batch. Rows of padding can be read, so a block asks whether its row is
 * one after it has asked for the row.
 *
 * Bytes that a row of n values moves (the gain, 4 n, comes from the L2 cache but for the first):
 *     rmsnorm      6 n      x 4, out 2
 *     add_rmsnorm  12 n     x 4, delta 2, x 4, out 2
 *     last_rows    8 n      x 4, delta 2, out 2
 *
 * RMSNorm: Zhang and Sennrich, 2019. */
#include "kernels.h"
#include "load.h"
#include "wide.cuh"

namespace
{

constexpr uint32_t MAX_THREADS = 512;

struct norm_rows {
    const uint32_t *count;     /* rows that are not padding */
    const cop_cuda_draw *draw; /* row i is draw[i].row; NULL: i */
    const float *x;
    const uint16_t *delta; /* added to x; NULL: nothing is */
    float *sum;            /* where x + delta goes; NULL: nowhere. May be x */
    const float *gain;
    uint16_t *out;
    uint32_t hidden;
    float part; /* 1 / hidden */
    float epsilon;
};

/* By all threads of the block; the same bits in each. */
__device__ __forceinline__ float sum_of_block(float part)
{
    float *sums = (float *)cop_shared_memory();
    const uint32_t lane = threadIdx.x % 32, warps = blockDim.x / 32;
    part = cop_sum_lanes(part, 32);
    if (lane == 0)
        sums[threadIdx.x / 32] = part;
    __syncthreads();
    return cop_sum_lanes(lane < warps ? sums[lane] : 0, 32);
}

__device__ __forceinline__ float factor_of(float squares, const norm_rows &n)
{
    return rsqrtf(squares * n.part + n.epsilon);
}

template <int Chunks, bool Add>
__global__ void __launch_bounds__(MAX_THREADS) norm_held(norm_rows n)
{
    uint32_t row = blockIdx.x;
    if (n.draw) {
        if (row >= *n.count)
            return;
        row = n.draw[row].row;
    }
    const size_t from = (size_t)row * n.hidden, to = (size_t)blockIdx.x * n.hidden;
    float x[Chunks][8] = {}, gain[Chunks][8] = {};
    uint4 delta[Chunks] = {};
#pragma unroll
    for (int c = 0; c < Chunks; c++) {
        const uint32_t i = (c * blockDim.x + threadIdx.x) * 8;
        if (i >= n.hidden)
            continue;
        cop_load(x[c], n.x + from + i);
        if (Add)
            delta[c] = cop_load<8>(n.delta + from + i);
        cop_load(gain[c], n.gain + i);
    }
    if (blockIdx.x >= *n.count)
        return;

    float squares = 0;
#pragma unroll
    for (int c = 0; c < Chunks; c++) {
        float more[8] = {};
        if (Add)
            cop_unpack(more, delta[c]);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            x[c][j] += more[j];
            squares += x[c][j] * x[c][j];
        }
    }
    const float factor = factor_of(sum_of_block(squares), n);
#pragma unroll
    for (int c = 0; c < Chunks; c++) {
        const uint32_t i = (c * blockDim.x + threadIdx.x) * 8;
        if (i >= n.hidden)
            continue;
        if (Add && n.sum)
            cop_store(n.sum + from + i, x[c]);
#pragma unroll
        for (int j = 0; j < 8; j++)
            x[c][j] *= factor * gain[c][j];
        cop_store(n.out + to + i, x[c]);
    }
}

/* x + delta, W values from i on. */
template <int W>
__device__ __forceinline__ void load_sum(float (&x)[W], const norm_rows &n, size_t i)
{
    cop_load(x, n.x + i);
    if (n.delta) {
        float delta[W];
        cop_unpack(delta, cop_load<W>(n.delta + i));
#pragma unroll
        for (int j = 0; j < W; j++)
            x[j] += delta[j];
    }
}

/* A thread meets the same values in both passes, so it may overwrite x in the second. */
template <int W> __global__ void __launch_bounds__(MAX_THREADS) norm_read_twice(norm_rows n)
{
    if (blockIdx.x >= *n.count)
        return;
    const uint32_t row = n.draw ? n.draw[blockIdx.x].row : blockIdx.x;
    const size_t from = (size_t)row * n.hidden, to = (size_t)blockIdx.x * n.hidden;
    const uint32_t first = threadIdx.x * W, stride = blockDim.x * W;
    float x[W], gain[W], squares = 0;
#pragma unroll 4
    for (uint32_t i = first; i < n.hidden; i += stride) {
        load_sum(x, n, from + i);
#pragma unroll
        for (int j = 0; j < W; j++)
            squares += x[j] * x[j];
    }
    const float factor = factor_of(sum_of_block(squares), n);
    for (uint32_t i = first; i < n.hidden; i += stride) {
        load_sum(x, n, from + i);
        cop_load(gain, n.gain + i);
        if (n.sum)
            cop_store(n.sum + from + i, x);
#pragma unroll
        for (int j = 0; j < W; j++)
            x[j] *= factor * gain[j];
        cop_store(n.out + to + i, x);
    }
}

/* Kernels that hold rows of 1, 2 and 4 chunks a thread. */
typedef void kernel_of_rows(norm_rows);
kernel_of_rows *const held_alone[] = {norm_held<1, false>, norm_held<2, false>,
                                      norm_held<4, false>};
kernel_of_rows *const held_added[] = {norm_held<1, true>, norm_held<2, true>, norm_held<4, true>};

cudaError_t launch(norm_rows n, const cop_cuda_shape *shape, uint32_t rows, cudaStream_t stream)
{
    n.hidden = shape->hidden;
    n.part = 1.0f / (float)shape->hidden;
    n.epsilon = shape->rms_epsilon;
    if (rows == 0)
        return cudaSuccess;
    const bool wide = n.hidden % 8 == 0;
    const uint32_t pieces = n.hidden / 8;
    uint32_t size = 0;
    while (size < 2 && cop_ceil_div(pieces, 1u << size) > MAX_THREADS)
        size++;
    uint32_t threads = cop_ceil_div(cop_ceil_div(pieces, 1u << size), 32) * 32;
    kernel_of_rows *kernel = (n.delta ? held_added : held_alone)[size];
    if (!wide || threads > MAX_THREADS) {
        threads = MAX_THREADS;
        kernel = wide ? norm_read_twice<8> : norm_read_twice<1>;
    }
    return cop_launch(kernel, dim3(rows), dim3(threads), threads / 32 * sizeof(float), stream, n);
}

} // namespace

cudaError_t cop_cuda_rmsnorm(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                             uint32_t rows, const float *x, const float *gain, uint16_t *h,
                             cudaStream_t stream)
{
    norm_rows n = {};
    n.count = &batch->counts[0];
    n.x = x;
    n.gain = gain;
    n.out = h;
    return launch(n, shape, rows, stream);
}

cudaError_t cop_cuda_add_rmsnorm(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                                 uint32_t rows, float *x, const uint16_t *delta, const float *gain,
                                 uint16_t *h, cudaStream_t stream)
{
    norm_rows n = {};
    n.count = &batch->counts[0];
    n.x = n.sum = x;
    n.delta = delta;
    n.gain = gain;
    n.out = h;
    return launch(n, shape, rows, stream);
}

cudaError_t cop_cuda_last_rows(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                               uint32_t sampled, const float *x, const uint16_t *delta,
                               const float *gain, uint16_t *out, cudaStream_t stream)
{
    norm_rows n = {};
    n.count = &batch->counts[2];
    n.draw = batch->draw;
    n.x = x;
    n.delta = delta;
    n.gain = gain;
    n.out = out;
    return launch(n, shape, sampled, stream);
}

cudaError_t cop_load_norms()
{
    return cop_load(norm_held<1, false>, norm_held<2, false>, norm_held<4, false>,
                    norm_held<1, true>, norm_held<2, true>, norm_held<4, true>, norm_read_twice<8>,
                    norm_read_twice<1>);
}
