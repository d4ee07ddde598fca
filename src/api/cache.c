#include "api/handles.h"

#include "base/alloc.h"
#include "base/check.h"
#include "core/evict/evict.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_BLOCK_TOKENS = 512, MOST_CHUNK_TOKENS = 1 << 20, MOST_BLOCKS = 1 << 30 };

static cop_status worker_options(cop_worker_options *out, const cop_cache_options *given,
                                 cop_error *err)
{
    uint32_t block_tokens = given->block_tokens ? given->block_tokens : 16;
    uint32_t capacity_tokens = given->capacity_tokens ? given->capacity_tokens : 8192;
    uint32_t chunk_tokens = given->chunk_tokens ? given->chunk_tokens : 512;
    uint64_t blocks = ((uint64_t)capacity_tokens + block_tokens - 1) / block_tokens;
    if (block_tokens > MOST_BLOCK_TOKENS)
        return cop_fail(err, COP_ERR_INVALID, "cache options: block_tokens %u; at most %d",
                        block_tokens, MOST_BLOCK_TOKENS);
    if (chunk_tokens > MOST_CHUNK_TOKENS)
        return cop_fail(err, COP_ERR_INVALID, "cache options: chunk_tokens %u; at most %d",
                        chunk_tokens, MOST_CHUNK_TOKENS);
    if (blocks > MOST_BLOCKS)
        return cop_fail(err, COP_ERR_INVALID,
                        "cache options: capacity_tokens %u make %llu blocks; at most %d",
                        capacity_tokens, (unsigned long long)blocks, MOST_BLOCKS);
    const cop_evict_ops *policy;
    const char *eviction = given->eviction && given->eviction[0] ? given->eviction : "lru";
    cop_status status = cop_evict_find(eviction, &policy, err);
    if (status != COP_OK)
        return status;
    *out = (cop_worker_options){
        .block_tokens = block_tokens,
        .capacity_blocks = (uint32_t)blocks,
        .max_batch = 1,
        .chunk_tokens = chunk_tokens < capacity_tokens ? chunk_tokens : capacity_tokens,
        .eviction = policy->name,
        .cache_enabled = true,
        .partial_blocks = !given->whole_blocks,
    };
    return COP_OK;
}

static cop_status open_device(cop_cache *cache, cop_error *err)
{
    cop_model *model = cache->model;
    cop_device_options options = {
        .geometry = model->geometry,
        .weights = cop_weights_source_of(model->weights),
        .blocks = cache->options.capacity_blocks,
        .block_tokens = cache->options.block_tokens,
        .max_batch_tokens = cache->options.chunk_tokens,
        .max_sequences = 1,
        .threads = model->threads,
        .float32 = model->float32,
        .int8_weights = model->int8_weights,
        .logits_digest = true,
        .isa = model->isa,
        .index = model->device_index,
        .deterministic = model->deterministic,
    };
    cop_status status = model->device_ops->open(&cache->device, &options, err);
    if (status == COP_OK)
        snprintf(model->device, sizeof model->device, "%s",
                 model->device_ops->describe(cache->device));
    return status;
}

cop_status cop_cache_open(cop_cache **out, cop_model *model, const cop_cache_options *options,
                          cop_error *err)
{
    static const cop_cache_options defaults;
    cop_cache *cache = cop_calloc(1, sizeof *cache);
    cache->model = model;
    cop_status status = worker_options(&cache->options, options ? options : &defaults, err);
    if (status == COP_OK)
        status = cop_worker_open(&cache->worker, &cache->options, err);
    if (status == COP_OK)
        status = open_device(cache, err);
    if (status != COP_OK) {
        cop_cache_close(cache);
        return status;
    }
    *out = cache;
    return COP_OK;
}

void cop_cache_close(cop_cache *cache)
{
    if (!cache)
        return;
    cache->model->device_ops->close(cache->device);
    cop_worker_close(cache->worker);
    cop_worker_actions_fini(&cache->actions);
    free(cache);
}

void cop_cache_reset(cop_cache *cache)
{
    cop_worker *fresh;
    cop_error err;
    cop_status status = cop_worker_open(&fresh, &cache->options, &err);
    COP_CHECK(status == COP_OK); /* it did open once */
    cop_worker_close(cache->worker);
    cache->worker = fresh;
}

cop_status cop_cache_idle(const cop_cache *cache, cop_error *err)
{
    if (cache->busy)
        return cop_fail(err, COP_ERR_INVALID,
                        "the cache is in use by a generation: its callback may only match and "
                        "read");
    return COP_OK;
}

size_t cop_cache_match(const cop_cache *cache, const uint32_t *tokens, size_t count)
{
    uint64_t room = (uint64_t)cache->options.capacity_blocks * cache->options.block_tokens;
    return cop_worker_match(cache->worker, 0, tokens, (uint32_t)(count < room ? count : room));
}

void cop_cache_truncate(cop_cache *cache, const uint32_t *tokens, size_t count)
{
    uint64_t room = (uint64_t)cache->options.capacity_blocks * cache->options.block_tokens;
    if (!cache->busy && count <= room) /* more than the cache holds: nothing goes on from there */
        cop_worker_truncate(cache->worker, 0, tokens, (uint32_t)count);
}

void cop_cache_read(const cop_cache *cache, cop_cache_stats *out)
{
    cop_worker_gauges gauges = cop_worker_read(cache->worker);
    *out = (cop_cache_stats){
        .block_tokens = cache->options.block_tokens,
        .capacity_blocks = cache->options.capacity_blocks,
        .used_blocks = gauges.used_blocks,
        .cached_blocks = gauges.cached_blocks,
        .block_bytes = cache->model->device_ops->block_bytes(cache->device),
        .prompts = cache->prompts,
        .prompt_tokens = gauges.prompt_tokens,
        .hit_tokens = gauges.hit_tokens,
        .computed_tokens = gauges.computed_tokens,
        .evicted_blocks = cache->evicted_blocks,
    };
}
