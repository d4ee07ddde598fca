/* The CUDA device: opens, checks batches, and leaves the rest to the files beside it. */
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/request.h"
#include "cuda/cuda_device.h"
#include "device/batch_check.h"

#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_CAPABILITY = 80 }; /* 8.0, Ampere: BF16 tensor cores, asynchronous copies */

int cop_cuda_device_index(const cop_device *d)
{
    return (int)d->options.index;
}

cop_status cop_cuda_enter(cop_device *d, cop_error *err)
{
    if (d->failure.status != COP_OK) {
        if (err)
            *err = d->failure;
        return d->failure.status;
    }
    COP_CUDA_TRY(err, cudaSetDevice((int)d->options.index));
    return COP_OK;
}

void cop_cuda_remember(cop_device *d, const cop_error *err)
{
    if (d->failure.status == COP_OK)
        d->failure = *err;
}

/* ---- open and close ---- */

static cop_status check_options(const cop_device_options *o, cop_error *err)
{
    const cop_geometry *g = o->geometry;
    if (o->float32)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "device.precision float32 is for the cpu device; cuda has bf16");
    if (o->int8_weights)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "model.weights int8 is for the cpu device; cuda has bf16");
    if (g->head_dim != 64 && g->head_dim != 128)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "the cuda device has head_dim 64 and 128; '%s' has %u", g->name,
                        g->head_dim);
    if (g->hidden % 64 || g->ffn % 64 || g->q_heads % g->kv_heads)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "the cuda device wants hidden and ffn in multiples of 64 and q_heads in "
                        "multiples of kv_heads; '%s' has %u, %u, %u, %u",
                        g->name, g->hidden, g->ffn, g->q_heads, g->kv_heads);
    if (o->threads < 1 || o->block_tokens < 1 || o->max_batch_tokens < 1 || o->max_sequences < 1)
        return cop_fail(err, COP_ERR_INVALID,
                        "device: threads, block_tokens, max_batch_tokens and max_sequences must be "
                        "at least 1");
    if (o->blocks > UINT32_MAX / o->block_tokens)
        return cop_fail(err, COP_ERR_INVALID,
                        "cache.capacity_blocks: %u blocks of %u tokens; the cuda device counts to "
                        "%u tokens",
                        o->blocks, o->block_tokens, UINT32_MAX);
    return COP_OK;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void derive(cop_device *d)
{
    const cop_geometry *g = &d->g;
    const cop_device_options *o = &d->options;
    d->q_size = g->q_heads * g->head_dim;
    d->kv_size = g->kv_heads * g->head_dim;
    d->qkv_size = d->q_size + 2 * d->kv_size;
    d->max_rows = o->max_batch_tokens;
    d->max_sequences = o->max_sequences;
    d->max_decodes = min_u32(d->max_rows, d->max_sequences);
    d->max_tiles = d->max_rows / COP_QUERY_TILE + d->max_sequences;
    d->max_context = g->max_context;
    if (o->blocks)
        d->max_context = min_u32(d->max_context, o->blocks * o->block_tokens);
    d->logits_stride = ((size_t)g->vocab + 63) / 64 * 64;
    d->block_bytes = (size_t)g->layers * 2 * d->kv_size * o->block_tokens * sizeof(uint16_t);
    d->shape = (cop_cuda_shape){
        .layers = g->layers,
        .hidden = g->hidden,
        .ffn = g->ffn,
        .vocab = g->vocab,
        .q_heads = g->q_heads,
        .kv_heads = g->kv_heads,
        .head_dim = g->head_dim,
        .block_tokens = o->block_tokens,
        .rms_epsilon = g->rms_epsilon,
    };
}

/* *index goes round where GPUs may be shared. */
static cop_status find_gpu(uint32_t *index, bool share, cop_error *err)
{
    int count = 0; /* stays as it is where there is no driver */
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "device.kind cuda: no CUDA device: %s (%s)",
                        cudaGetErrorString(error), cudaGetErrorName(error));
    if (count == 0)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "device.kind cuda: no CUDA device: the driver finds none");
    if (*index >= (uint32_t)count && !share)
        return cop_fail(err, COP_ERR_INVALID,
                        "device.index %u: this host has %d CUDA device%s; device.share: true lets "
                        "several workers use one",
                        *index, count, count == 1 ? "" : "s");
    *index %= (uint32_t)count;
    return COP_OK;
}

static void name_gpu(cop_device *d, const struct cudaDeviceProp *gpu)
{
    const unsigned char *id = (const unsigned char *)gpu->uuid.bytes;
    char *out = d->identity;
    snprintf(d->gpu, sizeof d->gpu, "%.200s", gpu->name);
    snprintf(d->description, sizeof d->description, "cuda %s, bf16%s", d->gpu,
             d->options.deterministic ? ", deterministic" : "");
    out += sprintf(out, "GPU");
    for (int i = 0; i < 16; i++)
        out += sprintf(out, "%s%02x", i == 0 || i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                       id[i]);
}

static cop_status open_gpu(cop_device *d, cop_error *err)
{
    struct cudaDeviceProp gpu;
    cop_status status = find_gpu(&d->options.index, d->options.share, err);
    if (status != COP_OK)
        return status;
    COP_CUDA_TRY(err, cudaGetDeviceProperties(&gpu, (int)d->options.index));
    if (gpu.major * 10 + gpu.minor < LEAST_CAPABILITY)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "device.index %u: %s has compute capability %d.%d; the kernels want 8.0",
                        d->options.index, gpu.name, gpu.major, gpu.minor);
    name_gpu(d, &gpu);
    d->multiprocessors = (uint32_t)gpu.multiProcessorCount;
    COP_CUDA_TRY(err, cudaSetDevice((int)d->options.index));
    d->current = true;
    COP_CUDA_TRY(err, cudaStreamCreateWithFlags(&d->compute, cudaStreamNonBlocking));
    COP_CUDA_TRY(err, cudaStreamCreateWithFlags(&d->moves, cudaStreamNonBlocking));
    COP_CUDA_TRY(err, cudaEventCreate(&d->begun));
    COP_CUDA_TRY(err, cudaEventCreate(&d->ended));
    return COP_OK;
}

static void close_gpu(cop_device *d)
{
    cudaSetDevice((int)d->options.index);
    if (d->compute)
        cudaStreamSynchronize(d->compute);
    if (d->moves)
        cudaStreamSynchronize(d->moves);
    cop_cuda_graphs_close(d);
    cop_cuda_gemms_close(d);
    cop_cuda_moves_close(d);
    if (d->begun)
        cudaEventDestroy(d->begun);
    if (d->ended)
        cudaEventDestroy(d->ended);
    if (d->compute)
        cudaStreamDestroy(d->compute);
    if (d->moves)
        cudaStreamDestroy(d->moves);
    cop_cuda_release(d);
}

static void cuda_close(cop_device *d)
{
    if (!d)
        return;
    if (d->current)
        close_gpu(d);
    free(d);
}

static cop_status cuda_open(cop_device **out, const cop_device_options *options, cop_error *err)
{
    cop_status status = check_options(options, err);
    if (status != COP_OK)
        return status;
    cop_device *d = cop_calloc(1, sizeof *d);
    d->options = *options;
    d->g = *options->geometry;
    derive(d);
    status = open_gpu(d, err);
    if (status == COP_OK)
        status = cop_cuda_moves_open(d, err);
    if (status == COP_OK)
        status = cop_cuda_gemms_open(d, err);
    if (status == COP_OK)
        status = cop_cuda_allocate(d, err);
    if (status == COP_OK)
        status = cop_cuda_load(d, err);
    if (status == COP_OK)
        status = cop_cuda_warm(d, err);
    if (status != COP_OK) {
        cuda_close(d);
        return status;
    }
    *out = d;
    return COP_OK;
}

/* ---- batches ---- */

static cop_status check_batch(const cop_device *d, const cop_batch *batch, cop_error *err)
{
    return cop_batch_check(&(cop_batch_limits){.vocab = d->g.vocab,
                                               .max_context = d->max_context,
                                               .blocks = d->blocks,
                                               .block_tokens = d->options.block_tokens,
                                               .max_sequences = d->max_sequences,
                                               .max_tokens = d->max_rows},
                           batch, err);
}

/* The name that a profiler shows for what the step queues. */
static void push_range(const cop_step_size *size, bool decode_only)
{
    char name[80];
    if (decode_only)
        snprintf(name, sizeof name, "decode %u, %u splits", size->sequences, size->splits);
    else
        snprintf(name, sizeof name, "prefill %u tokens, %u decode", size->rows - size->decodes,
                 size->decodes);
    nvtxRangePushA(name);
}

static cop_status queue_results(cop_device *d, cop_error *err)
{
    if (d->sampled == 0)
        return COP_OK;
    COP_CUDA_TRY(err, cudaMemcpyAsync(d->drawn_host, d->drawn, d->sampled * sizeof *d->drawn,
                                      cudaMemcpyDeviceToHost, d->compute));
    if (d->logits_host)
        COP_CUDA_TRY(err, cudaMemcpyAsync(d->logits_host, d->logits,
                                          d->sampled * d->logits_stride * sizeof *d->logits,
                                          cudaMemcpyDeviceToHost, d->compute));
    return COP_OK;
}

static cop_status queue(cop_device *d, const cop_batch *batch, cop_error *err)
{
    cop_step_size size;
    bool decode_only;
    COP_CUDA_TRY(err, cudaEventRecord(d->begun, d->compute));
    cop_status status = cop_cuda_wait_for_moves_out(d, err);
    if (status == COP_OK)
        status = cop_cuda_lay_out(d, batch, &size, &decode_only, err);
    if (status != COP_OK)
        return status;
    push_range(&size, decode_only);
    status = decode_only ? cop_cuda_graph_step(d, size, err) : cop_cuda_step(d, size, err);
    nvtxRangePop();
    if (status == COP_OK)
        status = queue_results(d, err);
    if (status == COP_OK)
        COP_CUDA_TRY(err, cudaEventRecord(d->ended, d->compute));
    return status;
}

static cop_status cuda_submit(cop_device *d, const cop_batch *batch, cop_error *err)
{
    cop_error failure;
    COP_CHECK(!d->in_flight);
    cop_status status = check_batch(d, batch, err);
    if (status == COP_OK)
        status = cop_cuda_enter(d, err);
    if (status != COP_OK)
        return status;
    d->started_ns = cop_clock_ns();
    status = queue(d, batch, &failure);
    d->in_flight = status == COP_OK;
    if (status != COP_OK) {
        cop_cuda_remember(d, &failure);
        if (err)
            *err = failure;
    }
    return status;
}

static void fill_result(cop_device *d, float milliseconds)
{
    cop_step_result *r = &d->result;
    const int64_t now = cop_clock_ns(), took = (int64_t)((double)milliseconds * COP_NS_PER_MS);
    for (uint32_t i = 0; i < d->sequences; i++) {
        r->tokens[i] = COP_NO_TOKEN;
        r->digests[i] = 0;
    }
    for (uint32_t i = 0; i < d->sampled; i++) {
        const uint32_t sequence = d->sampled_sequence[i];
        r->tokens[sequence] = d->drawn_host[i];
        if (d->logits_host)
            r->digests[sequence] = cop_hash(d->logits_host + i * d->logits_stride,
                                            d->g.vocab * sizeof *d->logits_host, 0);
    }
    r->logits = d->logits_host;
    r->logits_stride = d->logits_stride;
    r->started_ns = d->started_ns;
    r->ended_ns = d->started_ns + took < now ? d->started_ns + took : now;
}

static cop_status finish(cop_device *d, bool *done, cop_error *err)
{
    float milliseconds;
    cudaError_t state = cudaEventQuery(d->ended);
    *done = false;
    if (state == cudaErrorNotReady)
        return COP_OK;
    if (state != cudaSuccess)
        return cop_cuda_fail(err, state, "the step", __FILE__, __LINE__);
    COP_CUDA_TRY(err, cudaEventElapsedTime(&milliseconds, d->begun, d->ended));
    fill_result(d, milliseconds);
    *done = true;
    return COP_OK;
}

static cop_status cuda_poll(cop_device *d, cop_step_result *result, bool *done, cop_error *err)
{
    cop_error failure;
    COP_CHECK(d->in_flight);
    cop_status status = cop_cuda_enter(d, &failure);
    if (status == COP_OK)
        status = finish(d, done, &failure);
    if (status != COP_OK) {
        cop_cuda_remember(d, &failure);
        if (err)
            *err = failure;
        return status;
    }
    if (*done) {
        d->in_flight = false;
        *result = d->result;
    }
    return COP_OK;
}

static void cuda_wait(cop_device *d)
{
    if (cop_cuda_enter(d, NULL) == COP_OK)
        cudaEventSynchronize(d->ended); /* what it may say, poll says */
}

static uint32_t cuda_blocks(const cop_device *d)
{
    return d->blocks;
}

static size_t cuda_block_bytes(const cop_device *d)
{
    return d->block_bytes;
}

static void *cuda_block_address(cop_device *d, uint32_t block)
{
    return cop_cuda_block(d, block);
}

static const char *cuda_describe(const cop_device *d)
{
    return d->description;
}

static const char *cuda_identity(const cop_device *d)
{
    return d->identity;
}

const cop_device_ops cop_cuda_device = {
    .abi = COP_DEVICE_ABI,
    .name = "cuda",
    .open = cuda_open,
    .close = cuda_close,
    .copy_block = cop_cuda_copy,
    .submit = cuda_submit,
    .poll = cuda_poll,
    .wait = cuda_wait,
    .blocks = cuda_blocks,
    .block_bytes = cuda_block_bytes,
    .block_address = cuda_block_address,
    .host_memory = false,
    .read_block = cop_cuda_read,
    .write_block = cop_cuda_write,
    .host_slot = cop_cuda_host_slot,
    .move_out = cop_cuda_move_out,
    .move_in = cop_cuda_move_in,
    .moved = cop_cuda_moved,
    .probe = cop_cuda_probe,
    .describe = cuda_describe,
    .identity = cuda_identity,
};
