/* Reads memory and does nothing with it: how long decoding takes at best, as every weight is read
 * for every token. Each thread has UNROLL loads of 16 bytes under way. */
#include "kernels.h"
#include "load.h"

#include <gpu.cuh>

namespace
{

constexpr uint32_t THREADS = 256, UNROLL = 8, BLOCKS_OF_A_MULTIPROCESSOR = 8;

/* *sink is written for one sum in 2^32, which the compiler cannot rule out. */
__global__ void __launch_bounds__(THREADS) read_all(const uint4 *data, size_t count, uint32_t *sink)
{
    const size_t stride = (size_t)gridDim.x * THREADS;
    uint32_t sum = 0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += UNROLL * stride) {
        uint4 held[UNROLL];
#pragma unroll
        for (uint32_t u = 0; u < UNROLL; u++)
            held[u] = i + u * stride < count ? data[i + u * stride] : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (uint32_t u = 0; u < UNROLL; u++)
            sum ^= held[u].x ^ held[u].y ^ held[u].z ^ held[u].w;
    }
    if (sum == 0x9e3779b9)
        *sink = sum;
}

} // namespace

extern "C" cudaError_t cop_cuda_read_all(const void *data, size_t bytes, uint32_t *sink,
                                         uint32_t multiprocessors, cudaStream_t stream)
{
    return cop_launch(read_all, dim3(multiprocessors * BLOCKS_OF_A_MULTIPROCESSOR), dim3(THREADS),
                      0, stream, (const uint4 *)data, bytes / sizeof(uint4), sink);
}

cudaError_t cop_load_probe()
{
    return cop_load(read_all);
}
