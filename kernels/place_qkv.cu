/* What lies between the qkv product and attention, in one pass: QK norm, RoPE, and each head to its
 * place, q for attention, k and v in the paged pool.
 *
 * A thread has 8 values of one half of a head and the 8 that RoPE pairs with them in the other, so
 * 4 (head_dim 64) or 8 (128) neighbouring lanes have a head, and its norm is a sum over them. All
 * arithmetic is float32, each value is rounded once. Nothing crosses heads or rows.
 *
 * Bytes a row of n = (q_heads + 2 kv_heads) * head_dim values moves: 4 n (BF16 in, BF16 out), and
 * its 4 head_dim of cosines and sines, which all its heads share through the caches.
 *
 * QK norm as in Qwen3, RoPE by halves as in GPT-NeoX (Su et al., 2021). */
#include "kernels.h"
#include "load.h"
#include "wide.cuh"

namespace
{

constexpr uint32_t MAX_THREADS = 256;

struct place {
    const uint32_t *rows, *position, *slot;
    const uint16_t *qkv;
    const float *q_norm, *k_norm; /* NULL: not normed */
    const float *cosine, *sine;
    uint16_t *q, *pool;
    uint32_t q_heads, kv_heads, block_tokens, layers, layer;
    float epsilon;
};

/* Heads of a row are counted through q, k and v. Where the first value of head `head` goes. */
template <int Dim>
__device__ __forceinline__ uint16_t *destination(const place &p, uint32_t row, uint32_t head,
                                                 uint32_t slot)
{
    if (head < p.q_heads)
        return p.q + ((size_t)row * p.q_heads + head) * Dim;
    const size_t block = slot / p.block_tokens;
    const uint32_t part_head = head - p.q_heads; /* k, then v: as they follow in the pool */
    const size_t stripe = (block * p.layers + p.layer) * 2 * p.kv_heads + part_head;
    return p.pool + (stripe * p.block_tokens + slot % p.block_tokens) * Dim;
}

template <int Dim>
__device__ __forceinline__ void norm_head(float (&low)[8], float (&high)[8], const float *gain,
                                          float factor, uint32_t i)
{
    float g[8];
    cop_load(g, gain + i);
#pragma unroll
    for (int j = 0; j < 8; j++)
        low[j] *= factor * g[j];
    cop_load(g, gain + Dim / 2 + i);
#pragma unroll
    for (int j = 0; j < 8; j++)
        high[j] *= factor * g[j];
}

/* Grid: rows x parts of a row's heads. */
template <int Dim> __global__ void __launch_bounds__(MAX_THREADS) place_heads(place p)
{
    constexpr uint32_t lanes = Dim / 16;
    const uint32_t row = blockIdx.x, heads = p.q_heads + 2 * p.kv_heads;
    if (row >= *p.rows)
        return;
    const uint32_t thread = blockIdx.y * blockDim.x + threadIdx.x;
    const uint32_t head = thread / lanes, i = thread % lanes * 8;
    const bool turned = head < p.q_heads + p.kv_heads;
    const float *gain = head < p.q_heads ? p.q_norm : turned ? p.k_norm : NULL;
    uint4 in[2] = {};
    float low[8], high[8], cosine[8] = {}, sine[8] = {};
    if (head < heads) {
        const uint16_t *from = p.qkv + ((size_t)row * heads + head) * Dim + i;
        in[0] = cop_load<8>(from);
        in[1] = cop_load<8>(from + Dim / 2);
    }
    if (turned) {
        const size_t angle = (size_t)p.position[row] * (Dim / 2) + i;
        cop_load(cosine, p.cosine + angle);
        cop_load(sine, p.sine + angle);
    }
    cop_unpack(low, in[0]);
    cop_unpack(high, in[1]);
    if (p.q_norm || p.k_norm) { /* the same for all lanes: they exchange sums */
        float squares = 0;
#pragma unroll
        for (int j = 0; j < 8; j++)
            squares += low[j] * low[j] + high[j] * high[j];
        const float mean = cop_sum_lanes(squares, lanes) / Dim;
        if (gain)
            norm_head<Dim>(low, high, gain, rsqrtf(mean + p.epsilon), i);
    }
    if (head >= heads)
        return;
    if (turned)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const float a = low[j], b = high[j];
            low[j] = a * cosine[j] - b * sine[j];
            high[j] = b * cosine[j] + a * sine[j];
        }
    uint16_t *out = destination<Dim>(p, row, head, p.slot[row]) + i;
    cop_store(out, low);
    cop_store(out + Dim / 2, high);
}

} // namespace

cudaError_t cop_cuda_place_qkv(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                               uint32_t rows, uint32_t layer, const uint16_t *qkv,
                               const float *q_norm, const float *k_norm, uint16_t *q,
                               cudaStream_t stream)
{
    if (shape->head_dim != 64 && shape->head_dim != 128)
        return cudaErrorInvalidValue;
    if (rows == 0)
        return cudaSuccess;
    place p = {};
    p.rows = &batch->counts[0];
    p.position = batch->position;
    p.slot = batch->slot;
    p.qkv = qkv;
    p.q_norm = q_norm;
    p.k_norm = k_norm;
    p.cosine = shape->cosine;
    p.sine = shape->sine;
    p.q = q;
    p.pool = shape->pool;
    p.q_heads = shape->q_heads;
    p.kv_heads = shape->kv_heads;
    p.block_tokens = shape->block_tokens;
    p.layers = shape->layers;
    p.layer = layer;
    p.epsilon = shape->rms_epsilon;
    const uint32_t warps = cop_ceil_div((p.q_heads + 2 * p.kv_heads) * (shape->head_dim / 16), 32);
    const uint32_t parts = cop_ceil_div(warps, MAX_THREADS / 32);
    const dim3 grid(rows, parts), block(cop_ceil_div(warps, parts) * 32);
    return cop_launch(shape->head_dim == 64 ? place_heads<64> : place_heads<128>, grid, block, 0,
                      stream, p);
}

cudaError_t cop_load_place_qkv()
{
    return cop_load(place_heads<64>, place_heads<128>);
}
