/* Takes the place of kernels/gpu.cuh where kernels are compiled as C++ for the emulator: the same
 * names, and the built-ins of CUDA C++ that a C++ compiler lacks. Shapes and lane layouts: see
 * there; how threads run: executor.h. */
#ifndef COP_GPU_CUH
#define COP_GPU_CUH

#include "builtins.h"

/* A macro, so that messages can name the kernel. */
#define cop_launch(...) emulator_launch_typed(#__VA_ARGS__, __VA_ARGS__)

template <typename... Parameters> static void emulator_enter(const void *parameters)
{
    std::apply([](auto kernel, Parameters... values) { kernel(values...); },
               *(const std::tuple<void (*)(Parameters...), Parameters...> *)parameters);
}

template <typename... Parameters, typename... Arguments>
static inline cudaError_t emulator_launch_typed(const char *call, void (*kernel)(Parameters...),
                                                dim3 grid, dim3 block, size_t smem,
                                                cudaStream_t stream, Arguments... arguments)
{
    if (smem > 48 * 1024) {
        cudaError_t status = cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
        if (status != cudaSuccess)
            return status;
    }
    typedef std::tuple<void (*)(Parameters...), Parameters...> kernel_call;
    static_assert((std::is_trivially_copyable_v<Parameters> && ...), "parameters are bytes");
    const kernel_call parameters(kernel, (Parameters)arguments...);
    return emulator_launch(call, (const void *)kernel, grid, block, smem, stream,
                           {emulator_enter<Parameters...>, &parameters, sizeof parameters});
}

static inline unsigned char *cop_shared_memory()
{
    return emulator_block.shared;
}

static inline uint32_t cop_shared_address(const void *p)
{
    return emulator_shared_address(p);
}

static inline void cop_mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                           const char *file = __builtin_FILE(), int line = __builtin_LINE())
{
    emulator_mma_argument argument = {c, a, b};
    emulator_meet(UINT32_MAX, &emulator_mma, &argument, {file, line});
}

static inline void cop_load_matrices(uint32_t (&r)[4], const void *row,
                                     const char *file = __builtin_FILE(),
                                     int line = __builtin_LINE())
{
    emulator_read_row(row, "cop_load_matrices");
    emulator_load_argument argument = {r, row};
    emulator_meet(UINT32_MAX, &emulator_load, &argument, {file, line});
}

static inline void cop_load_matrices_transposed(uint32_t (&r)[4], const void *row,
                                                const char *file = __builtin_FILE(),
                                                int line = __builtin_LINE())
{
    emulator_read_row(row, "cop_load_matrices_transposed");
    emulator_load_argument argument = {r, row};
    emulator_meet(UINT32_MAX, &emulator_load_transposed, &argument, {file, line});
}

static inline void cop_copy_async(void *shared, const void *global, bool wanted)
{
    emulator_copy_issue(shared, global, wanted);
}

static inline void cop_copy_commit()
{
    emulator_copy_commit();
}

template <int N> static inline void cop_copy_wait()
{
    emulator_copy_wait(N);
}

/* Denormal arguments and results are zero, as with ex2.approx.ftz. */
static inline float cop_exp2(float x)
{
    float y = exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

static inline uint32_t emulator_bf16(float x)
{
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static inline uint32_t cop_pack_bf16(float low, float high)
{
    return emulator_bf16(low) | emulator_bf16(high) << 16;
}

static inline float cop_low_bf16(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

static inline float cop_high_bf16(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

#endif
