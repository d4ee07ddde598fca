/* The cache file: every cached block with its KV, for a later process of the same model.
 *
 * Little-endian. Header, then `blocks` records of one size, then nothing.
 *
 *     offset  type      header
 *          0  u8[8]     "COPCACHE"
 *          8  u32       version: 1
 *         12  u32       header bytes: 184
 *         16  u64       identity of the model's geometry and weights (cop_weights_identity)
 *         24  u64       block_bytes: of the KV of a block
 *         32  u32       block_tokens
 *         36  u32       blocks: records that follow
 *         40  char[64]  name of the model, for messages; zero-terminated
 *        104  char[72]  what computed: "cpu avx512bf16, bf16"; zero-terminated
 *        176  u64       XXH3 of the 176 bytes before
 *
 *     offset  type      record i
 *          0  u64       checksum of the rest: XXH3 of bytes 8 .. 24, seeded with the header's
 *                       checksum + i; it is the seed for the tokens, theirs for the KV
 *          8  u32       parent: a record before i that is full, or 2^32 - 1: a prompt begins here
 *         12  u32       count: tokens in use, 1 .. block_tokens
 *         16  u32       uses, for the eviction policies
 *         20  u32       last_use: the place among all by their last use; 0: the longest ago
 *         24  u32[block_tokens]  tokens, each below the vocabulary; 0 behind count
 *          .  (4 zero bytes if block_tokens is odd)
 *          .  u8[block_bytes]    KV as device.h lays it out; 0 behind count
 *
 * The version is raised when this layout changes, or the arithmetic of a device: KV of other bits
 * must not be taken for what this build computes. Records are in the order of insertion. The same cache gives the same bytes. */
#ifndef COP_API_CACHE_FILE_H
#define COP_API_CACHE_FILE_H

#include "api/handles.h"

#define COP_CACHE_FILE_MAGIC "COPCACHE"
enum { COP_CACHE_FILE_VERSION = 1 };

typedef struct {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t identity, block_bytes;
    uint32_t block_tokens, blocks;
    char model[64], kernels[72];
    uint64_t checksum;
} cop_cache_file_header;

typedef struct {
    uint64_t checksum;
    uint32_t parent, count, uses, last_use;
} cop_cache_file_record; /* tokens and KV follow */

_Static_assert(sizeof(cop_cache_file_header) == 184, "as in the table");
_Static_assert(sizeof(cop_cache_file_record) == 24, "as in the table");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is written as memory is");

/* The header of a cache as it is now, with its checksum. */
void cop_cache_file_describe(const cop_cache *cache, cop_cache_file_header *out);
uint64_t cop_cache_file_sum_header(const cop_cache_file_header *header);
/* Checksum of record `index`: `record` without its own, u32[block_tokens] (padded) and KV. */
uint64_t cop_cache_file_sum_record(const cop_cache_file_header *header, uint32_t index,
                                   const cop_cache_file_record *record, const void *tokens,
                                   const void *kv);

static inline size_t cop_cache_file_token_bytes(uint32_t block_tokens)
{
    return ((size_t)block_tokens * sizeof(uint32_t) + 7) & ~(size_t)7;
}

/* cop_cache_load of a file in memory; `name` is for messages. */
cop_status cop_cache_file_parse(cop_cache *cache, const char *name, const uint8_t *data,
                                size_t size, cop_error *err);

#endif
