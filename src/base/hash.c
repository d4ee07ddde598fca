#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hash.h"

uint64_t cop_hash(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

uint64_t cop_hash_block(uint64_t parent, const uint32_t *tokens, size_t count)
{
    return XXH3_64bits_withSeed(tokens, count * sizeof *tokens, parent);
}

uint64_t cop_hash_root(uint64_t salt)
{
    return XXH3_64bits_withSeed(&salt, sizeof salt, 0x636f7070696365u);
}
