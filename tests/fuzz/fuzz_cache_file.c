/* Any bytes as a cache file: it is loaded, every invariant holding, or refused and the cache left
 * empty. As checksums would end every mutant, the input is tried a second time as a file without
 * KV and with checksums yet to be computed: the header, then 32 bytes of each record. */
#include "fuzz.h"

#include "base/alloc.h"
#include "cache_file_samples.h"

#include <stdlib.h>

static cop_model *model;
static cop_cache *cache; /* opened once: weights take longer than a file */

static uint32_t cached_blocks(void)
{
    return cop_worker_read(cache->worker).cached_blocks;
}

/* The tokens of the last block and of everything above it are matched. */
static void check_last_path(const uint8_t *data, uint32_t blocks, size_t record_bytes)
{
    uint32_t path[SAMPLE_CAPACITY_TOKENS + SAMPLE_BLOCK_TOKENS], count = 0;
    for (uint32_t i = blocks - 1; i != COP_NO_BLOCK;) {
        cop_cache_file_record record;
        const uint8_t *at = data + SAMPLE_HEADER + i * record_bytes;
        memcpy(&record, at, sizeof record);
        memmove(path + record.count, path, count * sizeof *path);
        memcpy(path, at + sizeof record, record.count * sizeof *path);
        count += record.count;
        i = record.parent;
    }
    COP_CHECK(cop_cache_match(cache, path, count) == count);
}

static void try(const uint8_t *data, size_t size)
{
    cop_error err;
    cop_status status = cop_cache_file_parse(cache, "fuzz", data, size, &err);
    if (status != COP_OK) {
        COP_CHECK(strncmp(err.text, "fuzz: ", 6) == 0 && !strchr(err.text, '\n'));
        COP_CHECK(cached_blocks() == 0);
        return;
    }
    cop_cache_file_header header;
    memcpy(&header, data, sizeof header);
    COP_CHECK(cached_blocks() == header.blocks);
    cop_worker_check(cache->worker);
    if (header.blocks)
        check_last_path(data, header.blocks, SAMPLE_HEAD + header.block_bytes);
    cop_cache_truncate(cache, NULL, 0);
    COP_CHECK(cached_blocks() == 0);
    cop_worker_check(cache->worker);
}

/* What the comment at the top says. The model and kernels in the header are those of the cache, so
 * that a corpus does not age; the rest is as given. */
static void try_sealed(const uint8_t *data, size_t size)
{
    size_t kv_bytes = model->device_ops->block_bytes(cache->device);
    size_t records = (size - SAMPLE_HEADER) / SAMPLE_HEAD, record_bytes = SAMPLE_HEAD + kv_bytes;
    size_t whole = SAMPLE_HEADER + records * record_bytes;
    uint8_t *file = cop_calloc(whole, 1);
    cop_cache_file_header header, own;
    cop_cache_file_describe(cache, &own);
    memcpy(&header, data, sizeof header);
    header.identity = own.identity;
    memcpy(header.kernels, own.kernels, sizeof header.kernels);
    header.checksum = cop_cache_file_sum_header(&header);
    memcpy(file, &header, sizeof header);
    header.block_tokens = SAMPLE_BLOCK_TOKENS; /* the sums are over what lies there */
    header.block_bytes = kv_bytes;
    for (size_t i = 0; i < records; i++) {
        uint8_t *at = file + SAMPLE_HEADER + i * record_bytes;
        cop_cache_file_record record;
        memcpy(at, data + SAMPLE_HEADER + i * SAMPLE_HEAD, SAMPLE_HEAD);
        memcpy(&record, at, sizeof record);
        record.checksum = cop_cache_file_sum_record(&header, (uint32_t)i, &record,
                                                    at + sizeof record, at + SAMPLE_HEAD);
        memcpy(at, &record, sizeof record);
    }
    try(file, whole);
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!cache)
        open_sample(&model, &cache);
    try(data, size);
    if (size >= SAMPLE_HEADER)
        try_sealed(data, size);
    return 0;
}
