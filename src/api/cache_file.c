#include "api/cache_file.h"

#include "base/hash.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* "cpu avx512bf16, 2 threads, bf16" without the threads, on which no bit depends. Of a GPU nothing is
 * left out. */
static void name_kernels(const char *device, char *out, size_t room)
{
    const char *threads = strchr(device, ','), *rest = threads ? strchr(threads + 1, ',') : NULL;
    if (rest && strncmp(device, "cpu ", 4) == 0)
        snprintf(out, room, "%.*s%s", (int)(threads - device), device, rest);
    else
        snprintf(out, room, "%s", device);
}

void cop_cache_file_describe(const cop_cache *cache, cop_cache_file_header *out)
{
    const cop_device_ops *ops = cache->model->device_ops;
    *out = (cop_cache_file_header){
        .magic = {'C', 'O', 'P', 'C', 'A', 'C', 'H', 'E'},
        .version = COP_CACHE_FILE_VERSION,
        .header_bytes = sizeof *out,
        .identity = cop_model_identity(cache->model),
        .block_bytes = ops->block_bytes(cache->device),
        .block_tokens = cache->options.block_tokens,
        .blocks = cop_worker_read(cache->worker).cached_blocks,
    };
    snprintf(out->model, sizeof out->model, "%s", cache->model->name);
    name_kernels(ops->describe(cache->device), out->kernels, sizeof out->kernels);
    out->checksum = cop_cache_file_sum_header(out);
}

uint64_t cop_cache_file_sum_header(const cop_cache_file_header *header)
{
    return cop_hash(header, offsetof(cop_cache_file_header, checksum), 0);
}

uint64_t cop_cache_file_sum_record(const cop_cache_file_header *header, uint32_t index,
                                   const cop_cache_file_record *record, const void *tokens,
                                   const void *kv)
{
    const size_t from = offsetof(cop_cache_file_record, parent);
    uint64_t sum =
        cop_hash((const char *)record + from, sizeof *record - from, header->checksum + index);
    sum = cop_hash(tokens, cop_cache_file_token_bytes(header->block_tokens), sum);
    return cop_hash(kv, header->block_bytes, sum);
}
