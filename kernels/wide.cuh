/* W neighbouring values between memory and registers: 8 by 16-byte accesses (of addresses that are
 * multiples of 16), or 1. And sums over lanes.
 *
 * BF16 values are loaded as they are and unpacked where they are used: what unpacks waits for what
 * was loaded, and so would the loads that follow it. */
#ifndef COP_WIDE_CUH
#define COP_WIDE_CUH

#include <gpu.cuh>

#include <type_traits>

template <int W> using cop_bf16s = std::conditional_t<W == 8, uint4, uint16_t>;

template <int W> static __device__ __forceinline__ cop_bf16s<W> cop_load(const uint16_t *p)
{
    static_assert(W == 8 || W == 1, "one access each");
    return *(const cop_bf16s<W> *)p;
}

static __device__ __forceinline__ void cop_unpack(float (&v)[8], const uint4 &a)
{
    v[0] = cop_low_bf16(a.x), v[1] = cop_high_bf16(a.x);
    v[2] = cop_low_bf16(a.y), v[3] = cop_high_bf16(a.y);
    v[4] = cop_low_bf16(a.z), v[5] = cop_high_bf16(a.z);
    v[6] = cop_low_bf16(a.w), v[7] = cop_high_bf16(a.w);
}

static __device__ __forceinline__ void cop_unpack(float (&v)[1], const uint16_t &a)
{
    v[0] = cop_low_bf16(a);
}

static __device__ __forceinline__ void cop_load(float (&v)[8], const float *p)
{
    const float4 a = ((const float4 *)p)[0], b = ((const float4 *)p)[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}

static __device__ __forceinline__ void cop_load(float (&v)[1], const float *p)
{
    v[0] = *p;
}

static __device__ __forceinline__ void cop_store(float *p, const float (&v)[8])
{
    ((float4 *)p)[0] = {v[0], v[1], v[2], v[3]};
    ((float4 *)p)[1] = {v[4], v[5], v[6], v[7]};
}

static __device__ __forceinline__ void cop_store(float *p, const float (&v)[1])
{
    *p = v[0];
}

/* Nearest even. */
static __device__ __forceinline__ void cop_store(uint16_t *p, const float (&v)[8])
{
    *(uint4 *)p = {cop_pack_bf16(v[0], v[1]), cop_pack_bf16(v[2], v[3]), cop_pack_bf16(v[4], v[5]),
                   cop_pack_bf16(v[6], v[7])};
}

static __device__ __forceinline__ void cop_store(uint16_t *p, const float (&v)[1])
{
    *p = (uint16_t)cop_pack_bf16(v[0], 0);
}

/* The sum over groups of `lanes` neighbouring lanes (a power of two), the same bits in each. All 32
 * take part. */
static __device__ __forceinline__ float cop_sum_lanes(float x, int lanes)
{
#pragma unroll
    for (int distance = lanes / 2; distance > 0; distance /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

static inline uint32_t cop_ceil_div(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

#endif
