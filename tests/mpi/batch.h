/* KV blocks whose every byte says where it belongs: to which transfer, block and offset. They go over
 * MPI and live in host memory, unless a file included before this one says otherwise: KV_OPS, and the
 * memory_ functions below. */
#ifndef COP_TESTS_MPI_BATCH_H
#define COP_TESTS_MPI_BATCH_H

#include "require.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <sched.h>
#include <string.h>

#ifndef KV_OPS
#define KV_OPS (&cop_kv_mpi)

static inline void *memory_open(size_t bytes)
{
    return cop_malloc(bytes);
}

static inline void memory_close(void *memory)
{
    free(memory);
}

static inline void memory_write(void *memory, const void *from, size_t bytes)
{
    memcpy(memory, from, bytes);
}

static inline void memory_read(void *to, const void *memory, size_t bytes)
{
    memcpy(to, memory, bytes);
}

static inline void complete_options(cop_kv_options *options) {}
#endif

enum { UNTOUCHED = 0xa5, SEED = 20240607 };

static inline void fill_block(uint8_t *bytes, size_t count, uint64_t transfer, uint32_t block)
{
    uint64_t origin = cop_splitmix64(transfer << 32 | block);
    for (size_t i = 0; i < count; i += 8) {
        uint64_t word = cop_splitmix64(origin ^ i);
        memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
    }
}

/* Blocks at every second place of one allocation, in an order of their own; between them, and in
 * blocks not yet received, all bytes are UNTOUCHED. */
typedef struct {
    uint64_t transfer;
    uint32_t count;
    size_t block_bytes, bytes;
    uint8_t *memory;
    void **blocks;
} batch;

static inline batch *open_batch(uint64_t transfer, uint32_t count, size_t block_bytes, bool filled)
{
    batch *b = cop_malloc(sizeof *b);
    size_t bytes = (2 * (size_t)count + 1) * block_bytes;
    uint8_t *content = cop_malloc(bytes);
    *b = (batch){transfer,           count,
                 block_bytes,        bytes,
                 memory_open(bytes), cop_calloc(count, sizeof *b->blocks)};
    memset(content, UNTOUCHED, bytes);
    cop_rng rng;
    cop_rng_init(&rng, SEED, 2 * transfer + filled);
    for (uint32_t k = 0; k < count; k++) {
        uint32_t other = (uint32_t)cop_rng_below(&rng, k + 1);
        b->blocks[k] = b->blocks[other];
        b->blocks[other] = b->memory + (2 * (size_t)k + 1) * block_bytes;
    }
    for (uint32_t k = 0; filled && k < count; k++)
        fill_block(content + ((uint8_t *)b->blocks[k] - b->memory), block_bytes, transfer, k);
    memory_write(b->memory, content, bytes);
    free(content);
    return b;
}

static inline void close_batch(batch *b)
{
    memory_close(b->memory);
    free(b->blocks);
    free(b);
}

static inline void require_content(cop_bus *bus, const batch *b)
{
    uint8_t *expected = cop_malloc(b->block_bytes), *content = cop_malloc(b->bytes);
    memory_read(content, b->memory, b->bytes);
    for (uint32_t k = 0; k < b->count; k++) {
        fill_block(expected, b->block_bytes, b->transfer, k);
        const uint8_t *block = content + ((uint8_t *)b->blocks[k] - b->memory);
        REQUIRE(bus, memcmp(block, expected, b->block_bytes) == 0,
                "transfer %llu, block %u of %u, %zu bytes each", (unsigned long long)b->transfer, k,
                b->count, b->block_bytes);
    }
    memset(expected, UNTOUCHED, b->block_bytes);
    for (size_t gap = 0; gap <= b->count; gap++)
        REQUIRE(bus, memcmp(content + 2 * gap * b->block_bytes, expected, b->block_bytes) == 0,
                "transfer %llu wrote beside its blocks", (unsigned long long)b->transfer);
    free(expected);
    free(content);
}

static inline cop_kv *open_kv(cop_bus *bus, size_t block_bytes, double latency_us, double mb_s)
{
    cop_kv *kv = NULL;
    cop_error err;
    cop_kv_options options = {.bus = bus,
                              .bus_calls = &cop_bus_calls_mpi,
                              .block_bytes = block_bytes,
                              .link_latency_us = latency_us,
                              .link_bandwidth_mb_s = mb_s,
                              .timeout_s = 60};
    complete_options(&options);
    REQUIRE(bus, KV_OPS->open(&kv, &options, &err) == COP_OK, "%s", err.text);
    return kv;
}

/* One transfer ended: the transport does not fail. */
static inline bool poll_kv(cop_bus *bus, cop_kv *kv, cop_kv_done *done)
{
    cop_error err;
    bool ended;
    REQUIRE(bus, KV_OPS->poll(kv, done, &ended, &err) == COP_OK, "%s", err.text);
    return ended;
}

static inline cop_kv_done wait_one(cop_bus *bus, cop_kv *kv)
{
    cop_kv_done done;
    while (!poll_kv(bus, kv, &done)) {
        REQUIRE(bus, !KV_OPS->idle(kv), "idle, and nothing was reported");
        sched_yield();
    }
    return done;
}

#endif
