/* The CPU device: opens, checks batches, and leaves the work to the runner. */
#include "device/cpu.h"
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "device/batch_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cop_status check_options(const cop_device_options *o, cop_error *err)
{
    const cop_geometry *g = o->geometry;
    if (g->head_dim != 64 && g->head_dim != 128)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "the cpu device has head_dim 64 and 128; '%s' has %u", g->name,
                        g->head_dim);
    if (g->hidden % 64 || g->ffn % 64 || g->q_heads % g->kv_heads)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "the cpu device wants hidden and ffn in multiples of 64 and q_heads in "
                        "multiples of kv_heads; '%s' has %u, %u, %u, %u",
                        g->name, g->hidden, g->ffn, g->q_heads, g->kv_heads);
    if (o->blocks < 1)
        return cop_fail(err, COP_ERR_INVALID,
                        "cache.capacity_blocks 0 takes what is free on a device with memory of its "
                        "own; the cpu device wants a number");
    if (o->threads < 1 || o->block_tokens < 1 || o->max_batch_tokens < 1 || o->max_sequences < 1)
        return cop_fail(err, COP_ERR_INVALID,
                        "device: threads, blocks, block_tokens, max_batch_tokens and max_sequences "
                        "must be at least 1");
    return COP_OK;
}

static void derive(cop_device *d)
{
    const cop_geometry *g = &d->g;
    const cop_device_options *o = &d->options;
    uint64_t pool_tokens = (uint64_t)o->blocks * o->block_tokens;
    d->q_size = g->q_heads * g->head_dim;
    d->kv_size = g->kv_heads * g->head_dim;
    d->qkv_size = d->q_size + 2 * d->kv_size;
    d->group = g->q_heads / g->kv_heads;
    d->padded_vocab = (g->vocab + COP_PANEL - 1) / COP_PANEL * COP_PANEL;
    d->weight_bytes = o->int8_weights ? 1 : d->kernels->panel_bytes;
    d->max_rows = o->max_batch_tokens;
    d->max_sequences = o->max_sequences;
    d->max_context = pool_tokens < g->max_context ? (uint32_t)pool_tokens : g->max_context;
    d->stripe_bytes = (size_t)o->block_tokens * g->head_dim * d->kernels->panel_bytes;
    d->block_bytes = (size_t)g->layers * 2 * g->kv_heads * d->stripe_bytes;
    snprintf(d->description, sizeof d->description, "cpu %s, %u thread%s, %s%s", d->kernels->isa,
             o->threads, o->threads == 1 ? "" : "s", d->kernels->precision,
             o->int8_weights ? ", int8 weights" : "");
}

static void cpu_close(cop_device *d)
{
    if (!d)
        return;
    cop_pool_close(d->pool);
    cop_cpu_unload(d);
    free(d);
}

static cop_status cpu_open(cop_device **out, const cop_device_options *options, cop_error *err)
{
    const cop_kernels *kernels;
    cop_status status = check_options(options, err);
    if (status == COP_OK)
        status = cop_kernels_find(options->isa, options->float32, &kernels, err);
    if (status != COP_OK)
        return status;
    cop_device *d = cop_calloc(1, sizeof *d);
    d->options = *options;
    d->options.isa = kernels->isa;
    d->g = *options->geometry;
    d->kernels = kernels;
    derive(d);
    status = cop_pool_open(&d->pool, options->threads, err);
    if (status == COP_OK)
        status = cop_cpu_load(d, &options->weights, err);
    if (status != COP_OK) {
        cpu_close(d);
        return status;
    }
    *out = d;
    return COP_OK;
}

static void *cpu_block_address(cop_device *d, uint32_t block)
{
    COP_CHECK(block < d->options.blocks);
    return d->kv + block * d->block_bytes;
}

static void cpu_copy_block(cop_device *d, uint32_t src, uint32_t dst, uint32_t tokens)
{
    COP_CHECK(!d->in_flight && tokens <= d->options.block_tokens);
    const char *from = cpu_block_address(d, src);
    char *to = cpu_block_address(d, dst);
    size_t bytes = (size_t)tokens * d->g.head_dim * d->kernels->panel_bytes;
    for (size_t at = 0; at < d->block_bytes && src != dst; at += d->stripe_bytes)
        memcpy(to + at, from + at, bytes);
}

static cop_status check_batch(const cop_device *d, const cop_batch *batch, cop_error *err)
{
    return cop_batch_check(&(cop_batch_limits){.vocab = d->g.vocab,
                                               .max_context = d->max_context,
                                               .blocks = d->options.blocks,
                                               .block_tokens = d->options.block_tokens,
                                               .max_sequences = d->max_sequences,
                                               .max_tokens = d->max_rows},
                           batch, err);
}

static void forward_job(void *ctx)
{
    cop_device *d = ctx;
    d->result.started_ns = cop_clock_ns();
    cop_cpu_forward(d);
    d->result.ended_ns = cop_clock_ns();
}

static cop_status cpu_submit(cop_device *d, const cop_batch *batch, cop_error *err)
{
    COP_CHECK(!d->in_flight);
    cop_status status = check_batch(d, batch, err);
    if (status != COP_OK)
        return status;
    d->batch = *batch;
    d->in_flight = true;
    cop_pool_start(d->pool, forward_job, d);
    return COP_OK;
}

static cop_status cpu_poll(cop_device *d, cop_step_result *result, bool *done, cop_error *err)
{
    COP_CHECK(d->in_flight);
    *done = cop_pool_done(d->pool);
    if (*done) {
        d->in_flight = false;
        *result = d->result;
    }
    return COP_OK;
}

static void cpu_wait(cop_device *d)
{
    cop_pool_wait(d->pool);
}

static uint32_t cpu_blocks(const cop_device *d)
{
    return d->options.blocks;
}

static size_t cpu_block_bytes(const cop_device *d)
{
    return d->block_bytes;
}

static cop_status cpu_read_block(cop_device *d, uint32_t block, void *host, cop_error *err)
{
    memcpy(host, cpu_block_address(d, block), d->block_bytes);
    return COP_OK;
}

static cop_status cpu_write_block(cop_device *d, uint32_t block, const void *host, cop_error *err)
{
    memcpy(cpu_block_address(d, block), host, d->block_bytes);
    return COP_OK;
}

static void *cpu_host_slot(cop_device *d, uint32_t slot)
{
    COP_CHECK(slot < d->options.host_slots);
    return d->host + slot * d->block_bytes;
}

/* Memory to memory: done before the call returns, so every ticket has been served. */
static uint64_t cpu_move_out(cop_device *d, const uint32_t *blocks, const uint32_t *slots,
                             uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        memcpy(cpu_host_slot(d, slots[i]), cpu_block_address(d, blocks[i]), d->block_bytes);
    return ++d->moves;
}

static uint64_t cpu_move_in(cop_device *d, const uint32_t *blocks, const uint32_t *slots,
                            uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        memcpy(cpu_block_address(d, blocks[i]), cpu_host_slot(d, slots[i]), d->block_bytes);
    return ++d->moves;
}

static bool cpu_moved(cop_device *d, uint64_t ticket)
{
    return ticket <= d->moves;
}

static const char *cpu_identity(const cop_device *d)
{
    return "";
}

static const char *cpu_describe(const cop_device *d)
{
    return d->description;
}

const cop_device_ops cop_device_cpu = {
    .abi = COP_DEVICE_ABI,
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .copy_block = cpu_copy_block,
    .submit = cpu_submit,
    .poll = cpu_poll,
    .wait = cpu_wait,
    .blocks = cpu_blocks,
    .block_bytes = cpu_block_bytes,
    .block_address = cpu_block_address,
    .host_memory = true,
    .read_block = cpu_read_block,
    .write_block = cpu_write_block,
    .host_slot = cpu_host_slot,
    .move_out = cpu_move_out,
    .move_in = cpu_move_in,
    .moved = cpu_moved,
    .probe = cop_cpu_probe,
    .describe = cpu_describe,
    .identity = cpu_identity,
};
