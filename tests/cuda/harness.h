/* What the programs of this ring share. Each is built over the emulator and over the real CUDA
 * runtime (ring.cmake), so it uses nothing but kernels.h and cuda_runtime_api.h.
 *
 *     int main(void)
 *     {
 *         harness_device_or_skip();
 *         ...cmocka...
 *     }
 *
 * Device memory is of a test: device_alloc and device_upload give it, guarded on both sides and
 * poisoned, so that what a kernel did not write is NaN in every format and 0xff in every byte;
 * device_free_all at the end of the test checks the guards. Launches go to harness_stream, which no
 * other stream waits for; device_download waits for all of them.
 *
 * A batch (make_batch) has shuffled block tables, and rows and sequences beyond those it holds:
 * every word of these is ~0, so that a kernel that follows one leaves its memory at once. */
#ifndef COP_TESTS_CUDA_HARNESS_H
#define COP_TESTS_CUDA_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"

#include <kernels.h>

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Unit roundoffs, 2^-p of p bits: a value rounded to nearest is within this part of itself. */
static const double unit_float = 0x1p-24, unit_bf16 = 0x1p-8;

/* A call that has to succeed. */
#define CUDA(call)                                                         \
    do {                                                                   \
        cudaError_t cuda_status_ = (call);                                 \
        if (cuda_status_ != cudaSuccess)                                   \
            fail_msg("%s: %s (%s)", #call, cudaGetErrorName(cuda_status_), \
                     cudaGetErrorString(cuda_status_));                    \
    } while (0)

/* Status 77 and what is missing, where there is no device to test. */
static inline void harness_device_or_skip(void)
{
    int devices = 0;
    cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0) {
        printf("skipped: no CUDA device: %s\n",
               status != cudaSuccess ? cudaGetErrorString(status) : "none found");
        exit(77);
    }
}

/* The seed of a run, printed once: COP_SEED, or 2024. `stream` sets apart what draws from it. */
static inline cop_rng harness_rng(uint64_t stream)
{
    static uint64_t seed;
    static int known;
    if (!known) {
        const char *text = getenv("COP_SEED");
        seed = text ? strtoull(text, NULL, 0) : 2024;
        known = 1;
        print_message("COP_SEED=%llu\n", (unsigned long long)seed);
    }
    cop_rng rng;
    cop_rng_init(&rng, seed, stream);
    return rng;
}

/* Uniform in [-limit, limit). */
static inline float uniform(cop_rng *rng, double limit)
{
    return (float)((cop_rng_double(rng) * 2 - 1) * limit);
}

/* Uniform in low..high, both included. */
static inline uint32_t between(cop_rng *rng, uint32_t low, uint32_t high)
{
    return low + (uint32_t)cop_rng_below(rng, (uint64_t)high - low + 1);
}

static inline double bf16_value(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* Nearest, ties to even; NaN stays NaN. */
static inline uint16_t bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Half the distance between BF16 numbers at this magnitude: by as much does rounding move it. */
static inline double bf16_half_ulp(double magnitude)
{
    return ldexp(1, (magnitude > 0x1p-126 ? ilogb(magnitude) : -126) - 8);
}

static inline cudaStream_t harness_stream(void)
{
    static cudaStream_t stream;
    if (!stream)
        CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

/* ---- device memory ---- */

enum { GUARD_BYTES = 256, GUARD = 0xa5, POISON = 0xff, MAX_ALLOCATIONS = 256 };

typedef struct {
    char *base; /* of the guard before it */
    size_t bytes;
    bool host; /* memory of the host, for a copy: no guards */
} harness_allocation;

typedef struct {
    harness_allocation at[MAX_ALLOCATIONS];
    size_t count;
} harness_heap;

static inline harness_heap *harness_memory(void)
{
    static harness_heap heap;
    return &heap;
}

static inline void harness_keep(void *base, size_t bytes, bool host)
{
    harness_heap *heap = harness_memory();
    assert_true(heap->count < MAX_ALLOCATIONS);
    heap->at[heap->count++] = (harness_allocation){base, bytes, host};
}

/* Aligned to 256 bytes, as cudaMalloc gives it. */
static inline void *device_alloc(size_t bytes)
{
    char *base;
    CUDA(cudaMalloc((void **)&base, bytes + 2 * GUARD_BYTES));
    harness_keep(base, bytes, false);
    CUDA(cudaMemset(base, GUARD, GUARD_BYTES));
    CUDA(cudaMemset(base + GUARD_BYTES, POISON, bytes));
    CUDA(cudaMemset(base + GUARD_BYTES + bytes, GUARD, GUARD_BYTES));
    CUDA(cudaDeviceSynchronize()); /* harness_stream does not wait for the default stream */
    return base + GUARD_BYTES;
}

static inline void *device_upload(const void *host, size_t bytes)
{
    void *device = device_alloc(bytes);
    if (bytes > 0)
        CUDA(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    CUDA(cudaDeviceSynchronize());
    return device;
}

/* A copy in host memory that lives as long as the test's device memory. */
static inline void *device_download(const void *device, size_t bytes)
{
    void *host = cop_malloc(bytes + 1);
    harness_keep(host, bytes, true);
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
    return host;
}

static inline void harness_check_guard(const char *base, size_t size, const char *where)
{
    unsigned char guard[GUARD_BYTES];
    CUDA(cudaMemcpy(guard, base, GUARD_BYTES, cudaMemcpyDeviceToHost));
    for (int i = 0; i < GUARD_BYTES; i++)
        if (guard[i] != GUARD)
            fail_msg("a kernel wrote %s an allocation of %zu bytes (byte %d of the guard)", where,
                     size, i);
}

/* The end of a test: no allocation was written past, all are given back. */
static inline void device_free_all(void)
{
    harness_heap *heap = harness_memory();
    CUDA(cudaDeviceSynchronize());
    for (; heap->count > 0; heap->count--) {
        const harness_allocation *a = &heap->at[heap->count - 1];
        if (a->host) {
            free(a->base);
            continue;
        }
        harness_check_guard(a->base, a->bytes, "before");
        harness_check_guard(a->base + GUARD_BYTES + a->bytes, a->bytes, "after");
        CUDA(cudaFree(a->base));
    }
}

/* ---- batches ---- */

/* A sequence of a batch to be made. count 0: padding. */
typedef struct {
    uint32_t start, count;
    bool sample; /* its last token is sampled, as `draw` says (row and position are filled in) */
    cop_cuda_draw draw;
} test_sequence;

typedef struct {
    cop_cuda_batch device, host; /* the same arrays, to be read on either side */
    uint32_t rows, sequences, sampled;
} test_batch;

/* Room of a batch: at least what its sequences need; the rest is padding. */
typedef struct {
    uint32_t rows, sequences, sampled, pool_blocks;
} test_room;

static inline void *harness_host(size_t bytes)
{
    void *p = cop_malloc(bytes + 1);
    memset(p, POISON, bytes);
    harness_keep(p, bytes, true);
    return p;
}

/* Copies what `host` points to; sets the device pointer at `device`; returns `host`. */
static inline void *harness_both(void *host, size_t bytes, void *device)
{
    void *copy = device_upload(host, bytes);
    memcpy(device, &copy, sizeof copy);
    return host;
}

/* All blocks of the pool in random order. */
static inline uint32_t *harness_shuffled(uint32_t blocks, cop_rng *rng)
{
    uint32_t *block = harness_host(blocks * sizeof *block);
    for (uint32_t i = 0; i < blocks; i++)
        block[i] = i;
    for (uint32_t i = blocks; i > 1; i--) {
        uint32_t j = (uint32_t)cop_rng_below(rng, i), held = block[i - 1];
        block[i - 1] = block[j];
        block[j] = held;
    }
    return block;
}

typedef struct {
    uint32_t *counts, *token, *position, *slot, *blocks;
    cop_cuda_sequence *sequence;
    cop_cuda_draw *draw;
    uint32_t rows, sampled, used; /* used: blocks */
} harness_fill;

static inline void harness_add(harness_fill *f, const cop_cuda_shape *shape, uint32_t index,
                               const test_sequence *s, test_room room, cop_rng *rng)
{
    const uint32_t *table = f->blocks + f->used;
    assert_true(index < room.sequences && f->rows + s->count <= room.rows);
    f->sequence[index] = (cop_cuda_sequence){f->rows, s->start, s->count, f->used};
    f->used += (s->start + s->count + shape->block_tokens - 1) / shape->block_tokens;
    assert_true(f->used <= room.pool_blocks);
    for (uint32_t p = s->start; p < s->start + s->count; p++, f->rows++) {
        f->token[f->rows] = (uint32_t)cop_rng_below(rng, shape->vocab);
        f->position[f->rows] = p;
        f->slot[f->rows] =
            table[p / shape->block_tokens] * shape->block_tokens + p % shape->block_tokens;
    }
    if (s->sample) {
        assert_true(f->sampled < room.sampled);
        f->draw[f->sampled] = s->draw;
        f->draw[f->sampled].row = f->rows - 1;
        f->draw[f->sampled++].position = s->start + s->count;
    }
}

/* The sequences one after another, each with blocks of its own out of room.pool_blocks. Tokens are
 * drawn below shape->vocab. */
static inline test_batch make_batch(const cop_cuda_shape *shape, const test_sequence *sequences,
                                    uint32_t count, test_room room, cop_rng *rng)
{
    harness_fill f = {.counts = harness_host(3 * sizeof *f.counts),
                      .token = harness_host(room.rows * sizeof *f.token),
                      .position = harness_host(room.rows * sizeof *f.position),
                      .slot = harness_host(room.rows * sizeof *f.slot),
                      .sequence = harness_host(room.sequences * sizeof *f.sequence),
                      .draw = harness_host(room.sampled * sizeof *f.draw),
                      .blocks = harness_shuffled(room.pool_blocks, rng)};
    for (uint32_t i = 0; i < room.sequences; i++)
        f.sequence[i].count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (sequences[i].count > 0)
            harness_add(&f, shape, i, &sequences[i], room, rng);
    memcpy(f.counts, (uint32_t[]){f.rows, count, f.sampled}, 3 * sizeof *f.counts);

    test_batch b = {.rows = f.rows, .sequences = count, .sampled = f.sampled};
    b.host.counts = harness_both(f.counts, 3 * sizeof *f.counts, &b.device.counts);
    b.host.token = harness_both(f.token, room.rows * sizeof *f.token, &b.device.token);
    b.host.position = harness_both(f.position, room.rows * sizeof *f.position, &b.device.position);
    b.host.slot = harness_both(f.slot, room.rows * sizeof *f.slot, &b.device.slot);
    b.host.sequence =
        harness_both(f.sequence, room.sequences * sizeof *f.sequence, &b.device.sequence);
    b.host.blocks = harness_both(f.blocks, room.pool_blocks * sizeof *f.blocks, &b.device.blocks);
    b.host.draw = harness_both(f.draw, room.sampled * sizeof *f.draw, &b.device.draw);
    return b;
}

/* Elements of the pool of a shape. */
static inline size_t pool_elements(const cop_cuda_shape *shape, uint32_t blocks)
{
    return (size_t)blocks * shape->layers * 2 * shape->kv_heads * shape->block_tokens *
           shape->head_dim;
}

/* Where K (part 0) or V (part 1) of a slot begins: head_dim elements. */
static inline size_t pool_index(const cop_cuda_shape *shape, uint32_t slot, uint32_t layer,
                                uint32_t part, uint32_t head)
{
    size_t block = slot / shape->block_tokens, place = slot % shape->block_tokens;
    size_t stripe = ((block * shape->layers + layer) * 2 + part) * shape->kv_heads + head;
    return (stripe * shape->block_tokens + place) * shape->head_dim;
}

/* The slot of a position of a sequence, cached prefix included. */
static inline uint32_t slot_of(const cop_cuda_shape *shape, const test_batch *batch,
                               uint32_t sequence, uint32_t position)
{
    uint32_t table = batch->host.sequence[sequence].table;
    return batch->host.blocks[table + position / shape->block_tokens] * shape->block_tokens +
           position % shape->block_tokens;
}

/* ---- comparing ---- */

/* NaN is never near. `row` and `column` say where. */
static inline void expect_near(double got, double want, double bound, const char *what, size_t row,
                               size_t column)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%s[%zu][%zu] is %.9g and should be %.9g: off by %.3g, allowed %.3g", what, row,
                 column, got, want, fabs(got - want), bound);
}

/* Host memory that still holds the poison. */
static inline void expect_poison(const void *host, size_t bytes, const char *what)
{
    const unsigned char *byte = host;
    for (size_t i = 0; i < bytes; i++)
        if (byte[i] != POISON)
            fail_msg("%s: byte %zu of %zu was written", what, i, bytes);
}

/* The same bits; `unit` bytes make an element, for the message. */
static inline void expect_bits(const void *got, const void *want, size_t bytes, size_t unit,
                               const char *what)
{
    const unsigned char *a = got, *b = want;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            fail_msg("%s: element %zu of %zu differs", what, i / unit, bytes / unit);
}

#endif
