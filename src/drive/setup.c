#include "drive/setup.h"

#include "base/clock.h"

#include <string.h>

cop_status cop_setup_weights(cop_weights **out, const cop_config *cfg, cop_error *err)
{
    return cop_weights_open(out, cfg->model_path, cfg->model_preset, (uint64_t)cfg->seed, err);
}

void cop_setup_device(cop_device_options *out, const cop_config *cfg, const cop_weights *weights,
                      uint32_t threads)
{
    *out = (cop_device_options){
        .geometry = cop_weights_geometry(weights),
        .weights = cop_weights_source_of(weights),
        .blocks = (uint32_t)cfg->cache_capacity_blocks,
        .block_tokens = (uint32_t)cfg->cache_block_tokens,
        .host_slots = (uint32_t)cfg->cache_host_blocks,
        .max_batch_tokens = (uint32_t)(cfg->scheduler_chunk_tokens + cfg->scheduler_max_batch),
        .max_sequences = (uint32_t)cfg->scheduler_max_batch,
        .threads = threads,
        .float32 = strcmp(cfg->device_precision, "float32") == 0,
        .int8_weights = strcmp(cfg->model_weights, "int8") == 0,
        .logits_digest = cfg->record_logits_digest,
        .isa = cfg->device_isa,
        .index = cfg->device_index < 0 ? 0 : (uint32_t)cfg->device_index,
        .share = cfg->device_share,
        .memory_fraction = cfg->device_memory_fraction,
        .deterministic = cfg->device_deterministic,
    };
}

void cop_setup_kv(cop_kv_options *out, const cop_config *cfg, cop_bus *bus, int first_rank,
                  size_t block_bytes)
{
    *out = (cop_kv_options){
        .bus = bus,
        .bus_calls = &cop_bus_calls_mpi,
        .first_rank = first_rank,
        .block_bytes = block_bytes,
        .link_latency_us = cfg->transport_link_latency_us,
        .link_bandwidth_mb_s = cfg->transport_link_bandwidth_mb_s,
        .timeout_s = cfg->transport_timeout_s,
        .share_device = cfg->device_share,
    };
}

void cop_setup_workload(cop_workload_options *out, const cop_config *cfg, uint32_t vocab)
{
    const char *arrival = cfg->workload_arrival;
    *out = (cop_workload_options){
        .format = cfg->workload_format,
        .path = cfg->workload_path,
        .seed = (uint64_t)cfg->seed,
        .vocab = vocab,
        .limit = (uint64_t)cfg->workload_limit,
        .scale = (uint32_t)cfg->workload_scale,
        .speedup = cfg->workload_speedup,
        .skip_bad_lines = cfg->workload_skip_bad_lines,
        .max_output_tokens = (uint32_t)cfg->workload_max_output_tokens,
        .closed_loop = strcmp(cfg->workload_loop, "closed") == 0,
        .arrival = strcmp(arrival, "gamma") == 0   ? COP_ARRIVAL_GAMMA
                   : strcmp(arrival, "onoff") == 0 ? COP_ARRIVAL_ONOFF
                                                   : COP_ARRIVAL_POISSON,
        .rate = cfg->workload_rate,
        .cv = cfg->workload_cv,
        .on_s = cfg->workload_on_s,
        .off_s = cfg->workload_off_s,
        .think_s = cfg->workload_think_s,
        .system_zipf = cfg->workload_system_zipf,
        .document_share = cfg->workload_document_share,
        .turns = cfg->workload_turns,
        .users = (uint32_t)cfg->workload_users,
        .requests = (uint32_t)cfg->workload_requests,
        .system_prompts = (uint32_t)cfg->workload_system_prompts,
        .system_tokens = (uint32_t)cfg->workload_system_tokens,
        .documents = (uint32_t)cfg->workload_documents,
        .document_tokens = (uint32_t)cfg->workload_document_tokens,
        .user_tokens = (uint32_t)cfg->workload_user_tokens,
        .output_tokens = (uint32_t)cfg->workload_output_tokens,
        .tenants = (uint32_t)cfg->workload_tenants,
    };
}

void cop_setup_worker(cop_worker_options *out, const cop_config *cfg)
{
    *out = (cop_worker_options){
        .block_tokens = (uint32_t)cfg->cache_block_tokens,
        .capacity_blocks = (uint32_t)cfg->cache_capacity_blocks,
        .host_blocks = (uint32_t)cfg->cache_host_blocks,
        .max_batch = (uint32_t)cfg->scheduler_max_batch,
        .chunk_tokens = (uint32_t)cfg->scheduler_chunk_tokens,
        .eviction = cfg->cache_eviction,
        .cache_enabled = cfg->cache_enabled,
        .partial_blocks = cfg->cache_partial_blocks,
        .transfer_timeout_ns = (int64_t)(cfg->migration_timeout_ms * COP_NS_PER_MS),
    };
}

void cop_setup_router(cop_router_options *out, const cop_config *cfg)
{
    *out = (cop_router_options){
        .block_tokens = (uint32_t)cfg->cache_block_tokens,
        .seed = (uint64_t)cfg->seed,
        .policy = cfg->router_policy,
        .migration = cfg->migration_policy,
        .min_match = cfg->router_min_match,
        .sglang_library_set = strcmp(cfg->router_sglang_set, "library") == 0,
        .cache_enabled = cfg->cache_enabled,
        .view_delay_ns = (int64_t)(cfg->router_view_delay_ms * COP_NS_PER_MS),
        .eviction_weight = cfg->migration_eviction_weight,
        .hot_count = (uint32_t)cfg->migration_hot_count,
        .hot_replicas = (uint32_t)cfg->migration_hot_replicas,
    };
}

cop_status cop_setup_library(cop_model_options *model, cop_cache_options *cache,
                             const cop_config *cfg, cop_error *err)
{
    if (cfg->cache_capacity_blocks == 0)
        return cop_fail(
            err, COP_ERR_INVALID,
            "cache.capacity_blocks 0 (what is free on a GPU) is for `coppice run`; here "
            "it wants a number");
    if (cfg->cache_host_blocks != 0)
        return cop_fail(err, COP_ERR_INVALID,
                        "cache.host_blocks: the host tier is a part of `coppice run`; here it must "
                        "be 0");
    int64_t tokens = cfg->cache_capacity_blocks * cfg->cache_block_tokens;
    if (tokens > UINT32_MAX)
        return cop_fail(err, COP_ERR_INVALID,
                        "cache.capacity_blocks=%lld of %lld tokens: more than 2^32 tokens",
                        (long long)cfg->cache_capacity_blocks, (long long)cfg->cache_block_tokens);
    bool from_path = cfg->model_path[0];
    *model = (cop_model_options){
        .path = from_path ? cfg->model_path : NULL,
        .preset = from_path ? NULL : cfg->model_preset,
        .seed = (uint64_t)cfg->seed,
        .device = cfg->device_kind,
        .device_index = cfg->device_index < 0 ? 0 : (uint32_t)cfg->device_index,
        .deterministic = cfg->device_deterministic,
        .precision = cfg->device_precision,
        .weights = strcmp(cfg->model_weights, "int8") == 0 ? "int8" : NULL,
        .isa = cfg->device_isa,
        .threads = (uint32_t)cfg->device_threads,
    };
    *cache = (cop_cache_options){
        .capacity_tokens = (uint32_t)tokens,
        .block_tokens = (uint32_t)cfg->cache_block_tokens,
        .eviction = cfg->cache_eviction,
        .whole_blocks = !cfg->cache_partial_blocks,
        .chunk_tokens = (uint32_t)cfg->scheduler_chunk_tokens,
    };
    return COP_OK;
}

const char *cop_setup_tokenizer(const cop_config *cfg)
{
    return cfg->model_tokenizer[0] ? cfg->model_tokenizer : cfg->model_path;
}

cop_status cop_setup_text(cop_file_map *out, const cop_config *cfg, cop_error *err)
{
    cop_status status = cop_file_map_open(out, cfg->bench_text, err);
    if (status != COP_ERR_IO)
        return status;
    if (err)
        err->status = COP_ERR_INVALID;
    return COP_ERR_INVALID;
}
