/* Kernels for any machine: 128-bit vectors, no target beyond the compiler's default. */
#define LANES          4
#define ROWS           3
#define VECTORS        2
#define VECTORS_OF_FEW 4
#define VECTORS_OF_1   8
#define NAME(x)        x##_baseline
#define SOFTMAX        NAME(softmax)
#define TRANSPOSE      NAME(transpose)
#include "device/cpu_kernels.inc"

const cop_kernels cop_kernels_baseline[2] = {
    {.isa = "baseline", KERNELS_BF16_IN_FLOAT},
    {.isa = "baseline", KERNELS_FLOAT},
};
