/* What the tests of the CUDA device share: opening it, one step at a time, prompts and tables. */
#ifndef COP_TESTS_CUDA_DEVICE_HARNESS_H
#define COP_TESTS_CUDA_DEVICE_HARNESS_H

#include "harness.h"

#include "base/clock.h"
#include "base/request.h"
#include "cuda/plugin.h"
#include "device/device.h"

enum { TOKENS = 150, BLOCKS = 400, MAX_TOKENS = 256, MAX_SEQUENCES = 12, SLOTS = 6 };

static const cop_device_ops *const cuda = &cop_cuda_device;

static inline cop_device_options options_of(const cop_seeded_weights *weights,
                                            uint32_t block_tokens)
{
    return (cop_device_options){
        .geometry = weights->geometry,
        .weights = cop_weights_seeded(weights),
        .blocks = BLOCKS,
        .block_tokens = block_tokens,
        .host_slots = SLOTS,
        .max_batch_tokens = MAX_TOKENS,
        .max_sequences = MAX_SEQUENCES,
        .threads = 2,
        .logits_digest = true,
        .isa = "auto",
        .memory_fraction = 0.9,
    };
}

static inline cop_device *open_with(const cop_device_ops *ops, const cop_device_options *options)
{
    cop_device *device;
    cop_error err;
    if (ops->open(&device, options, &err) != COP_OK)
        fail_msg("%s", err.text);
    return device;
}

static inline void start_step(const cop_device_ops *ops, cop_device *device, const cop_batch *batch)
{
    cop_error err;
    if (ops->submit(device, batch, &err) != COP_OK)
        fail_msg("%s", err.text);
}

static inline cop_step_result end_step(const cop_device_ops *ops, cop_device *device)
{
    cop_step_result result = {0};
    cop_error err;
    bool done = false;
    ops->wait(device);
    if (ops->poll(device, &result, &done, &err) != COP_OK)
        fail_msg("%s", err.text);
    assert_true(done);
    assert_true(result.ended_ns >= result.started_ns && result.ended_ns <= cop_clock_ns());
    return result;
}

static inline cop_step_result step(const cop_device_ops *ops, cop_device *device,
                                   const cop_sequence *sequences, uint32_t count)
{
    const cop_batch batch = {.count = count, .sequences = sequences};
    start_step(ops, device, &batch);
    return end_step(ops, device);
}

/* Tokens [start, start + count) of a prompt, the last one sampled. */
static inline cop_sequence part_of(const uint32_t *tokens, uint32_t start, uint32_t count,
                                   const uint32_t *blocks)
{
    return (cop_sequence){
        .tokens = tokens + start, .start = start, .count = count, .blocks = blocks, .sample = true};
}

static inline void make_prompt(uint32_t tokens[TOKENS], uint32_t vocab, uint64_t stream)
{
    cop_rng rng;
    cop_rng_init(&rng, 99, stream);
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (uint32_t)cop_rng_below(&rng, vocab);
}

/* All blocks of the pool, in an order of its own. */
static inline void make_table(uint32_t blocks[BLOCKS], uint64_t stream)
{
    cop_rng rng;
    cop_rng_init(&rng, 7, stream);
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i;
    for (uint32_t i = BLOCKS - 1; i > 0; i--) {
        uint32_t j = (uint32_t)cop_rng_below(&rng, i + 1), held = blocks[i];
        blocks[i] = blocks[j];
        blocks[j] = held;
    }
}

/* A copy of a block in host memory; the caller frees it. */
static inline char *read_block(cop_device *device, uint32_t block)
{
    cop_error err;
    char *bytes = cop_malloc(cop_cuda_device.block_bytes(device));
    if (cop_cuda_device.read_block(device, block, bytes, &err) != COP_OK)
        fail_msg("%s", err.text);
    return bytes;
}

#endif
