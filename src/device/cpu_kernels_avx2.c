/* Kernels for AVX2 with FMA: 256-bit vectors. */
#ifdef __x86_64__
#pragma GCC target("avx2,fma")
#define LANES          8
#define ROWS           6
#define VECTORS        2
#define VECTORS_OF_FEW 4
#define VECTORS_OF_1   8
#define NAME(x)        x##_avx2
#define SOFTMAX        NAME(softmax)
#define TRANSPOSE      NAME(transpose)
#include "device/cpu_kernels.inc"

const cop_kernels cop_kernels_avx2[2] = {
    {.isa = "avx2", KERNELS_BF16_IN_FLOAT},
    {.isa = "avx2", KERNELS_FLOAT},
};
#else
typedef int cop_kernels_avx2_unused;
#endif
