/* The instructions that CUDA C++ has no words for, and launching. Kernels use these, the built-ins
 * of CUDA C++, and nothing else of the machine, so that the same sources also run on a processor
 * (tests/emulator has a header of this name that takes its place). Everything is there from sm_80
 * on. Shapes and lane layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16", "ldmatrix". */
#ifndef COP_GPU_CUH
#define COP_GPU_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

/* Queues a kernel. smem: bytes of dynamic shared memory (set above 48 KiB where needed). */
template <typename... Parameters, typename... Arguments>
static inline cudaError_t cop_launch(void (*kernel)(Parameters...), dim3 grid, dim3 block,
                                     size_t smem, cudaStream_t stream, Arguments... arguments)
{
    if (smem > 48 * 1024) {
        cudaError_t status = cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
        if (status != cudaSuccess)
            return status;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = smem;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, (Parameters)arguments...);
}

/* Dynamic shared memory of the block, 128-byte aligned. */
static __device__ __forceinline__ unsigned char *cop_shared_memory()
{
    extern __shared__ __align__(128) unsigned char cop_dynamic_shared[];
    return cop_dynamic_shared;
}

static __device__ __forceinline__ uint32_t cop_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* c[16][8] += a[16][16] b[16][8] over a warp: BF16 pairs in, float32 sums. */
static __device__ __forceinline__ void cop_mma(float (&c)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit values from shared memory: lane l gives the address of row l % 8 of
 * matrix l / 8 (16 bytes, aligned). */
static __device__ __forceinline__ void cop_load_matrices(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(cop_shared_address(row))
                 : "memory");
}

/* The same, each matrix transposed. */
static __device__ __forceinline__ void cop_load_matrices_transposed(uint32_t (&r)[4],
                                                                    const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(cop_shared_address(row))
                 : "memory");
}

/* 16 bytes from global to shared memory, behind the thread's back; zeros if not wanted (then
 * nothing is read). Copies since the last commit make a group. */
static __device__ __forceinline__ void cop_copy_async(void *shared, const void *global, bool wanted)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(cop_shared_address(shared)),
                 "l"(global), "r"(wanted ? 16 : 0)
                 : "memory");
}

static __device__ __forceinline__ void cop_copy_commit()
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}

/* Until at most N groups of this thread are under way. Others see what came after a barrier. */
template <int N> static __device__ __forceinline__ void cop_copy_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

/* 2^x, to 2 ulp. */
static __device__ __forceinline__ float cop_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Two floats as a BF16 pair, nearest even; `low` in the low half. */
static __device__ __forceinline__ uint32_t cop_pack_bf16(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

static __device__ __forceinline__ float cop_low_bf16(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

static __device__ __forceinline__ float cop_high_bf16(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

#endif
