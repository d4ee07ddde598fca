/* Attention of one new token per sequence over paged KV: the kernel that streams the cache.
 *
 * Every key and value of the context is read once and used by the few query heads that share it, so
 * memory is the bound. What follows is arithmetic for an H100 (3.35 TB/s, 132 multiprocessors of 4
 * schedulers, 1.7 GHz), head_dim 128, where a key of one kv head is 512 bytes:
 *
 *   Bytes under way (Little's law): 3.35 TB/s * 700 ns of latency = 2.3 MB, or 18 KiB on each
 *   multiprocessor. A warp has one or two tiles of 8 KiB (4 of K, 4 of V) on their way by cp.async,
 *   two while it waits, one while it works; 4 warps make a block, 3 blocks fit (64 KiB of shared
 *   memory each, of 227): 96 to 192 KiB. A block alone has 32 to 64, so that 36 to 72 blocks draw
 *   the full bandwidth and a last wave that is not full costs little.
 *
 *   Instructions: 3.35 TB/s is 3.1 M tiles of 16 keys a second on a multiprocessor, which can issue
 *   6.8 G; so 2,200 a tile before memory stops being the bound. On plain multiply-adds, a tile
 *   costs 16 * 2 * 128 / 32 = 128 for each query head and 128 to widen BF16: 640 for a group of 4
 *   and 1,150 for 8, with the sums over lanes on top: a quarter to a half of all issue slots, in
 *   warps that also have to wait. By mma.sync it is 24 products and 16 ldmatrix for any group up to
 *   8, of about 310 instructions in all (counted in the SASS of sm_90): a seventh. So tensor cores
 *   it is, for every group: what pads a small one is never read and costs nothing.
 *
 * Scores are S[head][key] = Q K^T with the heads padded to 16 rows; the output is gathered
 * transposed, O^T[dim][head] = V^T P^T, because then the accumulator of S is already the operand
 * P^T, lane for lane, and its 8 columns are 8 heads: half the registers and half the products of O
 * = P V. A group of up to 16 has two such columns of products; a larger one is cut into parts of 16
 * heads, each of which reads K and V again.
 *
 * The context is split into parts (Flash-Decoding: Dao, Haziza, Massa, Sizov 2023; as FlashInfer
 * and vLLM's paged attention v2 have it), a block each: each of its warps takes every fourth tile
 * with an online softmax of its own, and the block adds the four up. A second small kernel combines
 * the parts: a counter by which the last block would do it must be zero before the first launch,
 * and nothing here owns memory between launches. One part alone goes straight to the output.
 *
 * Keys beyond the context are never read: zeros take their place, their probability is zero. The
 * bits of a row depend on its query, its context and `splits`, on nothing else in the batch. */
#include "kernels.h"
#include "load.h"

#include <float.h>
#include <gpu.cuh>
#include <math.h>

enum {
    WARPS = 4,
    THREADS = 32 * WARPS,
    TILE_BYTES = 4096, /* of K, and as many of V */
    STAGE_BYTES = 2 * TILE_BYTES,
    STAGES = 2,
    SHARED_BYTES = WARPS * STAGES * STAGE_BYTES,
    BLOCKS = 3, /* on a multiprocessor */
    COMBINE_THREADS = 256,
    LEAST_PART = 256, /* keys: below that, a block hardly gets going */
    MOST_SPLITS = 128,
};

static_assert(WARPS * 16 * (128 + 4 + 2) * sizeof(float) <= SHARED_BYTES, "merging overlays tiles");

/* Of head_dim: a tile of K is 4 KiB for both. */
template <int Dim> struct tile_shape {
    static constexpr int keys = TILE_BYTES / (2 * Dim); /* 16 or 32 */
    static constexpr int chunks = Dim / 8;              /* of 16 bytes, in a row */
    static constexpr uint32_t round = WARPS * keys;     /* keys that the block takes at a time */
    static constexpr int merge_stride = Dim + 4;        /* floats: no bank conflicts */
};

/* The part of one sequence and kv head that a block computes, and for which heads. */
typedef struct {
    const uint16_t *pool;
    const uint32_t *blocks; /* of the sequence */
    uint32_t block_tokens;
    uint32_t stripes, stripe; /* of [block_tokens][head_dim]: in a block; the one of the keys */
    size_t values;            /* elements from a key to its value */
    uint32_t begin, end;      /* keys */
    uint32_t head, heads;     /* query heads */
} task;

/* What a warp has gathered. Heads are padded to 8 * Columns; maxima are in powers of 2. */
template <int Dim, int Columns> struct gathered {
    float out[Columns][Dim / 16][4]; /* mma accumulators of O^T */
    float max[Columns];              /* of head 8 * column + lane / 4 */
    float sum[Columns];              /* likewise, over this lane's keys */
};

/* Keys of each part: whole rounds, so that all parts but the last are full. */
static __device__ uint32_t part_keys(uint32_t context, uint32_t splits, uint32_t round)
{
    uint32_t least = (context - 1) / splits + 1;
    return ((least - 1) / round + 1) * round;
}

/* Context of a sequence that is to be computed, 0 if it is to be left alone. */
static __device__ uint32_t decode_context(const cop_cuda_batch &batch, uint32_t index)
{
    if (index >= batch.counts[1] || batch.sequence[index].count != 1)
        return 0;
    return batch.sequence[index].start + 1;
}

/* Number of the row of K, [head_dim] elements, that holds this lane's key of the tile. */
template <int Dim> static __device__ uint32_t locate(const task &t, uint32_t tile, uint32_t lane)
{
    uint32_t key = tile + lane;
    if (lane >= tile_shape<Dim>::keys || key >= t.end)
        return 0;
    uint32_t block = t.blocks[key / t.block_tokens];
    return (block * t.stripes + t.stripe) * t.block_tokens + key % t.block_tokens;
}

/* Byte of a 16-byte chunk of a row in a tile; the rows of ldmatrix fall into different banks. */
template <int Dim> static __device__ int place(int row, int chunk)
{
    return row * 2 * Dim + ((chunk ^ (row & 7)) << 4);
}

/* Sets a tile on its way. row: of this lane's key. */
template <int Dim>
static __device__ void fetch(const task &t, uint32_t tile, uint32_t row, unsigned char *stage,
                             uint32_t lane)
{
    constexpr int chunks = tile_shape<Dim>::chunks, rows = 32 / chunks;
    const int chunk = lane % chunks;
    if (tile < t.end) {
#pragma unroll
        for (int first = 0; first < tile_shape<Dim>::keys; first += rows) {
            int key = first + lane / chunks;
            const uint16_t *k = t.pool + (size_t)__shfl_sync(~0u, row, key) * Dim + chunk * 8;
            unsigned char *to = stage + place<Dim>(key, chunk);
            bool wanted = tile + key < t.end;
            cop_copy_async(to, k, wanted);
            cop_copy_async(to + TILE_BYTES, k + t.values, wanted);
        }
    }
    cop_copy_commit();
}

/* This lane's fragments of the query heads, rows of a 16 x Dim matrix; zeros below them. */
template <int Dim, int Columns>
static __device__ void load_query(const uint16_t *q, uint32_t heads, uint32_t lane,
                                  uint32_t (&query)[Dim / 16][4])
{
#pragma unroll
    for (int column = 0; column < 2; column++) {
        uint32_t head = 8 * column + lane / 4;
        bool there = column < Columns && head < heads;
        const uint32_t *row = (const uint32_t *)(q + (size_t)head * Dim) + lane % 4;
#pragma unroll
        for (int i = 0; i < Dim / 16; i++) {
            query[i][column] = there ? row[8 * i] : 0;
            query[i][column + 2] = there ? row[8 * i + 4] : 0;
        }
    }
}

/* S of a tile: scores[n] is the accumulator of keys 8 n to 8 n + 7. */
template <int Dim>
static __device__ void score(const unsigned char *keys, const uint32_t (&query)[Dim / 16][4],
                             uint32_t lane, float (&scores)[tile_shape<Dim>::keys / 8][4])
{
    const int row = lane / 16 * 8 + lane % 8, half = lane / 8 % 2;
#pragma unroll
    for (int n = 0; n < tile_shape<Dim>::keys / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            scores[n][i] = 0;
#pragma unroll
    for (int i = 0; i < Dim / 16; i++) {
#pragma unroll
        for (int n = 0; n < tile_shape<Dim>::keys / 8; n += 2) {
            uint32_t b[4];
            cop_load_matrices(b, keys + place<Dim>(8 * n + row, 2 * i + half));
            cop_mma(scores[n], query[i], {b[0], b[1]});
            cop_mma(scores[n + 1], query[i], {b[2], b[3]});
        }
    }
}

/* Online softmax of one column of heads: its scores to BF16 probabilities, operands of P^T,
 * relative to the new maximum. The sum is that of the rounded ones, so that the weights of the
 * values add up to exactly 1. Keys from `valid` on are not there; the first one is. Returns by how
 * much what was gathered before shrinks. */
template <int Tiles>
static __device__ float soften(const float (&scores)[Tiles][4], int column, float scale,
                               uint32_t valid, uint32_t lane, float &max, float &sum,
                               uint32_t (&p)[Tiles])
{
    float s[Tiles][2], greatest = max;
#pragma unroll
    for (int n = 0; n < Tiles; n++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            bool there = 8 * n + 2 * (lane % 4) + j < valid;
            s[n][j] = there ? scores[n][2 * column + j] * scale : -INFINITY;
            greatest = fmaxf(greatest, s[n][j]);
        }
    greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, 1));
    greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, 2));
    float factor = cop_exp2(max - greatest);
    max = greatest;
    sum *= factor;
#pragma unroll
    for (int n = 0; n < Tiles; n++) {
        p[n] = cop_pack_bf16(cop_exp2(s[n][0] - greatest), cop_exp2(s[n][1] - greatest));
        sum += cop_low_bf16(p[n]) + cop_high_bf16(p[n]);
    }
    return factor;
}

/* O^T = O^T * factor + V^T P^T. factors: of head lane / 4 of each column, where the accumulators
 * hold heads 2 (lane % 4) and the next. */
template <int Dim, int Columns>
static __device__ void gather(const unsigned char *values, const float (&factors)[Columns],
                              const uint32_t (&p)[Columns][tile_shape<Dim>::keys / 8],
                              uint32_t lane, gathered<Dim, Columns> &state)
{
    const int row = lane / 16 * 8 + lane % 8, half = lane / 8 % 2;
#pragma unroll
    for (int c = 0; c < Columns; c++) {
        float even = __shfl_sync(~0u, factors[c], lane % 4 * 8);
        float odd = __shfl_sync(~0u, factors[c], lane % 4 * 8 + 4);
#pragma unroll
        for (int i = 0; i < Dim / 16; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                state.out[c][i][j] *= j % 2 ? odd : even;
    }
#pragma unroll
    for (int i = 0; i < Dim / 16; i++)
#pragma unroll
        for (int n = 0; n < tile_shape<Dim>::keys / 8; n += 2) {
            uint32_t a[4];
            cop_load_matrices_transposed(a, values + place<Dim>(8 * n + row, 2 * i + half));
#pragma unroll
            for (int c = 0; c < Columns; c++)
                cop_mma(state.out[c][i], a, {p[c][n], p[c][n + 1]});
        }
}

/* All tiles of this warp: every WARPS-th of the part. Tile i lies in stage i % 2 while tile i + 1
 * comes in, and the table is read for tile i + 2. */
template <int Dim, int Columns>
static __device__ void attend(const task &t, const uint16_t *q, unsigned char *stages,
                              uint32_t warp, uint32_t lane, gathered<Dim, Columns> &state)
{
    constexpr int keys = tile_shape<Dim>::keys;
    constexpr uint32_t round = tile_shape<Dim>::round;
    const float scale = 1.44269504f / sqrtf((float)Dim);
    uint32_t query[Dim / 16][4];
    uint32_t tile = t.begin + warp * keys;
    fetch<Dim>(t, tile, locate<Dim>(t, tile, lane), stages, lane);
    uint32_t next_row = locate<Dim>(t, tile + round, lane);
    load_query<Dim, Columns>(q, t.heads, lane, query);
    for (int stage = 0; tile < t.end; tile += round, stage ^= 1) {
        fetch<Dim>(t, tile + round, next_row, stages + (stage ^ 1) * STAGE_BYTES, lane);
        next_row = locate<Dim>(t, tile + 2 * round, lane);
        cop_copy_wait<1>();
        __syncwarp();
        const unsigned char *here = stages + stage * STAGE_BYTES;
        float scores[keys / 8][4], factors[Columns];
        uint32_t p[Columns][keys / 8];
        score<Dim>(here, query, lane, scores);
#pragma unroll
        for (int c = 0; c < Columns; c++)
            factors[c] = soften<keys / 8>(scores, c, scale, t.end - tile, lane, state.max[c],
                                          state.sum[c], p[c]);
        gather<Dim, Columns>(here + TILE_BYTES, factors, p, lane, state);
        __syncwarp(); /* all have read: the next fetch may overwrite */
    }
}

/* Puts what a warp gathered where the block adds it up: out [WARPS][heads][merge_stride], then
 * (max, sum) [WARPS][heads]. */
template <int Dim, int Columns>
static __device__ void put(const gathered<Dim, Columns> &state, uint32_t warp, uint32_t lane,
                           float *out, float2 *weight)
{
    constexpr int heads = 8 * Columns, stride = tile_shape<Dim>::merge_stride;
#pragma unroll
    for (int c = 0; c < Columns; c++) {
        float sum = state.sum[c];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (lane % 4 == 0)
            weight[warp * heads + 8 * c + lane / 4] = make_float2(state.max[c], sum);
        float *to = out + (warp * heads + 8 * c + lane % 4 * 2) * stride + lane / 4;
#pragma unroll
        for (int i = 0; i < Dim / 16; i++) {
            to[16 * i] = state.out[c][i][0];
            to[stride + 16 * i] = state.out[c][i][1];
            to[16 * i + 8] = state.out[c][i][2];
            to[stride + 16 * i + 8] = state.out[c][i][3];
        }
    }
}

/* Adds up `count` softmaxes over different keys: weights[i * step] is the (max, sum) of number i,
 * out[i * stride] four of its dimensions. One of sum 0 saw no keys. Returns (max, sum) of all. */
static __device__ float2 add_up(const float2 *weights, uint32_t step, const float *out,
                                size_t stride, uint32_t count, float4 *total)
{
    float2 all = make_float2(-FLT_MAX, 0);
    for (uint32_t i = 0; i < count; i++)
        all.x = fmaxf(all.x, weights[i * step].x);
    *total = make_float4(0, 0, 0, 0);
#pragma unroll 4
    for (uint32_t i = 0; i < count; i++) {
        float factor = cop_exp2(weights[i * step].x - all.x);
        float4 o = *(const float4 *)(out + i * stride);
        all.y += factor * weights[i * step].y;
        total->x += factor * o.x;
        total->y += factor * o.y;
        total->z += factor * o.z;
        total->w += factor * o.w;
    }
    return all;
}

static __device__ void store(uint16_t *out, float4 total, float sum)
{
    float inverse = 1.0f / sum;
    uint2 packed = make_uint2(cop_pack_bf16(total.x * inverse, total.y * inverse),
                              cop_pack_bf16(total.z * inverse, total.w * inverse));
    *(uint2 *)out = packed;
}

/* Where the scratch holds number `part` of a head: row (sequence * q_heads + head) * splits + part
 * of out [rows][head_dim]; behind that (max, sum) [rows]. */
typedef struct {
    float *out;
    float2 *weight;
} partial_results;

static __device__ partial_results split_scratch(float *partial, size_t rows, uint32_t dim)
{
    partial_results results = {partial, (float2 *)(partial + rows * dim)};
    return results;
}

/* The block adds up what its warps gathered: to `out` if this is all there is, else to `to`. */
template <int Dim, int Columns>
static __device__ void merge(const task &t, const float *gathered_out, const float2 *weight,
                             uint16_t *out, partial_results to, size_t row, uint32_t splits)
{
    constexpr int heads = 8 * Columns, stride = tile_shape<Dim>::merge_stride;
    for (uint32_t i = threadIdx.x; i < t.heads * (Dim / 4); i += THREADS) {
        uint32_t head = i / (Dim / 4), dim = i % (Dim / 4) * 4;
        float4 total;
        float2 all = add_up(weight + head, heads, gathered_out + head * stride + dim,
                            heads * stride, WARPS, &total);
        if (splits == 1) {
            store(out + head * Dim + dim, total, all.y);
            continue;
        }
        size_t at = row + (size_t)head * splits;
        *(float4 *)(to.out + at * Dim + dim) = total;
        if (dim == 0)
            to.weight[at] = all;
    }
}

/* grid: (splits, kv heads * parts of their group, sequences) */
template <int Dim, int Columns>
static __global__ void __launch_bounds__(THREADS, BLOCKS)
    decode_part(cop_cuda_shape shape, cop_cuda_batch batch, uint32_t first, uint32_t layer,
                const uint16_t *q, uint16_t *out, float *partial)
{
    const uint32_t context = decode_context(batch, first + blockIdx.z), splits = gridDim.x;
    if (context == 0)
        return;
    const uint32_t each = part_keys(context, splits, tile_shape<Dim>::round);
    const uint32_t begin = blockIdx.x * each;
    if (begin >= context)
        return;
    const cop_cuda_sequence sequence = batch.sequence[first + blockIdx.z];
    const uint32_t group = shape.q_heads / shape.kv_heads, cuts = gridDim.y / shape.kv_heads;
    const uint32_t kv_head = blockIdx.y / cuts, cut = blockIdx.y % cuts * 8 * Columns;
    task t = {
        .pool = shape.pool,
        .blocks = batch.blocks + sequence.table,
        .block_tokens = shape.block_tokens,
        .stripes = shape.layers * 2 * shape.kv_heads,
        .stripe = layer * 2 * shape.kv_heads + kv_head,
        .values = (size_t)shape.kv_heads * shape.block_tokens * Dim,
        .begin = begin,
        .end = min(context, begin + each),
        .head = kv_head * group + cut,
        .heads = min(group - cut, 8u * Columns),
    };
    const size_t head = (size_t)sequence.first_row * shape.q_heads + t.head;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    gathered<Dim, Columns> state = {};
    for (int c = 0; c < Columns; c++)
        state.max[c] = -FLT_MAX;
    attend(t, q + head * Dim, cop_shared_memory() + warp * STAGES * STAGE_BYTES, warp, lane, state);

    cop_copy_wait<0>();
    __syncthreads(); /* the tiles have served; what is added up goes over them */
    float *sums = (float *)cop_shared_memory();
    float2 *weight = (float2 *)(sums + WARPS * 8 * Columns * tile_shape<Dim>::merge_stride);
    put(state, warp, lane, sums, weight);
    __syncthreads();
    const size_t rows = (size_t)gridDim.z * shape.q_heads * splits;
    const size_t row = ((size_t)blockIdx.z * shape.q_heads + t.head) * splits + blockIdx.x;
    merge<Dim, Columns>(t, sums, weight, out + head * Dim, split_scratch(partial, rows, Dim), row,
                        splits);
}

/* Adds up the parts of a head; grid: (q heads, sequences). Its threads take four dimensions each,
 * and several parts at a time. */
template <int Dim>
static __global__ void __launch_bounds__(COMBINE_THREADS)
    decode_combine(cop_cuda_shape shape, cop_cuda_batch batch, uint32_t first, uint32_t splits,
                   const float *partial, uint16_t *out)
{
    constexpr uint32_t lanes = Dim / 4, side_by_side = COMBINE_THREADS / lanes;
    const uint32_t context = decode_context(batch, first + blockIdx.y);
    if (context == 0)
        return;
    const uint32_t each = part_keys(context, splits, tile_shape<Dim>::round);
    const uint32_t parts = (context - 1) / each + 1; /* those that hold anything */
    const uint32_t part = threadIdx.x / lanes, dim = threadIdx.x % lanes * 4;
    const size_t rows = (size_t)gridDim.y * shape.q_heads * splits;
    const size_t row = ((size_t)blockIdx.y * shape.q_heads + blockIdx.x) * splits;
    const partial_results from = split_scratch((float *)partial, rows, Dim);
    float *sums = (float *)cop_shared_memory(); /* [side_by_side][Dim], (max, sum) [side_by_side] */
    float2 *weight = (float2 *)(sums + side_by_side * Dim);
    float4 total;
    if (part < parts) {
        uint32_t count = (parts - 1 - part) / side_by_side + 1;
        float2 all =
            add_up(from.weight + row + part, side_by_side, from.out + (row + part) * Dim + dim,
                   (size_t)side_by_side * Dim, count, &total);
        *(float4 *)(sums + part * Dim + dim) = total;
        if (dim == 0)
            weight[part] = all;
    }
    __syncthreads();
    if (part > 0)
        return;
    float2 all = add_up(weight, 1, sums + dim, Dim, min(parts, side_by_side), &total);
    size_t head = (size_t)batch.sequence[first + blockIdx.y].first_row * shape.q_heads + blockIdx.x;
    store(out + head * Dim + dim, total, all.y);
}

template <int Dim>
static cudaError_t decode(const cop_cuda_shape *shape, const cop_cuda_batch *batch, uint32_t first,
                          uint32_t sequences, uint32_t splits, uint32_t layer, const uint16_t *q,
                          uint16_t *out, float *partial, cudaStream_t stream)
{
    const uint32_t group = shape->q_heads / shape->kv_heads, heads = group <= 8 ? 8 : 16;
    const dim3 grid(splits, shape->kv_heads * ((group - 1) / heads + 1), sequences);
    cudaError_t status =
        cop_launch(heads == 8 ? decode_part<Dim, 1> : decode_part<Dim, 2>, grid, dim3(THREADS),
                   SHARED_BYTES, stream, *shape, *batch, first, layer, q, out, partial);
    if (status != cudaSuccess || splits == 1)
        return status;
    const size_t smem = COMBINE_THREADS / (Dim / 4) * (Dim * sizeof(float) + sizeof(float2));
    return cop_launch(decode_combine<Dim>, dim3(shape->q_heads, sequences), dim3(COMBINE_THREADS),
                      smem, stream, *shape, *batch, first, splits, partial, out);
}

cudaError_t cop_cuda_decode_attention(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                                      uint32_t first, uint32_t sequences, uint32_t splits,
                                      uint32_t layer, const uint16_t *q, uint16_t *out,
                                      float *partial, cudaStream_t stream)
{
    if (sequences == 0)
        return cudaSuccess;
    if (splits == 0 || (shape->head_dim != 64 && shape->head_dim != 128))
        return cudaErrorInvalidValue;
    return (shape->head_dim == 64 ? decode<64> : decode<128>)(shape, batch, first, sequences,
                                                              splits, layer, q, out, partial,
                                                              stream);
}

size_t cop_cuda_decode_scratch(const cop_cuda_shape *shape, uint32_t sequences, uint32_t splits)
{
    if (splits <= 1)
        return 0;
    return (size_t)sequences * splits * shape->q_heads * (shape->head_dim + 2) * sizeof(float);
}

uint32_t cop_cuda_decode_splits(const cop_cuda_shape *shape, uint32_t sequences, uint32_t context,
                                uint32_t multiprocessors)
{
    const uint64_t group = shape->q_heads / shape->kv_heads;
    const uint64_t blocks = (uint64_t)sequences * shape->kv_heads * ((group - 1) / 16 + 1);
    const uint64_t wanted = 2ull * BLOCKS * multiprocessors;
    uint32_t splits = 1;
    while (splits < MOST_SPLITS && blocks * splits < wanted && context / (2 * splits) >= LEAST_PART)
        splits *= 2;
    return splits;
}

cudaError_t cop_load_decode_attention()
{
    return cop_load(decode_part<64, 1>, decode_part<64, 2>, decode_part<128, 1>,
                    decode_part<128, 2>, decode_combine<64>, decode_combine<128>);
}
