#include "api/cache_file.h"

#include "base/alloc.h"
#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* A file that takes the place of another when it is whole. */
typedef struct {
    char *path; /* links followed: the link stays */
    char *temporary;
    int fd;
} replacement;

static void forget(replacement *r)
{
    free(r->path);
    free(r->temporary);
}

/* Prompts are in the file: who may read the old one may read the new one, and nobody else. */
static void keep_mode(const replacement *r)
{
    struct stat old;
    if (stat(r->path, &old) == 0)
        (void)fchmod(r->fd, old.st_mode & 0777);
}

static cop_status begin(replacement *r, const char *path, cop_error *err)
{
    enum { TRIES = 100 }; /* names that a killed process may have left */
    char *real = realpath(path, NULL);
    *r = (replacement){.path = real ? real : cop_strdup(path), .fd = -1};
    size_t room = strlen(r->path) + 48;
    r->temporary = cop_malloc(room);
    for (int i = 0; i < TRIES && r->fd < 0; i++) {
        snprintf(r->temporary, room, "%s.%ld-%d.tmp", r->path, (long)getpid(), i);
        r->fd = open(r->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (r->fd < 0 && errno != EEXIST)
            break;
    }
    if (r->fd >= 0) {
        keep_mode(r);
        return COP_OK;
    }
    cop_status status =
        cop_fail(err, COP_ERR_IO, "cannot create %s: %s", r->temporary, strerror(errno));
    forget(r);
    return status;
}

static cop_status put(const replacement *r, struct iovec *parts, int count, cop_error *err)
{
    while (count > 0) {
        ssize_t n = writev(r->fd, parts, count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cop_fail(err, errno == ENOSPC || errno == EDQUOT ? COP_ERR_NO_SPACE : COP_ERR_IO,
                            "cannot write %s: %s", r->temporary, strerror(errno));
        size_t left = (size_t)n;
        for (; count > 0 && left >= parts->iov_len; parts++, count--)
            left -= parts->iov_len;
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
    return COP_OK;
}

/* The entry of a file in its folder reaches the disk with the folder. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? cop_strndup(path, (size_t)(slash - path) + 1) : cop_strdup(".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) { /* file systems that cannot do it need not */
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

/* `status`: of what was written. The old file stays as it was unless all is well. */
static cop_status finish(replacement *r, cop_status status, cop_error *err)
{
    int synced = -1;
    while (status == COP_OK && (synced = fsync(r->fd)) != 0 && errno == EINTR)
        continue;
    if (status == COP_OK && synced != 0)
        status = cop_fail(err, COP_ERR_IO, "cannot write %s: %s", r->temporary, strerror(errno));
    if (close(r->fd) != 0 && status == COP_OK)
        status = cop_fail(err, COP_ERR_IO, "cannot write %s: %s", r->temporary, strerror(errno));
    if (status == COP_OK && rename(r->temporary, r->path) != 0)
        status = cop_fail(err, COP_ERR_IO, "cannot rename %s to %s: %s", r->temporary, r->path,
                          strerror(errno));
    if (status == COP_OK)
        sync_folder(r->path);
    else
        unlink(r->temporary);
    forget(r);
    return status;
}

/* KV of a partial block with zeros where no token is: what lies there depends on the past. */
static void clear_unused(const cop_cache *cache, uint32_t count, uint8_t *kv)
{
    const cop_geometry *g = cache->model->geometry;
    uint32_t block_tokens = cache->options.block_tokens;
    size_t bytes = cache->model->device_ops->block_bytes(cache->device);
    size_t stripe = bytes / ((size_t)g->layers * 2 * g->kv_heads),
           used = stripe / block_tokens * count;
    for (size_t at = 0; at < bytes; at += stripe)
        memset(kv + at + used, 0, stripe - used);
}

/* tokens: u32[block_tokens], padded; kv: u8[block_bytes]. Both scratch. */
static cop_status write_records(const cop_cache *cache, const cop_cache_file_header *header,
                                const replacement *r, uint32_t *tokens, uint8_t *kv, cop_error *err)
{
    size_t token_bytes = cop_cache_file_token_bytes(header->block_tokens);
    cop_cached_block *blocks = cop_malloc((header->blocks + (size_t)1) * sizeof *blocks);
    uint32_t *index_of = cop_malloc(cache->options.capacity_blocks * sizeof *index_of);
    uint32_t count = cop_worker_cached(cache->worker, blocks);
    COP_CHECK(count == header->blocks);
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < count && status == COP_OK; i++) {
        const cop_cached_block *block = &blocks[i];
        index_of[block->block] = i;
        cop_cache_file_record record = {
            .parent = block->parent == COP_NO_BLOCK ? COP_NO_BLOCK : index_of[block->parent],
            .count = block->count,
            .uses = block->uses,
            .last_use = block->last_use};
        memset(tokens, 0, token_bytes);
        memcpy(tokens, block->tokens, block->count * sizeof *tokens);
        status = cache->model->device_ops->read_block(cache->device, block->block, kv, err);
        if (status != COP_OK)
            break;
        clear_unused(cache, block->count, kv);
        record.checksum = cop_cache_file_sum_record(header, i, &record, tokens, kv);
        struct iovec parts[] = {
            {&record, sizeof record}, {tokens, token_bytes}, {kv, header->block_bytes}};
        status = put(r, parts, 3, err);
    }
    free(blocks);
    free(index_of);
    return status;
}

cop_status cop_cache_save(const cop_cache *cache, const char *path, cop_error *err)
{
    cop_cache_file_header header;
    replacement r;
    cop_status status = cop_cache_idle(cache, err);
    if (status == COP_OK)
        status = begin(&r, path, err);
    if (status != COP_OK)
        return status;
    cop_cache_file_describe(cache, &header);
    uint32_t *tokens = cop_malloc(cop_cache_file_token_bytes(header.block_tokens));
    uint8_t *kv = cop_malloc(header.block_bytes);
    struct iovec part = {&header, sizeof header};
    status = put(&r, &part, 1, err);
    if (status == COP_OK)
        status = write_records(cache, &header, &r, tokens, kv, err);
    free(tokens);
    free(kv);
    return finish(&r, status, err);
}
