/* Prefill attention over paged KV, on tensor cores: mma.m16n8k16, BF16 in, float32 sums.
 *
 * A tile of 128 tokens and one kv head make 128 * group rows, (token, query head of the group), the
 * token changing slowest: as they lie in q, and as on the cpu device. A part is 128 of these rows
 * and one block of threads: 4 warps of 32 rows. Keys come 64 at a time, from key 0 upwards:
 *
 *       keys   0      64     128    192    256    start = 170, group 4: keys [0, 202)
 *              |------|------|------|------|
 *       warp 0 |######|######|####\ |      |  tokens 0..7    # seen by all of the warp's rows
 *       warp 1 |######|######|#####\|      |         8..15   \ masked row by row
 *       warp 2 |######|######|######|\ 0000|        16..23   0 zeros, not read from the pool
 *       warp 3 |######|######|######|#\0000|        24..31     the rest is left out
 *
 *     Q of the part -> shared memory; top = -inf, sum = 0, out = 0 for every row
 *     for each key tile:                          K(j + 1) is asked for when K(j) is taken up,
 *         s = Q K^T                               V(j + 1) when V(j) is
 *         s = -inf where the key is behind the row's token
 *         new top = max(top, s), p = 2^(s - new top), f = 2^(top - new top)
 *         sum = sum f + p, out = out f            float32; p to BF16 for what follows
 *         out += p V
 *     out / sum -> BF16
 *
 * What a row adds up, and in what order, follows from its position alone. The other rows of its
 * warp only add keys that are masked: p = 0 and f = 1, which change no bit but the sign of a zero,
 * and that is dropped at the end. So a row's bits do not depend on how its sequence was cut into
 * chunks, nor on the batch. (For finite K and V: a V that is not finite reaches earlier rows of its
 * key tile too, as 0 * V.)
 *
 * Heads of a group are packed into one part, where FlashAttention-2 gives each head a block of its
 * own. Per key tile a part reads 64 * head_dim * 2 * 2 bytes of K and V and computes
 * 2 * 2 * 128 * 64 * head_dim flop: 128 flop for each byte from L2, packed or not, 3.1 TB/s at
 * 400 TFLOP/s. But a packed part spans 128 / group tokens, so at the diagonal less is computed in
 * vain (group 4: half as much), and a chunk of few tokens fills its rows: 16 tokens of group 4 are
 * 64 rows of one part, not 16 rows of each of four that all read the same keys. Tiles have 128
 * tokens because then any group makes whole parts. Neighbours in the grid share a kv head.
 *
 * head_dim 128: bytes through shared memory for each key tile and warp, by ldmatrix: K 16 KiB, V
 * 16 KiB, Q 2 KiB for every 8 rows. With 32 rows a warp, a part moves 160 KiB and 32 KiB come in:
 * 1,536 clocks at 128 bytes; the 4.2 Mflop take 1,024 at the 4,096 flop a clock of an H100's tensor
 * cores, which mma.sync does not reach. With 16 rows a warp the same rows would take 2,560. So a
 * warp has 32 rows, and a thread 128 registers of out, 64 of s (32 of p, once in BF16), 24 of
 * operands: up to 255, two blocks on a multiprocessor, one's softmax under the other's products. Q
 * stays in shared memory: 64 more registers are not there. K and V pass through a ring of three
 * tiles, K V K V: what is asked for has the time of a whole tile to arrive, as with two buffers for
 * each, and 32 + 3 * 16 = 80 KiB let two blocks fit on an A100 (164 KiB) as well.
 * head_dim 64: half of all but s; at 168 registers three blocks, 40 KiB each.
 *
 * Launches of few parts take 16 rows a warp: twice the blocks, half as long each.
 *
 * A row of a tile in shared memory is head_dim * 2 bytes, its 16-byte chunks swapped around by
 * chunk ^ row % 8: the eight rows that ldmatrix reads at one chunk lie in different banks, and so
 * do the chunks of a row that cp.async writes. A thread copies the same chunk of 8 (4) consecutive
 * rows: these lie in one block of the pool where 8 divides its tokens, and so the block table is
 * read once for each tile, one tile ahead. (Taken for powers of two; others look up each key.)
 *
 * Sources: FlashAttention-2 (Dao, 2023): the loop, a row's sums left apart over threads until the
 * end, shapes; online softmax (Milakov, Gimelshein, 2018); paged KV: vLLM (Kwon et al., 2023). */
#include "kernels.h"
#include "load.h"

#include <gpu.cuh>
#include <math.h>

namespace
{

enum {
    KEYS = 64, /* of a key tile: its first position is a multiple */
    WARPS = 4,
    THREADS = 32 * WARPS,
    SLOTS = 3,          /* of the ring */
    NARROW_PARTS = 128, /* up to so many, an H100 (132 multiprocessors) has one each at most */
};

struct arguments {
    const cop_cuda_tile *tiles;
    const cop_cuda_sequence *sequences;
    const uint32_t *blocks;
    const uint16_t *q;
    uint16_t *out;
    const uint16_t *keys;               /* the layer's K in block 0 */
    size_t block_stride;                /* elements from block to block */
    uint32_t value_offset;              /* and from a key to its value */
    uint32_t q_heads, group;            /* query heads in all, and of one kv head */
    uint32_t block_tokens, block_shift; /* block_tokens = 1 << block_shift, where RUNS */
    float scale;                        /* of scores, times log2(e) */
};

/* What a block of threads computes: consecutive rows of one tile and one kv head. */
struct part {
    uint32_t table;       /* where the sequence's begins in blocks */
    uint32_t token;       /* row of q and out of the tile's first token */
    uint32_t position;    /* and its position */
    uint32_t first, rows; /* rows [first, first + rows) of the tile */
    uint32_t kv_head;
    uint32_t end; /* keys [0, end) are seen by some row */
};

/* Bytes from the start of a tile in shared memory to 16 bytes of it. */
template <int D> static __device__ __forceinline__ uint32_t tile_at(uint32_t row, uint32_t chunk)
{
    return row * (D * 2) + (chunk ^ row % 8) * 16;
}

template <int ROWS> static __device__ __forceinline__ bool find_part(const arguments &a, part &p)
{
    const cop_cuda_tile tile = a.tiles[blockIdx.y];
    const cop_cuda_sequence s = a.sequences[tile.sequence];
    if (tile.query >= s.count)
        return false;
    const uint32_t parts = a.group * COP_QUERY_TILE / ROWS;
    const uint32_t tokens = min((uint32_t)COP_QUERY_TILE, s.count - tile.query);
    p.kv_head = blockIdx.x / parts;
    p.first = blockIdx.x % parts * ROWS;
    if (p.first >= tokens * a.group)
        return false;
    p.rows = min((uint32_t)ROWS, tokens * a.group - p.first);
    p.position = s.start + tile.query;
    p.end = p.position + (p.first + p.rows - 1) / a.group + 1;
    p.table = s.table;
    p.token = s.first_row + tile.query;
    return true;
}

/* Element of q and out where a row of the part begins. */
template <int D>
static __device__ __forceinline__ size_t row_at(const arguments &a, const part &p, uint32_t row)
{
    const uint32_t token = (p.first + row) / a.group, head = (p.first + row) % a.group;
    return ((size_t)(p.token + token) * a.q_heads + p.kv_head * a.group + head) * D;
}

template <int D, int ROWS>
static __device__ __forceinline__ void request_queries(unsigned char *shared, const arguments &a,
                                                       const part &p)
{
    constexpr uint32_t CHUNKS = D / 8;
    const uint32_t chunk = threadIdx.x % CHUNKS;
#pragma unroll 2
    for (uint32_t row = threadIdx.x / CHUNKS; row < ROWS; row += THREADS / CHUNKS) {
        const bool wanted = row < p.rows;
        cop_copy_async(shared + tile_at<D>(row, chunk),
                       a.q + row_at<D>(a, p, wanted ? row : 0) + chunk * 8, wanted);
    }
}

/* A thread's share of the paged keys and values: the same 16 bytes of SHARE consecutive rows of
 * every tile. RUNS: such rows lie in one block. */
template <int D, bool RUNS> struct reader {
    static constexpr uint32_t CHUNKS = D / 8, SHARE = KEYS * CHUNKS / THREADS;
    /* tile_at(row + i, chunk) = tile_at(row, chunk) ^ i * STEP, row a multiple of SHARE <= 8. */
    static constexpr uint32_t STEP = D * 2 + 16;
    uint32_t head;         /* elements from the layer's K to the thread's 16 bytes in a block */
    uint32_t block, ahead; /* RUNS: of the thread's keys in the tile last asked for, the next */

    static __device__ __forceinline__ uint32_t first_row()
    {
        return threadIdx.x / CHUNKS * SHARE;
    }

    __device__ __forceinline__ void look_up(const arguments &a, const part &p, uint32_t tile)
    {
        const uint32_t key = tile + first_row();
        ahead = key < p.end ? a.blocks[p.table + (key >> a.block_shift)] : 0;
    }

    __device__ __forceinline__ void begin(const arguments &a, const part &p)
    {
        head = p.kv_head * a.block_tokens * D + threadIdx.x % CHUNKS * 8;
        if (RUNS)
            look_up(a, p, 0);
    }

    /* The tile whose first key is `tile`; tiles are asked for in order. */
    __device__ __forceinline__ void request_keys(unsigned char *slot, const arguments &a,
                                                 const part &p, uint32_t tile)
    {
        if (RUNS) {
            block = ahead;
            look_up(a, p, tile + KEYS);
        }
        request(slot, a, p, tile, 0);
    }

    /* Of the tile whose keys were last asked for. */
    __device__ __forceinline__ void request_values(unsigned char *slot, const arguments &a,
                                                   const part &p, uint32_t tile) const
    {
        request(slot, a, p, tile, a.value_offset);
    }

    __device__ __forceinline__ void request(unsigned char *slot, const arguments &a, const part &p,
                                            uint32_t tile, uint32_t offset) const
    {
        const uint32_t key = tile + first_row(), at = tile_at<D>(first_row(), threadIdx.x % CHUNKS);
        if (RUNS) {
            const uint16_t *from = a.keys + block * a.block_stride +
                                   (head + (key & (a.block_tokens - 1)) * D + offset);
#pragma unroll
            for (uint32_t i = 0; i < SHARE; i++)
                cop_copy_async(slot + (at ^ i * STEP), from + i * D, key + i < p.end);
            return;
        }
        uint32_t index = key / a.block_tokens, place = key % a.block_tokens;
#pragma unroll 1
        for (uint32_t i = 0; i < SHARE; i++) {
            const bool wanted = key + i < p.end;
            const uint32_t id = wanted ? a.blocks[p.table + index] : 0;
            cop_copy_async(slot + (at ^ i * STEP),
                           a.keys + id * a.block_stride + (head + place * D + offset), wanted);
            if (++place == a.block_tokens) {
                place = 0;
                index++;
            }
        }
    }
};

/* What a thread keeps of the rows of its warp: row m * 16 + half * 8 + lane / 4, and of that the
 * columns n * 8 + lane % 4 * 2 and the next (the layout of C in mma). */
template <int D, int M> struct accumulator {
    float out[M][D / 8][4]; /* [2 * half], [2 * half + 1] */
    float top[M][2];        /* largest score so far, in powers of two */
    float sum[M][2];        /* of this thread's columns: added up over lanes at the end */

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int m = 0; m < M; m++) {
            top[m][0] = top[m][1] = -INFINITY;
            sum[m][0] = sum[m][1] = 0;
#pragma unroll
            for (int n = 0; n < D / 8; n++)
                out[m][n][0] = out[m][n][1] = out[m][n][2] = out[m][n][3] = 0;
        }
    }
};

/* s[16 M][64] = q k^T. q: the warp's rows. */
template <int D, int M>
static __device__ __forceinline__ void score(float (&s)[M][KEYS / 8][4], const unsigned char *q,
                                             const unsigned char *keys)
{
    const uint32_t line = threadIdx.x % 8, matrix = threadIdx.x % 32 / 8;
    const uint32_t q_at = tile_at<D>(matrix % 2 * 8 + line, matrix / 2);
    const uint32_t k_at = tile_at<D>(matrix / 2 * 8 + line, matrix % 2);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
            s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0;
#pragma unroll
    for (uint32_t d = 0; d < D / 16; d++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
            cop_load_matrices(a[m], q + m * 16 * D * 2 + (q_at ^ d * 32));
#pragma unroll
        for (uint32_t n = 0; n < KEYS / 16; n++) {
            uint32_t b[4];
            cop_load_matrices(b, keys + n * 16 * D * 2 + (k_at ^ d * 32));
            const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
            for (int m = 0; m < M; m++) {
                cop_mma(s[m][2 * n], a[m], left);
                cop_mma(s[m][2 * n + 1], a[m], right);
            }
        }
    }
}

/* Scores of keys behind a row's own position become -infinity. row: the warp's first; key: the
 * tile's first. */
template <int M>
static __device__ __forceinline__ void mask(float (&s)[M][KEYS / 8][4], const arguments &a,
                                            const part &p, uint32_t row, uint32_t key)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint32_t of = p.first + row + m * 16 + half * 8 + lane / 4;
            /* The last column that is seen, counted from the thread's first; may be below it. */
            const int last = (int)(p.position + of / a.group - key - lane % 4 * 2);
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    if (n * 8 + i > last)
                        s[m][n][2 * half + i] = -INFINITY;
        }
}

/* p: probabilities relative to the largest score so far, in BF16; what was summed under an earlier
 * one is scaled to it. A score's place in C is its place in A, two tiles of eight keys making one
 * of 16. */
template <int D, int M>
static __device__ __forceinline__ void softmax(accumulator<D, M> &acc,
                                               uint32_t (&p)[M][KEYS / 16][4],
                                               const float (&s)[M][KEYS / 8][4], float scale)
{
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = -INFINITY;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
                top = fmaxf(top, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
            top = fmaxf(acc.top[m][half], top * scale);
            const float factor = cop_exp2(acc.top[m][half] - top);
            acc.top[m][half] = top;
            float sum = acc.sum[m][half] * factor;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                const float left = cop_exp2(fmaf(s[m][n][2 * half], scale, -top));
                const float right = cop_exp2(fmaf(s[m][n][2 * half + 1], scale, -top));
                sum += left + right;
                p[m][n / 2][n % 2 * 2 + half] = cop_pack_bf16(left, right);
            }
            acc.sum[m][half] = sum;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                acc.out[m][n][2 * half] *= factor;
                acc.out[m][n][2 * half + 1] *= factor;
            }
        }
}

/* out += p v. */
template <int D, int M>
static __device__ __forceinline__ void
weigh(accumulator<D, M> &acc, const uint32_t (&p)[M][KEYS / 16][4], const unsigned char *values)
{
    const uint32_t line = threadIdx.x % 8, matrix = threadIdx.x % 32 / 8;
    const uint32_t v_at = tile_at<D>(matrix % 2 * 8 + line, matrix / 2);
#pragma unroll
    for (uint32_t k = 0; k < KEYS / 16; k++) {
#pragma unroll
        for (uint32_t n = 0; n < D / 16; n++) {
            uint32_t b[4];
            cop_load_matrices_transposed(b, values + k * 16 * D * 2 + (v_at ^ n * 32));
            const uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
            for (int m = 0; m < M; m++) {
                cop_mma(acc.out[m][2 * n], p[m][k], left);
                cop_mma(acc.out[m][2 * n + 1], p[m][k], right);
            }
        }
    }
}

/* Divides by the sums and writes the warp's rows, through its own queries' place in shared memory
 * so that a row leaves in 16-byte pieces side by side. */
template <int D, int M>
static __device__ __forceinline__ void write_rows(accumulator<D, M> &acc, unsigned char *shared,
                                                  const arguments &a, const part &p, uint32_t row)
{
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = acc.sum[m][half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            const float inverse = 1.0f / sum;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                /* + 0 makes a zero positive: tiles wholly masked may have done that already. */
                const uint32_t pair =
                    cop_pack_bf16(fmaf(acc.out[m][n][2 * half], inverse, 0.0f),
                                  fmaf(acc.out[m][n][2 * half + 1], inverse, 0.0f));
                const uint32_t at = tile_at<D>(m * 16 + half * 8 + lane / 4, n) + lane % 4 * 4;
                *(uint32_t *)(shared + at) = pair;
            }
        }
    __syncwarp();
    constexpr uint32_t CHUNKS = D / 8;
    const uint32_t chunk = lane % CHUNKS;
#pragma unroll 2
    for (uint32_t i = lane / CHUNKS; i < M * 16; i += 32 / CHUNKS)
        if (row + i < p.rows)
            *(uint4 *)(a.out + row_at<D>(a, p, row + i) + chunk * 8) =
                *(const uint4 *)(shared + tile_at<D>(i, chunk));
}

template <int D, int M, bool RUNS>
__global__ void __launch_bounds__(THREADS, D == 128 && M == 2 ? 2 : 3)
    prefill_attention(const arguments a)
{
    constexpr uint32_t ROWS = WARPS * 16 * M, TILE = KEYS * D * 2;
    part p;
    if (!find_part<ROWS>(a, p))
        return;
    unsigned char *ring = cop_shared_memory(), *queries = ring + SLOTS * TILE;

    reader<D, RUNS> paged;
    paged.begin(a, p);
    request_queries<D, ROWS>(queries, a, p);
    paged.request_keys(ring, a, p, 0);
    cop_copy_commit();
    paged.request_values(ring + TILE, a, p, 0);
    cop_copy_commit();

    /* The warp's first row; from lane 0, so that the compiler knows it is the same for all. */
    const uint32_t row = __shfl_sync(0xffffffffu, threadIdx.x / 32, 0) * 16 * M;
    queries += row * D * 2;
    /* All of the warp's rows see the keys before `clear`, none those from `seen` on. */
    const uint32_t clear = p.position + (p.first + row) / a.group + 1;
    const uint32_t seen =
        row < p.rows ? p.position + (p.first + row + 16 * M - 1) / a.group + 1 : 0;
    accumulator<D, M> acc;
    acc.clear();

    uint32_t slot = 0; /* of the tile's keys; their values are in the next */
    for (uint32_t key = 0; key < p.end; key += KEYS) {
        const uint32_t next = slot == SLOTS - 1 ? 0 : slot + 1, third = SLOTS - slot - next;
        uint32_t weights[M][KEYS / 16][4];

        cop_copy_wait<1>();
        __syncthreads();
        if (key + KEYS < p.end)
            paged.request_keys(ring + third * TILE, a, p, key + KEYS);
        cop_copy_commit();
        if (key < seen) {
            float s[M][KEYS / 8][4];
            score<D, M>(s, queries, ring + slot * TILE);
            if (key + KEYS > clear)
                mask<M>(s, a, p, row, key);
            softmax<D, M>(acc, weights, s, a.scale);
        }

        cop_copy_wait<1>();
        __syncthreads();
        if (key + KEYS < p.end)
            paged.request_values(ring + slot * TILE, a, p, key + KEYS);
        cop_copy_commit();
        if (key < seen)
            weigh<D, M>(acc, weights, ring + next * TILE);
        slot = third;
    }
    if (seen > 0)
        write_rows<D, M>(acc, queries, a, p, row);
}

/* At most 65,535 tiles: that is what the second dimension of a grid holds. */
template <int D, int M, bool RUNS>
static cudaError_t launch(const arguments &a, uint32_t kv_heads, uint32_t count,
                          cudaStream_t stream)
{
    constexpr uint32_t ROWS = WARPS * 16 * M;
    return cop_launch(prefill_attention<D, M, RUNS>,
                      dim3(kv_heads * a.group * COP_QUERY_TILE / ROWS, count), dim3(THREADS),
                      (ROWS + SLOTS * KEYS) * D * 2, stream, a);
}

template <int D>
static cudaError_t choose(const arguments &a, uint32_t kv_heads, uint32_t count, bool narrow,
                          bool runs, cudaStream_t stream)
{
    if (narrow)
        return runs ? launch<D, 1, true>(a, kv_heads, count, stream)
                    : launch<D, 1, false>(a, kv_heads, count, stream);
    return runs ? launch<D, 2, true>(a, kv_heads, count, stream)
                : launch<D, 2, false>(a, kv_heads, count, stream);
}

} // namespace

cudaError_t cop_cuda_prefill_attention(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                                       const cop_cuda_tile *tiles, uint32_t count, uint32_t layer,
                                       const uint16_t *q, uint16_t *out, cudaStream_t stream)
{
    if (count == 0)
        return cudaSuccess;
    const size_t side = (size_t)shape->kv_heads * shape->block_tokens * shape->head_dim;
    const uint32_t tokens = shape->block_tokens;
    if (shape->q_heads % shape->kv_heads != 0 || side >> 31 != 0) /* a side is 4 GiB at most */
        return cudaErrorInvalidValue;
    arguments a = {};
    a.tiles = tiles;
    a.sequences = batch->sequence;
    a.blocks = batch->blocks;
    a.q = q;
    a.out = out;
    a.keys = shape->pool + layer * 2 * side;
    a.block_stride = shape->layers * 2 * side;
    a.value_offset = (uint32_t)side;
    a.q_heads = shape->q_heads;
    a.group = shape->q_heads / shape->kv_heads;
    a.block_tokens = tokens;
    while (1u << a.block_shift < tokens)
        a.block_shift++;
    a.scale = (float)(1.4426950408889634 / sqrt((double)shape->head_dim));
    const bool runs = tokens >= 8 && tokens == 1u << a.block_shift;
    const bool narrow = count * shape->q_heads <= NARROW_PARTS;
    if (shape->head_dim == 128)
        return choose<128>(a, shape->kv_heads, count, narrow, runs, stream);
    if (shape->head_dim == 64)
        return choose<64>(a, shape->kv_heads, count, narrow, runs, stream);
    return cudaErrorInvalidValue;
}

cudaError_t cop_load_prefill_attention()
{
    return cop_load(prefill_attention<64, 1, true>, prefill_attention<64, 1, false>,
                    prefill_attention<64, 2, true>, prefill_attention<64, 2, false>,
                    prefill_attention<128, 1, true>, prefill_attention<128, 1, false>,
                    prefill_attention<128, 2, true>, prefill_attention<128, 2, false>);
}
