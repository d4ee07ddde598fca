#include "api/cache_file.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file_map.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A file that lies in memory, at any address. Everything below checks before it believes. */
typedef struct {
    const char *name;
    const uint8_t *records; /* blocks of record_bytes */
    size_t record_bytes, token_bytes;
    cop_cache_file_header header;
} source;

static bool is_zero_terminated(const char *text, size_t room)
{
    return memchr(text, 0, room) != NULL;
}

static cop_status read_header(source *s, const uint8_t *data, size_t size, cop_error *err)
{
    cop_cache_file_header *h = &s->header;
    if (size < sizeof h->magic || memcmp(data, COP_CACHE_FILE_MAGIC, sizeof h->magic) != 0)
        return cop_fail(err, COP_ERR_CORRUPT, "%s: no cache file: it does not begin with %s",
                        s->name, COP_CACHE_FILE_MAGIC);
    uint32_t version = 0;
    if (size >= sizeof h->magic + sizeof version)
        memcpy(&version, data + sizeof h->magic, sizeof version);
    if (version != COP_CACHE_FILE_VERSION && version != 0)
        return cop_fail(err, COP_ERR_INVALID, "%s: a cache file of version %u; this is version %d",
                        s->name, version, COP_CACHE_FILE_VERSION);
    if (size < sizeof *h)
        return cop_fail(err, COP_ERR_CORRUPT, "%s: ends after %zu bytes, within its header",
                        s->name, size);
    memcpy(h, data, sizeof *h);
    if (h->header_bytes != sizeof *h || h->checksum != cop_cache_file_sum_header(h) ||
        !is_zero_terminated(h->model, sizeof h->model) ||
        !is_zero_terminated(h->kernels, sizeof h->kernels))
        return cop_fail(err, COP_ERR_CORRUPT, "%s: the header is damaged", s->name);
    return COP_OK;
}

/* Its checksum is right: what differs now is where the file comes from. */
static cop_status compare_headers(const source *s, const cop_cache_file_header *own, cop_error *err)
{
    const cop_cache_file_header *h = &s->header;
    if (h->identity != own->identity)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: made by another model: '%s' with weights %016llx; this is '%s' with "
                        "%016llx",
                        s->name, h->model, (unsigned long long)h->identity, own->model,
                        (unsigned long long)own->identity);
    if (strcmp(h->kernels, own->kernels) != 0)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: computed by other kernels: '%s'; these are '%s', whose bits differ",
                        s->name, h->kernels, own->kernels);
    if (h->block_tokens != own->block_tokens)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: its blocks have %u tokens; those of this cache have %u", s->name,
                        h->block_tokens, own->block_tokens);
    if (h->block_bytes != own->block_bytes)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: its blocks have %llu bytes; those of this cache have %llu", s->name,
                        (unsigned long long)h->block_bytes, (unsigned long long)own->block_bytes);
    return COP_OK;
}

static cop_cache_file_record record_at(const source *s, uint32_t i, const uint8_t **tokens,
                                       const uint8_t **kv)
{
    cop_cache_file_record record;
    const uint8_t *at = s->records + i * s->record_bytes;
    memcpy(&record, at, sizeof record);
    *tokens = at + sizeof record;
    *kv = *tokens + s->token_bytes;
    return record;
}

static bool tokens_are_known(const uint8_t *tokens, uint32_t count, uint32_t vocab)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t token;
        memcpy(&token, tokens + i * sizeof token, sizeof token);
        if (token >= vocab)
            return false;
    }
    return true;
}

static cop_status check_record(const source *s, uint32_t i, uint32_t vocab, cop_error *err)
{
    const uint8_t *tokens, *kv;
    const char *what = NULL;
    cop_cache_file_record record = record_at(s, i, &tokens, &kv);
    if (record.checksum != cop_cache_file_sum_record(&s->header, i, &record, tokens, kv))
        what = "its checksum is wrong";
    else if (record.count < 1 || record.count > s->header.block_tokens)
        what = "its count of tokens is out of range";
    else if (record.parent != COP_NO_BLOCK && record.parent >= i)
        what = "its parent does not come before it";
    else if (!tokens_are_known(tokens, record.count, vocab))
        what = "a token is outside the vocabulary";
    else if (record.parent != COP_NO_BLOCK &&
             record_at(s, record.parent, &tokens, &kv).count != s->header.block_tokens)
        what = "its parent is not full";
    if (what)
        return cop_fail(err, COP_ERR_CORRUPT, "%s: block %u of %u (byte %zu): %s", s->name, i,
                        s->header.blocks, sizeof s->header + i * s->record_bytes, what);
    return COP_OK;
}

static cop_status check_source(source *s, const cop_cache *cache, const uint8_t *data, size_t size,
                               cop_error *err)
{
    cop_cache_file_header own;
    cop_status status = read_header(s, data, size, err);
    if (status != COP_OK)
        return status;
    cop_cache_file_describe(cache, &own);
    status = compare_headers(s, &own, err);
    if (status != COP_OK)
        return status;
    s->records = data + sizeof s->header;
    s->token_bytes = cop_cache_file_token_bytes(s->header.block_tokens);
    s->record_bytes = sizeof(cop_cache_file_record) + s->token_bytes + s->header.block_bytes;
    size_t held = size - sizeof s->header;
    if (held / s->record_bytes != s->header.blocks || held % s->record_bytes != 0)
        return cop_fail(err, COP_ERR_CORRUPT,
                        "%s: %zu bytes after the header; %u blocks of %zu were announced", s->name,
                        held, s->header.blocks, s->record_bytes);
    if (s->header.blocks > cache->options.capacity_blocks)
        return cop_fail(err, COP_ERR_NO_SPACE,
                        "%s: %u blocks of %u tokens; this cache has room "
                        "for %u",
                        s->name, s->header.blocks, s->header.block_tokens,
                        cache->options.capacity_blocks);
    for (uint32_t i = 0; i < s->header.blocks && status == COP_OK; i++)
        status = check_record(s, i, cache->model->geometry->vocab, err);
    return status;
}

/* COP_ERR_CORRUPT: two records stand for the same tokens, or one for the beginning of another. */
static cop_status fill(cop_cache *cache, const source *s, cop_error *err)
{
    const cop_device_ops *ops = cache->model->device_ops;
    uint32_t count = s->header.blocks;
    cop_cached_block *blocks = cop_malloc((count + (size_t)1) * sizeof *blocks);
    uint32_t *aligned = cop_malloc(s->token_bytes);
    int64_t now_ns = cop_clock_ns();
    bool distinct = true;
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < count && distinct && status == COP_OK; i++) {
        const uint8_t *tokens, *kv;
        cop_cache_file_record record = record_at(s, i, &tokens, &kv);
        memcpy(aligned, tokens, record.count * sizeof *aligned);
        blocks[i] = (cop_cached_block){
            .parent = record.parent == COP_NO_BLOCK ? COP_NO_BLOCK : blocks[record.parent].block,
            .tokens = aligned,
            .count = record.count,
            .uses = record.uses,
            .last_use = record.last_use};
        blocks[i].block = cop_worker_adopt(cache->worker, &blocks[i], now_ns);
        distinct = blocks[i].block != COP_NO_BLOCK;
        if (distinct)
            status = ops->write_block(cache->device, blocks[i].block, kv, err);
    }
    if (status == COP_OK && (!distinct || cop_worker_read(cache->worker).cached_blocks != count))
        status = cop_fail(err, COP_ERR_CORRUPT, "%s: two blocks hold the same tokens", s->name);
    if (status == COP_OK)
        cop_worker_recall(cache->worker, blocks, count, now_ns);
    free(blocks);
    free(aligned);
    return status;
}

cop_status cop_cache_file_parse(cop_cache *cache, const char *name, const uint8_t *data,
                                size_t size, cop_error *err)
{
    source s = {.name = name};
    cop_status status = cop_cache_idle(cache, err);
    if (status != COP_OK)
        return status;
    uint32_t cached = cop_worker_read(cache->worker).cached_blocks;
    if (cached)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: the cache holds %u blocks already; load into an empty one", name,
                        cached);
    status = check_source(&s, cache, data, size, err);
    if (status != COP_OK)
        return status;
    status = fill(cache, &s, err);
    if (status != COP_OK)
        cop_worker_truncate(cache->worker, 0, NULL, 0);
    return status;
}

cop_status cop_cache_load(cop_cache *cache, const char *path, cop_error *err)
{
    cop_file_map map;
    cop_status status = cop_file_map_open(&map, path, err);
    if (status != COP_OK)
        return status;
    status = cop_cache_file_parse(cache, path, map.data, map.size, err);
    cop_file_map_close(&map);
    return status;
}
