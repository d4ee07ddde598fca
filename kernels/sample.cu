/* From rows of logits to tokens, a thread block each: what src/device/cpu_sample.c computes, to the
 * same rules. Greedy takes the lowest id of the greatest logit. Otherwise a token is drawn from
 * softmax(logits / temperature), cut to the nucleus: the most probable tokens whose probabilities
 * first add up to top_p, the lower id first among equals (Holtzman et al. 2020). A logit that is
 * NaN counts as minus infinity; the nucleus has at least one token; a temperature that is not above
 * 0 is greedy.
 *
 * Weights exp((logit - greatest) / temperature) are numbers of 64 bits in units of 2^-44. So every
 * sum is exact, whatever the order of its terms: threads add as they come, by atomics too, and a
 * token is still a function of (logits, draw) alone. The exponential is that of doubles. Against
 * the cpu device, which keeps weights and sums in doubles, a weight is off by 2^-45 of the greatest
 * at most. So a running sum of 150,000 is off by 2^-28 at most and, as errors partly cancel, by
 * some 2^-37; the tokens are the same unless the draw or top_p falls that close to a boundary
 * between two tokens, which for all boundaries together is one draw in a million or fewer.
 *
 * The nucleus is found by radix select on the logit's bits, made sortable: three digits of 11 bits
 * from the top, each by a histogram of the weights of the logits that agree in the digits before.
 * (The cpu device takes bytes; the cut is the same. Exponents fill few of 256 buckets, and threads
 * that add to the same bucket queue.) A bucket is two 32-bit words, added to one after the other
 * with the carry between: the machine has no 64-bit addition in shared memory, only a loop that
 * tries.
 *
 * Ids are searched from above: each warp adds up a 32nd of the range, the running sum tells in
 * which the token is, and that becomes the range.
 *
 * 150,000 logits are 600 KB. They are read once for greedy, twice without a cut, five times with
 * one and six with ties at the cut, from L2 after the first. The exponential, about 20 instructions
 * of double precision, is taken once for all tokens and then for those only that still count. */
#include "kernels.h"
#include "load.h"

#include <float.h>
#include <gpu.cuh>
#include <math.h>

enum {
    THREADS = 1024,
    WARPS = THREADS / 32,
    DIGIT_BITS = 11,
    BUCKETS = 1 << DIGIT_BITS,
    IN_FLIGHT = 4,               /* loads of a thread: 16 KiB of the block */
    MOST_TOKENS = (1 << 20) - 1, /* so many weights of 2^44 fit in 64 bits */
};
static_assert(BUCKETS == 2 * THREADS && WARPS == 32, "threads scan two buckets, lanes the warps");

static constexpr double one = 0x1p44; /* the greatest weight */

typedef struct {
    uint32_t low[BUCKETS], high[BUCKETS];
    uint64_t sums[WARPS];
    uint64_t above, mass; /* of the bucket that was chosen */
    uint32_t digit;
} shared_state;

typedef struct {
    const float *logits;
    uint32_t n;
    float greatest;
    double inverse; /* 1 / temperature */
} token_row;

/* Which tokens may be drawn: logits above `key`, and those equal to it up to id `last`. */
typedef struct {
    uint32_t key, last;
} nucleus;

/* Order of floats as order of integers; the two zeros are equal. */
static __device__ uint32_t sortable(float x)
{
    uint32_t u = __float_as_uint(isnan(x) ? -INFINITY : x + 0.0f);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

static __device__ float unsortable(uint32_t key)
{
    return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

static __device__ uint64_t weight(const token_row &row, uint32_t key)
{
    float x = unsortable(key);
    if (x == row.greatest) /* infinite ones too */
        return (uint64_t)one;
    return (uint64_t)(exp(((double)x - row.greatest) * row.inverse) * one + 0.5);
}

static __device__ uint64_t splitmix64(uint64_t x) /* as in src/base/rng.c */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* use(id, key) for ids first, first + step, ... below end. */
template <typename Use>
static __device__ void for_keys(const float *logits, uint32_t first, uint32_t end, uint32_t step,
                                Use use)
{
    for (uint32_t i = first; i < end; i += IN_FLIGHT * step) {
        float x[IN_FLIGHT];
#pragma unroll
        for (int j = 0; j < IN_FLIGHT; j++)
            x[j] = i + j * step < end ? logits[i + j * step] : 0;
#pragma unroll
        for (int j = 0; j < IN_FLIGHT; j++)
            if (i + j * step < end)
                use(i + j * step, sortable(x[j]));
    }
}

static __device__ uint64_t sum_of_warp(uint64_t x)
{
    for (int step = 16; step > 0; step /= 2)
        x += __shfl_xor_sync(~0u, x, step);
    return x;
}

static __device__ uint64_t greatest_of_warp(uint64_t x)
{
    for (int step = 16; step > 0; step /= 2) {
        uint64_t other = __shfl_xor_sync(~0u, x, step);
        x = other > x ? other : x;
    }
    return x;
}

/* Of this lane and those before it. */
static __device__ uint64_t running_sum(uint64_t x)
{
    for (uint32_t step = 1; step < 32; step *= 2) {
        uint64_t before = __shfl_up_sync(~0u, x, step);
        x += threadIdx.x % 32 >= step ? before : 0;
    }
    return x;
}

/* Gives every lane of every warp the value of warp number `lane`. */
static __device__ uint64_t exchange(shared_state *s, uint64_t of_this_warp)
{
    __syncthreads(); /* who still reads what was exchanged before */
    if (threadIdx.x % 32 == 0)
        s->sums[threadIdx.x / 32] = of_this_warp;
    __syncthreads();
    return s->sums[threadIdx.x % 32];
}

/* Key and id of the token that greedy takes; the id is inverted, so that the lowest is greatest. */
static __device__ uint64_t find_greatest(const float *logits, uint32_t n, shared_state *s)
{
    uint64_t best = 0;
    for_keys(logits, threadIdx.x, n, THREADS, [&](uint32_t id, uint32_t key) {
        uint64_t mine = (uint64_t)key << 32 | ~id;
        best = mine > best ? mine : best;
    });
    return greatest_of_warp(exchange(s, greatest_of_warp(best)));
}

/* The first id at which the running sum of value(id, key), taken by id, passes target(total). */
template <typename Value, typename Target>
static __device__ uint32_t find_id(const token_row &row, shared_state *s, Value value,
                                   Target target)
{
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t begin = 0, end = row.n;
    uint64_t wanted = 0;
    for (bool first = true;; first = false) {
        uint32_t piece = (end - begin + WARPS - 1) / WARPS;
        uint32_t from = begin + warp * piece, to = min(from + piece, end);
        uint64_t sum = 0;
        for_keys(row.logits, from + lane, to, 32,
                 [&](uint32_t id, uint32_t key) { sum += value(id, key); });
        uint64_t of_piece = exchange(s, sum_of_warp(sum)), passed = running_sum(of_piece);
        if (first)
            wanted = target(__shfl_sync(~0u, passed, 31));
        int chosen = __ffs(__ballot_sync(~0u, passed > wanted)) - 1;
        wanted -= __shfl_sync(~0u, passed - of_piece, chosen);
        begin += chosen * piece;
        end = min(begin + piece, end);
        if (piece == 1)
            return begin;
    }
}

/* The weights of logits that agree with `key` under `mask`, by the digit at `shift`. */
static __device__ void fill_buckets(const token_row &row, uint32_t key, uint32_t mask, int shift,
                                    shared_state *s)
{
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < BUCKETS; i += THREADS)
        s->low[i] = s->high[i] = 0;
    __syncthreads();
    for_keys(row.logits, threadIdx.x, row.n, THREADS, [&](uint32_t, uint32_t other) {
        if ((other ^ key) & mask)
            return;
        uint64_t w = weight(row, other);
        uint32_t bucket = other >> shift & (BUCKETS - 1), low = (uint32_t)w;
        uint32_t high = (uint32_t)(w >> 32);
        if (low)
            high += atomicAdd(&s->low[bucket], low) > ~low; /* each carry is seen by one thread */
        if (high)
            atomicAdd(&s->high[bucket], high);
    });
    __syncthreads();
}

static __device__ uint64_t bucket_mass(const shared_state *s, uint32_t bucket)
{
    return (uint64_t)s->high[bucket] << 32 | s->low[bucket];
}

/* The bucket, from the greatest digit down, at which the running weight reaches `limit`, 1 or more:
 * to s->digit, with the weight above it and its own. limit 0: top_p of all. Returns the limit. */
static __device__ uint64_t choose_bucket(shared_state *s, uint64_t limit, float top_p)
{
    const uint32_t top = BUCKETS - 1 - 2 * threadIdx.x;
    const uint64_t mass[2] = {bucket_mass(s, top), bucket_mass(s, top - 1)};
    const uint64_t upto = running_sum(mass[0] + mass[1]);
    const uint64_t of_warps = exchange(s, __shfl_sync(~0u, upto, 31));
    const uint64_t upto_warps = running_sum(of_warps);
    if (limit == 0) {
        double total = (double)__shfl_sync(~0u, upto_warps, 31);
        limit = (uint64_t)fmax(1.0, ceil(top_p * total));
    }
    uint64_t above = __shfl_sync(~0u, upto_warps - of_warps, threadIdx.x / 32);
    above += upto - mass[0] - mass[1];
    for (int i = 0; i < 2; i++) {
        if (above < limit && limit <= above + mass[i]) {
            s->digit = top - i;
            s->above = above;
            s->mass = mass[i];
        }
        above += mass[i];
    }
    __syncthreads();
    return limit;
}

static __device__ nucleus find_nucleus(const token_row &row, float top_p, shared_state *s)
{
    nucleus cut = {0, UINT32_MAX};
    uint32_t mask = 0;
    uint64_t limit = 0;
    for (int shift = 32 - DIGIT_BITS;; shift = max(shift - DIGIT_BITS, 0)) {
        fill_buckets(row, cut.key, mask, shift, s);
        limit = choose_bucket(s, limit, top_p) - s->above;
        cut.key |= s->digit << shift;
        mask |= (BUCKETS - 1u) << shift;
        if (shift == 0) /* the last two digits share a bit, known by then */
            break;
    }
    const uint64_t each = weight(row, cut.key), equal = (limit + each - 1) / each;
    if (equal * each < s->mass) /* ties at the edge: not all get in */
        cut.last = find_id(
            row, s, [&](uint32_t, uint32_t key) { return (uint64_t)(key == cut.key); },
            [&](uint64_t) { return equal - 1; });
    return cut;
}

static __device__ uint32_t draw_token(const token_row &row, const cop_cuda_draw &draw,
                                      shared_state *s)
{
    nucleus cut = {0, UINT32_MAX};
    if (draw.top_p < 1)
        cut = find_nucleus(row, draw.top_p, s);
    /* the upper 53 bits, a fraction of 1, of the weight inside */
    const uint64_t bits = splitmix64(splitmix64(draw.seed) ^ draw.position) & ~2047ull;
    return find_id(
        row, s,
        [&](uint32_t id, uint32_t key) {
            bool inside = key > cut.key || (key == cut.key && id <= cut.last);
            return inside ? weight(row, key) : 0;
        },
        [&](uint64_t total) { return __umul64hi(bits, total); });
}

static __global__ void __launch_bounds__(THREADS)
    sample_row(cop_cuda_batch batch, const float *logits, uint32_t vocab, size_t stride,
               uint32_t *tokens)
{
    if (blockIdx.x >= batch.counts[2])
        return;
    shared_state *s = (shared_state *)cop_shared_memory();
    const cop_cuda_draw draw = batch.draw[blockIdx.x];
    token_row row = {logits + blockIdx.x * stride, vocab, 0, 0};
    const uint64_t best = find_greatest(row.logits, vocab, s);
    uint32_t token = ~(uint32_t)best;
    if (draw.temperature > 0) {
        row.greatest = unsortable((uint32_t)(best >> 32));
        row.inverse = 1.0 / fminf(draw.temperature, FLT_MAX);
        token = draw_token(row, draw, s);
    }
    if (threadIdx.x == 0)
        tokens[blockIdx.x] = token;
}

cudaError_t cop_cuda_sample(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                            uint32_t sampled, const float *logits, size_t stride, uint32_t *tokens,
                            void *scratch, cudaStream_t stream)
{
    if (sampled == 0)
        return cudaSuccess;
    if (shape->vocab == 0 || shape->vocab > MOST_TOKENS)
        return cudaErrorInvalidValue;
    return cop_launch(sample_row, dim3(sampled), dim3(THREADS), sizeof(shared_state), stream,
                      *batch, logits, shape->vocab, stride, tokens);
}

/* All there is to keep fits in shared memory. */
size_t cop_cuda_sample_scratch(const cop_cuda_shape *shape, uint32_t sampled)
{
    return 0;
}

cudaError_t cop_load_sample()
{
    return cop_load(sample_row);
}
