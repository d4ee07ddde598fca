/* The built-ins of CUDA C++ for a C++ compiler: names and meanings are those of the CUDA C++
 * Programming Guide and the CUDA Math API. Atomics are plain: threads are fibers, which give way
 * only where they meet. Static, as kernels may be compiled with different flags. */
#ifndef COP_EMULATOR_BUILTINS_H
#define COP_EMULATOR_BUILTINS_H

#include "emulator.h"
#include "executor.h"
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <tuple>
#include <type_traits>

#pragma GCC diagnostic ignored "-Wunused-function"

#undef __shared__
#undef __device__
#undef __host__
#undef __global__
#undef __constant__
#undef __launch_bounds__
#undef __grid_constant__
#define __shared__ static __attribute__((section("cop_shared")))
#define __device__
#define __host__
#define __global__
#define __constant__
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (*(const uint3 *)&emulator_self->index)
#define blockIdx  (*(const uint3 *)&emulator_block.index)
#define blockDim  (*(const dim3 *)&emulator_block.size)
#define gridDim   (*(const dim3 *)&emulator_block.grid)
#define warpSize  32

/* Where the caller stands: the last parameter of whatever waits. */
#define EMULATOR_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(EMULATOR_HERE)
{
    emulator_barrier(false, {file, line});
}

static inline int __syncthreads_count(int predicate, EMULATOR_HERE)
{
    return emulator_barrier(predicate, {file, line});
}

static inline int __syncthreads_or(int predicate, EMULATOR_HERE)
{
    return emulator_barrier(predicate, {file, line}) > 0;
}

static inline int __syncthreads_and(int predicate, EMULATOR_HERE)
{
    return emulator_barrier(!predicate, {file, line}) == 0;
}

static inline void __syncwarp(unsigned mask = UINT32_MAX, EMULATOR_HERE)
{
    emulator_meet(mask, &emulator_syncwarp, NULL, {file, line});
}

static inline unsigned __activemask()
{
    return emulator_active_mask();
}

static inline void __threadfence() {}

static inline void __threadfence_block() {}

static inline void __threadfence_system() {}

/* Lanes of one warp may take values of 4 or 8 bytes from each other. */
template <typename T>
static inline T emulator_shuffled(unsigned mask, T value, uint32_t source, emulator_place place)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles are of 32 or 64 bits");
    emulator_shuffle_argument argument = {0, 0, source};
    memcpy(&argument.value, &value, sizeof value);
    emulator_meet(mask, &emulator_shuffle, &argument, place);
    memcpy(&value, &argument.result, sizeof value);
    return value;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATOR_HERE)
{
    uint32_t lane = emulator_self->lane, segment = lane & ~(uint32_t)(width - 1);
    return emulator_shuffled(mask, value, segment + ((uint32_t)source & (uint32_t)(width - 1)),
                             {file, line});
}

template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                               EMULATOR_HERE)
{
    uint32_t lane = emulator_self->lane, place = lane & (uint32_t)(width - 1);
    return emulator_shuffled(mask, value, delta > place ? lane : lane - delta, {file, line});
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 EMULATOR_HERE)
{
    uint32_t lane = emulator_self->lane, place = lane & (uint32_t)(width - 1);
    return emulator_shuffled(mask, value, place + delta >= (uint32_t)width ? lane : lane + delta,
                             {file, line});
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATOR_HERE)
{
    uint32_t lane = emulator_self->lane, source = (lane ^ (uint32_t)bits) & 31;
    uint32_t last = lane | (uint32_t)(width - 1);
    return emulator_shuffled(mask, value, source > last ? lane : source, {file, line});
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATOR_HERE)
{
    emulator_vote_argument argument = {0, 0, predicate != 0};
    emulator_meet(mask, &emulator_ballot, &argument, {file, line});
    return argument.result;
}

static inline int __any_sync(unsigned mask, int predicate, EMULATOR_HERE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, EMULATOR_HERE)
{
    return __ballot_sync(mask, !predicate, file, line) == 0;
}

template <typename T> static inline unsigned __match_any_sync(unsigned mask, T value, EMULATOR_HERE)
{
    emulator_vote_argument argument = {0, 0, false};
    memcpy(&argument.value, &value, sizeof value);
    emulator_meet(mask, &emulator_match, &argument, {file, line});
    return argument.result;
}

#define EMULATOR_REDUCE(name, T, operation)                                         \
    static inline T __reduce_##name##_sync(unsigned mask, T value, EMULATOR_HERE)   \
    {                                                                               \
        emulator_reduce_argument argument = {(uint32_t)value, 0};                   \
        emulator_meet(mask, &emulator_reduce_##operation, &argument, {file, line}); \
        return (T)argument.result;                                                  \
    }
EMULATOR_REDUCE(add, unsigned, add)
EMULATOR_REDUCE(add, int, add)
EMULATOR_REDUCE(min, unsigned, min)
EMULATOR_REDUCE(min, int, min_signed)
EMULATOR_REDUCE(max, unsigned, max)
EMULATOR_REDUCE(max, int, max_signed)
EMULATOR_REDUCE(and, unsigned, and)
EMULATOR_REDUCE(or, unsigned, or)
EMULATOR_REDUCE(xor, unsigned, xor)
#undef EMULATOR_REDUCE

/* Bits. */
template <typename To, typename From> static inline To emulator_bits(From value)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}

static inline unsigned __float_as_uint(float x)
{
    return emulator_bits<unsigned>(x);
}

static inline float __uint_as_float(unsigned x)
{
    return emulator_bits<float>(x);
}

static inline int __float_as_int(float x)
{
    return emulator_bits<int>(x);
}

static inline float __int_as_float(int x)
{
    return emulator_bits<float>(x);
}

static inline long long __double_as_longlong(double x)
{
    return emulator_bits<long long>(x);
}

static inline double __longlong_as_double(long long x)
{
    return emulator_bits<double>(x);
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}

static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int __clzll(long long x)
{
    return x ? __builtin_clzll((unsigned long long)x) : 64;
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline int __ffsll(long long x)
{
    return __builtin_ffsll(x);
}

static inline unsigned __brev(unsigned x)
{
    unsigned result = 0;
    for (int i = 0; i < 32; i++)
        result |= (x >> i & 1) << (31 - i);
    return result;
}

static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift)
{
    return (unsigned)((((uint64_t)high << 32 | low) << (shift & 31)) >> 32);
}

static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift)
{
    return (unsigned)(((uint64_t)high << 32 | low) >> (shift & 31));
}

static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) {
        unsigned choice = selector >> 4 * i & 15;
        unsigned byte = (unsigned)(bytes >> 8 * (choice & 7)) & 255;
        result |= (choice & 8 ? (byte & 128 ? 255u : 0u) : byte) << 8 * i;
    }
    return result;
}

static inline unsigned __umulhi(unsigned x, unsigned y)
{
    return (unsigned)((uint64_t)x * y >> 32);
}

static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y)
{
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}

/* Memory. */
template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}

template <typename T> static inline T __ldcg(const T *p)
{
    return *p;
}

template <typename T> static inline T __ldcs(const T *p)
{
    return *p;
}

template <typename T> static inline T __ldca(const T *p)
{
    return *p;
}

template <typename T> static inline void __stcg(T *p, T value)
{
    *p = value;
}

template <typename T> static inline void __stcs(T *p, T value)
{
    *p = value;
}

static inline size_t __cvta_generic_to_shared(const void *p)
{
    return emulator_shared_address(p);
}

/* Not instrumented: an atomic tells of itself. */
#define EMULATOR_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#define EMULATOR_ATOMIC(name, T, expression)     \
    EMULATOR_UNSEEN static T name(T *p, T value) \
    {                                            \
        emulator_atomic_access(p, sizeof *p);    \
        T old = *p;                              \
        *p = (T)(expression);                    \
        return old;                              \
    }
#define EMULATOR_ATOMIC_INTEGERS(name, expression)   \
    EMULATOR_ATOMIC(name, int, expression)           \
    EMULATOR_ATOMIC(name, unsigned, expression)      \
    EMULATOR_ATOMIC(name, unsigned long, expression) \
    EMULATOR_ATOMIC(name, unsigned long long, expression)
EMULATOR_ATOMIC_INTEGERS(atomicAdd, old + value)
EMULATOR_ATOMIC_INTEGERS(atomicMin, value < old ? value : old)
EMULATOR_ATOMIC_INTEGERS(atomicMax, value > old ? value : old)
EMULATOR_ATOMIC_INTEGERS(atomicAnd, old &value)
EMULATOR_ATOMIC_INTEGERS(atomicOr, old | value)
EMULATOR_ATOMIC_INTEGERS(atomicXor, old ^ value)
EMULATOR_ATOMIC_INTEGERS(atomicExch, value)
EMULATOR_ATOMIC(atomicAdd, float, old + value)
EMULATOR_ATOMIC(atomicAdd, double, old + value)
EMULATOR_ATOMIC(atomicExch, float, value)
EMULATOR_ATOMIC(atomicSub, int, old - value)
EMULATOR_ATOMIC(atomicSub, unsigned, old - value)
EMULATOR_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
EMULATOR_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
#undef EMULATOR_ATOMIC_INTEGERS
#undef EMULATOR_ATOMIC

template <typename T> EMULATOR_UNSEEN static T emulator_swap_if(T *p, T expected, T value)
{
    emulator_atomic_access(p, sizeof *p);
    T old = *p;
    if (old == expected)
        *p = value;
    return old;
}

static inline int atomicCAS(int *p, int expected, int value)
{
    return emulator_swap_if(p, expected, value);
}

static inline unsigned atomicCAS(unsigned *p, unsigned expected, unsigned value)
{
    return emulator_swap_if(p, expected, value);
}

static inline unsigned long long atomicCAS(unsigned long long *p, unsigned long long expected,
                                           unsigned long long value)
{
    return emulator_swap_if(p, expected, value);
}

/* Arithmetic. */
#define EMULATOR_MINMAX(T)        \
    static inline T min(T a, T b) \
    {                             \
        return b < a ? b : a;     \
    }                             \
    static inline T max(T a, T b) \
    {                             \
        return a < b ? b : a;     \
    }
EMULATOR_MINMAX(int)
EMULATOR_MINMAX(unsigned)
EMULATOR_MINMAX(long)
EMULATOR_MINMAX(unsigned long)
EMULATOR_MINMAX(long long)
EMULATOR_MINMAX(unsigned long long)
#undef EMULATOR_MINMAX

/* Of a NaN and a number: the number. */
static inline float min(float a, float b)
{
    return fminf(a, b);
}

static inline float max(float a, float b)
{
    return fmaxf(a, b);
}

static inline double min(double a, double b)
{
    return fmin(a, b);
}

static inline double max(double a, double b)
{
    return fmax(a, b);
}

static inline unsigned min(unsigned a, int b)
{
    return min(a, (unsigned)b);
}

static inline unsigned min(int a, unsigned b)
{
    return min((unsigned)a, b);
}

static inline unsigned max(unsigned a, int b)
{
    return max(a, (unsigned)b);
}

static inline unsigned max(int a, unsigned b)
{
    return max((unsigned)a, b);
}

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

static inline double rsqrt(double x)
{
    return 1.0 / sqrt(x);
}

#define EMULATOR_SAME(name, T, expression) \
    static inline T name(T x)              \
    {                                      \
        return (T)(expression);            \
    }
EMULATOR_SAME(emulator_expf, float, expf(x))
EMULATOR_SAME(emulator_exp10f, float, exp10f(x))
EMULATOR_SAME(emulator_logf, float, logf(x))
EMULATOR_SAME(emulator_log2f, float, log2f(x))
EMULATOR_SAME(emulator_log10f, float, log10f(x))
EMULATOR_SAME(emulator_sinf, float, sinf(x))
EMULATOR_SAME(emulator_cosf, float, cosf(x))
EMULATOR_SAME(emulator_tanf, float, tanf(x))
EMULATOR_SAME(__saturatef, float, x > 0.0f ? fminf(x, 1.0f) : 0.0f)
EMULATOR_SAME(__frcp_rn, float, 1.0f / x)
EMULATOR_SAME(__fsqrt_rn, float, sqrtf(x))
EMULATOR_SAME(__frsqrt_rn, float, 1.0 / sqrt((double)x))
#undef EMULATOR_SAME

#define EMULATOR_TWO(name, T, expression) \
    static inline T name(T x, T y)        \
    {                                     \
        return expression;                \
    }
EMULATOR_TWO(__fdividef, float, x / y)
EMULATOR_TWO(emulator_powf, float, powf(x, y))
EMULATOR_TWO(__fadd_rn, float, x + y)
EMULATOR_TWO(__fsub_rn, float, x - y)
EMULATOR_TWO(__fmul_rn, float, x *y)
EMULATOR_TWO(__fdiv_rn, float, x / y)
EMULATOR_TWO(__dadd_rn, double, x + y)
EMULATOR_TWO(__dmul_rn, double, x *y)
#undef EMULATOR_TWO

/* Names that the C library has for itself. */
#define __expf   emulator_expf
#define __exp10f emulator_exp10f
#define __logf   emulator_logf
#define __log2f  emulator_log2f
#define __log10f emulator_log10f
#define __sinf   emulator_sinf
#define __cosf   emulator_cosf
#define __tanf   emulator_tanf
#define __powf   emulator_powf

static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}

static inline int __float2int_rn(float x)
{
    return (int)rintf(x);
}

static inline int __float2int_rz(float x)
{
    return (int)x;
}

static inline unsigned __float2uint_rn(float x)
{
    return (unsigned)rintf(x);
}

static inline float __int2float_rn(int x)
{
    return (float)x;
}

static inline float __uint2float_rn(unsigned x)
{
    return (float)x;
}

/* The rest. */
static inline void __trap()
{
    emulator_abort("__trap");
}

static inline void __nanosleep(unsigned) {}

static inline long long clock64()
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

#undef EMULATOR_HERE

#endif
