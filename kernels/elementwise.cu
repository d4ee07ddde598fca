/* Kernels that are copies with little arithmetic: embedding, SwiGLU, the copy of a block.
 *
 * A thread of embed and swiglu takes 8 values at a time, twice, where the row's length allows it
 * (a multiple of 8; else value by value), and loads all before it uses the first. Grids are rows x
 * parts of a row.
 *
 * Bytes moved:
 *     embed       6 hidden a row            the BF16 row in, float32 out
 *     swiglu      6 ffn a row               gate 2, up 2, out 2
 *     copy_block  8 layers * kv_heads * tokens * head_dim in all: K and V, read and written */
#include "kernels.h"
#include "load.h"
#include "wide.cuh"

namespace
{

constexpr uint32_t MAX_THREADS = 256, UNROLL = 2, COPIES = 4;

struct split {
    dim3 grid, block;
};

/* Threads for `rows` rows of `pieces` pieces, each of which does `unroll` of them. */
split split_rows(uint32_t rows, uint32_t pieces, uint32_t unroll)
{
    const uint32_t threads = cop_ceil_div(pieces, unroll);
    const uint32_t parts = cop_ceil_div(threads, MAX_THREADS);
    return {dim3(rows, parts), dim3(cop_ceil_div(cop_ceil_div(threads, parts), 32) * 32)};
}

/* Piece `u` of this thread's: neighbours have neighbouring pieces. */
__device__ __forceinline__ uint32_t piece_of_thread(uint32_t u)
{
    return (u * gridDim.y + blockIdx.y) * blockDim.x + threadIdx.x;
}

template <int W>
__global__ void __launch_bounds__(MAX_THREADS)
    embed_rows(const uint32_t *rows, const uint32_t *token, const uint16_t *embedding, float *x,
               uint32_t hidden)
{
    const uint32_t row = blockIdx.x;
    if (row >= *rows)
        return;
    const uint16_t *in = embedding + (size_t)token[row] * hidden;
    cop_bf16s<W> held[UNROLL];
#pragma unroll
    for (uint32_t u = 0; u < UNROLL; u++)
        if (piece_of_thread(u) * W < hidden)
            held[u] = cop_load<W>(in + piece_of_thread(u) * W);
#pragma unroll
    for (uint32_t u = 0; u < UNROLL; u++)
        if (piece_of_thread(u) * W < hidden) {
            float v[W];
            cop_unpack(v, held[u]);
            cop_store(x + (size_t)row * hidden + piece_of_thread(u) * W, v);
        }
}

/* gate * sigmoid(gate). Beyond 2^126 the divisor makes it 0. */
__device__ __forceinline__ float silu(float gate)
{
    return __fdividef(gate, 1.0f + cop_exp2(gate * -1.44269504f));
}

/* Rows of padding can be read, so whether a row is one is asked after the loads. */
template <int W>
__global__ void __launch_bounds__(MAX_THREADS)
    swiglu_rows(const uint32_t *rows, const uint16_t *gate_up, uint16_t *out, uint32_t ffn)
{
    const uint32_t row = blockIdx.x;
    const uint16_t *in = gate_up + (size_t)row * 2 * ffn;
    cop_bf16s<W> gates[UNROLL], ups[UNROLL];
#pragma unroll
    for (uint32_t u = 0; u < UNROLL; u++) {
        const uint32_t i = piece_of_thread(u) * W;
        if (i >= ffn)
            continue;
        gates[u] = cop_load<W>(in + i);
        ups[u] = cop_load<W>(in + ffn + i);
    }
    if (row >= *rows)
        return;
#pragma unroll
    for (uint32_t u = 0; u < UNROLL; u++) {
        const uint32_t i = piece_of_thread(u) * W;
        if (i >= ffn)
            continue;
        float gate[W], up[W];
        cop_unpack(gate, gates[u]);
        cop_unpack(up, ups[u]);
#pragma unroll
        for (int j = 0; j < W; j++)
            up[j] *= silu(gate[j]);
        cop_store(out + (size_t)row * ffn + i, up);
    }
}

/* Rows: stripes of a block, of which the first `pieces` pieces are copied. stride: pieces from one
 * stripe to the next. */
__global__ void __launch_bounds__(MAX_THREADS)
    copy_stripes(const uint4 *from, uint4 *to, uint32_t pieces, size_t stride)
{
    const uint4 *in = from + blockIdx.x * stride;
    uint4 v[COPIES];
#pragma unroll
    for (uint32_t u = 0; u < COPIES; u++)
        if (piece_of_thread(u) < pieces)
            v[u] = in[piece_of_thread(u)];
#pragma unroll
    for (uint32_t u = 0; u < COPIES; u++)
        if (piece_of_thread(u) < pieces)
            to[blockIdx.x * stride + piece_of_thread(u)] = v[u];
}

} // namespace

cudaError_t cop_cuda_embed(const cop_cuda_shape *shape, const cop_cuda_batch *batch, uint32_t rows,
                           const uint16_t *embedding, float *x, cudaStream_t stream)
{
    if (rows == 0)
        return cudaSuccess;
    const bool wide = shape->hidden % 8 == 0;
    const split s = split_rows(rows, wide ? shape->hidden / 8 : shape->hidden, UNROLL);
    return cop_launch(wide ? embed_rows<8> : embed_rows<1>, s.grid, s.block, 0, stream,
                      &batch->counts[0], batch->token, embedding, x, shape->hidden);
}

cudaError_t cop_cuda_swiglu(const cop_cuda_shape *shape, const cop_cuda_batch *batch, uint32_t rows,
                            const uint16_t *gate_up, uint16_t *out, cudaStream_t stream)
{
    if (rows == 0)
        return cudaSuccess;
    const bool wide = shape->ffn % 8 == 0;
    const split s = split_rows(rows, wide ? shape->ffn / 8 : shape->ffn, UNROLL);
    return cop_launch(wide ? swiglu_rows<8> : swiglu_rows<1>, s.grid, s.block, 0, stream,
                      &batch->counts[0], gate_up, out, shape->ffn);
}

cudaError_t cop_cuda_copy_block(const cop_cuda_shape *shape, uint32_t src, uint32_t dst,
                                uint32_t tokens, cudaStream_t stream)
{
    if (tokens > shape->block_tokens)
        return cudaErrorInvalidValue;
    if (tokens == 0 || src == dst)
        return cudaSuccess;
    const uint32_t stripes = shape->layers * 2 * shape->kv_heads, piece = 8;
    const size_t stride = (size_t)shape->block_tokens * shape->head_dim / piece;
    const uint32_t pieces = tokens * shape->head_dim / piece;
    uint4 *pool = (uint4 *)shape->pool;
    const split s = split_rows(stripes, pieces, COPIES);
    return cop_launch(copy_stripes, s.grid, s.block, 0, stream,
                      (const uint4 *)pool + src * stripes * stride, pool + dst * stripes * stride,
                      pieces, stride);
}

cudaError_t cop_load_elementwise()
{
    return cop_load(embed_rows<8>, embed_rows<1>, swiglu_rows<8>, swiglu_rows<1>, copy_stripes);
}
