/* What the CUDA device allocates. Device memory is
 *
 *     weights | activations, one allocation each | KV pool
 *
 * All sizes follow from the options. They are compared with what is free before anything is
 * allocated, so that what does not fit is refused at once, and by the name of the key to lower. */
#include "base/alloc.h"
#include "cuda/cuda_device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ALIGNMENT = 256,           /* of matrices: what cuBLASLt's fastest kernels want */
    MOST_POOL_BLOCKS = 1 << 20 /* of a pool sized by what is free: the host keeps track of each */
};

static const double gib = 1 << 30;

/* ---- weights ---- */

/* Takes the next part of the weights; while they are not allocated, counts only. */
static void *take(cop_device *d, size_t bytes, bool wanted)
{
    if (!wanted)
        return NULL;
    void *taken = d->weights ? d->weights + d->weight_bytes : NULL;
    d->weight_bytes += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return taken;
}

static void place_weights(cop_device *d)
{
    const cop_geometry *g = &d->g;
    const size_t hidden = g->hidden, ffn = g->ffn, bf16 = sizeof(uint16_t);
    d->weight_bytes = 0;
    for (uint32_t i = 0; i < g->layers; i++)
        d->layers[i] = (cop_cuda_layer){
            .qkv = take(d, d->qkv_size * hidden * bf16, true),
            .qkv_bias = take(d, d->qkv_size * bf16, g->qkv_bias),
            .o = take(d, hidden * d->q_size * bf16, true),
            .gate_up = take(d, 2 * ffn * hidden * bf16, true),
            .down = take(d, hidden * ffn * bf16, true),
            .norm1 = take(d, hidden * sizeof(float), true),
            .norm2 = take(d, hidden * sizeof(float), true),
            .q_norm = take(d, g->head_dim * sizeof(float), g->qk_norm),
            .k_norm = take(d, g->head_dim * sizeof(float), g->qk_norm),
        };
    d->final_norm = take(d, hidden * sizeof(float), true);
    d->head = take(d, g->vocab * hidden * bf16, true);
    d->decode_bytes = d->weight_bytes;
    d->embedding = g->tied_embeddings ? d->head : take(d, g->vocab * hidden * bf16, true);
}

/* ---- activations ---- */

typedef struct {
    void *pointer; /* of any pointer type */
    size_t bytes;
    size_t total; /* of it and those before it */
} need;

enum { MOST_NEEDS = 24 };

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Splits grow with the context, so the longest wants most; they fall as decodes get more, in steps,
 * and where they don't the scratch grows: any number of decodes may want most, and batches that
 * mix, unlike graphs, have any. */
size_t cop_cuda_decode_room(const cop_cuda_shape *shape, uint32_t max_decodes, uint32_t max_context,
                            uint32_t multiprocessors)
{
    size_t most = 0;
    for (uint32_t n = 1; n <= max_decodes; n++) {
        const uint32_t splits = cop_cuda_decode_splits(shape, n, max_context, multiprocessors);
        most = largest(most, cop_cuda_decode_scratch(shape, n, splits));
    }
    return most;
}

/* One buffer for all that a step is told: see batch.c. */
static size_t batch_room(const cop_device *d)
{
    const size_t table = (d->max_context + d->options.block_tokens - 1) / d->options.block_tokens;
    const size_t row = 3 * sizeof(uint32_t);
    const size_t sequence =
        sizeof(cop_cuda_sequence) + sizeof(cop_cuda_draw) + table * sizeof(uint32_t);
    return d->max_rows * row + d->max_sequences * sequence + d->max_tiles * sizeof(cop_cuda_tile) +
           16 * ALIGNMENT;
}

static size_t list_needs(cop_device *d, need needs[MOST_NEEDS])
{
    const cop_geometry *g = &d->g;
    const size_t rows = d->max_rows, sampled = d->max_sequences, bf16 = sizeof(uint16_t);
    const size_t table = (size_t)d->max_context * g->head_dim / 2 * sizeof(float);
    d->batch_bytes = batch_room(d);
    d->partial_bytes =
        cop_cuda_decode_room(&d->shape, d->max_decodes, d->max_context, d->multiprocessors);
    const need all[] = {
        {&d->cosine, table, 0},
        {&d->sine, table, 0},
        {&d->x, rows * g->hidden * sizeof(float), 0},
        {&d->h, rows * g->hidden * bf16, 0},
        {&d->delta, rows * g->hidden * bf16, 0},
        {&d->qkv, rows * d->qkv_size * bf16, 0},
        {&d->q, rows * d->q_size * bf16, 0},
        {&d->mixed, rows * d->q_size * bf16, 0},
        {&d->gate_up, rows * 2 * g->ffn * bf16, 0},
        {&d->ffn, rows * g->ffn * bf16, 0},
        {&d->last, sampled * g->hidden * bf16, 0},
        {&d->logits, sampled * d->logits_stride * sizeof(float), 0},
        {&d->partial, d->partial_bytes, 0},
        {&d->sample_scratch, cop_cuda_sample_scratch(&d->shape, d->max_sequences), 0},
        {&d->drawn, sampled * sizeof *d->drawn, 0},
        {&d->batch_device, d->batch_bytes, 0},
        {&d->workspace, COP_WORKSPACE, 0},
    };
    const size_t count = sizeof all / sizeof *all;
    _Static_assert(sizeof all / sizeof *all <= MOST_NEEDS, "room for all needs");
    memcpy(needs, all, sizeof all);
    for (size_t i = 0; i < count; i++) {
        needs[i].bytes = largest(needs[i].bytes, 1);
        needs[i].total = needs[i].bytes + (i ? needs[i - 1].total : 0);
    }
    return count;
}

/* ---- room ---- */

/* What is free, but for a fiftieth of the memory, or a GiB of a large one: code of kernels, graphs and
 * the buffers of NCCL come later. */
static cop_status memory_to_spare(size_t *spare, size_t *all, cop_error *err)
{
    const size_t large = (size_t)16 << 30, least = (size_t)1 << 30;
    COP_CUDA_TRY(err, cudaMemGetInfo(spare, all));
    const size_t kept = *all >= large ? largest(*all / 50, least) : *all / 50;
    *spare -= *spare < kept ? *spare : kept;
    return COP_OK;
}

/* needed[3]: bytes of weights, activations and pool. */
static cop_status check_room(const cop_device *d, const double needed[3], cop_error *err)
{
    size_t spare, all;
    char room[320];
    cop_status status = memory_to_spare(&spare, &all, err);
    if (status != COP_OK)
        return status;
    const double left = (double)spare - needed[0] - needed[1];
    snprintf(room, sizeof room, "%s has %.2f GiB of %.2f to spare", d->gpu, (double)spare / gib,
             (double)all / gib);
    if (needed[0] > (double)spare)
        return cop_fail(
            err, COP_ERR_NO_MEMORY,
            "the weights of '%s' take %.2f GiB in BF16; %s: take a smaller model.preset "
            "or model.path",
            d->g.name, needed[0] / gib, room);
    if (left < 0)
        return cop_fail(err, COP_ERR_NO_MEMORY,
                        "batches of %u tokens and %u sequences take %.2f GiB, the weights of '%s' "
                        "%.2f; %s: lower scheduler.chunk_tokens or scheduler.max_batch",
                        d->max_rows, d->max_sequences, needed[1] / gib, d->g.name, needed[0] / gib,
                        room);
    if (needed[2] > left)
        return cop_fail(err, COP_ERR_NO_MEMORY,
                        "a KV pool of %.0f blocks takes %.2f GiB, weights and batches %.2f; %s, "
                        "which leaves room for %.0f blocks: lower cache.capacity_blocks",
                        needed[2] / (double)d->block_bytes, needed[2] / gib,
                        (needed[0] + needed[1]) / gib, room, floor(left / (double)d->block_bytes));
    return COP_OK;
}

static cop_status cannot_allocate(cudaError_t error, const char *call, const char *what,
                                  size_t bytes, cop_error *err)
{
    cop_error why;
    cop_status status = cop_cuda_fail(&why, error, call, __FILE__, __LINE__);
    return cop_fail(err, status, "%s, %.2f GiB: %.700s", what, (double)bytes / gib, why.text);
}

static cop_status allocate(void *pointer, size_t bytes, const char *what, cop_error *err)
{
    void *p;
    cudaError_t error = cudaMalloc(&p, bytes);
    if (error != cudaSuccess)
        return cannot_allocate(error, "cudaMalloc", what, bytes, err);
    memcpy(pointer, &p, sizeof p);
    return COP_OK;
}

static cop_status allocate_pinned(void *pointer, size_t bytes, const char *what, cop_error *err)
{
    void *p;
    if (bytes == 0)
        return COP_OK;
    cudaError_t error = cudaMallocHost(&p, bytes);
    if (error != cudaSuccess)
        return cannot_allocate(error, "cudaMallocHost", what, bytes, err);
    memcpy(pointer, &p, sizeof p);
    return COP_OK;
}

/* The pool comes last: if its size is not given, it takes its share of what is left. */
static cop_status allocate_pool(cop_device *d, cop_error *err)
{
    d->blocks = d->options.blocks;
    if (d->blocks == 0) {
        size_t spare, all;
        cop_status status = memory_to_spare(&spare, &all, err);
        if (status != COP_OK)
            return status;
        double fit = (double)spare * d->options.memory_fraction / (double)d->block_bytes;
        d->blocks = fit < MOST_POOL_BLOCKS ? (uint32_t)fit : MOST_POOL_BLOCKS;
        if (d->blocks == 0)
            return cop_fail(err, COP_ERR_NO_MEMORY,
                            "%.2f GiB are free beside weights and batches, and no KV block of %.2f "
                            "MiB fits into device.memory_fraction %.2f of it",
                            (double)spare / gib, (double)d->block_bytes / (1 << 20),
                            d->options.memory_fraction);
    }
    const uint64_t tokens = (uint64_t)d->blocks * d->options.block_tokens;
    if (tokens < d->max_context)
        d->max_context = (uint32_t)tokens;
    return allocate(&d->pool, (size_t)d->blocks * d->block_bytes,
                    "the KV pool (cache.capacity_blocks)", err);
}

static cop_status allocate_host(cop_device *d, cop_error *err)
{
    const size_t n = d->max_sequences;
    const size_t logits = d->options.logits_digest ? n * d->logits_stride * sizeof(float) : 0;
    cop_status status = allocate_pinned(&d->batch_host, d->batch_bytes, "the batch", err);
    if (status == COP_OK)
        status = allocate_pinned(&d->drawn_host, n * sizeof *d->drawn_host, "the tokens", err);
    if (status == COP_OK)
        status = allocate_pinned(&d->logits_host, logits, "the logits (record.logits_digest)", err);
    if (status == COP_OK)
        status = allocate_pinned(&d->host, (size_t)d->options.host_slots * d->block_bytes,
                                 "the host tier (cache.host_blocks)", err);
    if (status == COP_OK)
        status = allocate_pinned(&d->block, d->block_bytes, "a block", err);
    d->tile_end = cop_calloc(d->max_tiles, sizeof *d->tile_end);
    d->sampled_sequence = cop_calloc(n, sizeof *d->sampled_sequence);
    d->result.tokens = cop_calloc(n, sizeof *d->result.tokens);
    d->result.digests = cop_calloc(n, sizeof *d->result.digests);
    return status;
}

cop_status cop_cuda_allocate(cop_device *d, cop_error *err)
{
    need needs[MOST_NEEDS];
    d->layers = cop_calloc(d->g.layers, sizeof *d->layers);
    place_weights(d); /* once to know the size, once for the addresses */
    const size_t count = list_needs(d, needs);
    const double needed[] = {(double)d->weight_bytes, (double)needs[count - 1].total,
                             (double)d->block_bytes * (d->options.blocks ? d->options.blocks : 1)};
    cop_status status = check_room(d, needed, err);
    if (status == COP_OK)
        status = allocate(&d->weights, d->weight_bytes, "the weights", err);
    for (size_t i = 0; i < count && status == COP_OK; i++)
        status = allocate(needs[i].pointer, needs[i].bytes,
                          "batches (scheduler.chunk_tokens, scheduler.max_batch)", err);
    if (status == COP_OK)
        status = allocate_pool(d, err);
    if (status == COP_OK)
        status = allocate_host(d, err);
    if (status != COP_OK)
        return status;
    place_weights(d);
    d->shape.pool = d->pool;
    d->shape.cosine = d->cosine;
    d->shape.sine = d->sine;
    return COP_OK;
}

void cop_cuda_release(cop_device *d)
{
    void *const device[] = {d->weights, d->cosine, d->sine,      d->x,           d->h,
                            d->delta,   d->qkv,    d->q,         d->mixed,       d->gate_up,
                            d->ffn,     d->last,   d->logits,    d->partial,     d->sample_scratch,
                            d->drawn,   d->pool,   d->workspace, d->batch_device};
    void *const pinned[] = {d->batch_host, d->drawn_host, d->logits_host, d->host, d->block};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        cudaFree(device[i]);
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        cudaFreeHost(pinned[i]);
    free(d->layers);
    free(d->tile_end);
    free(d->sampled_sequence);
    free(d->result.tokens);
    free(d->result.digests);
}
