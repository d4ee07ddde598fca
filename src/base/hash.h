/* 64-bit hashing: XXH3 (xxHash, Yann Collet). */
#ifndef COP_BASE_HASH_H
#define COP_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t cop_hash(const void *data, size_t bytes, uint64_t seed);

/* Hash of one KV block's identity: the chain of everything before it, then its own tokens.
 * `parent` is the hash of the preceding block, or cop_hash_root(tenant salt) for the first.
 * tokens: u32[count]. The same chain construction as vLLM's prefix caching. */
uint64_t cop_hash_block(uint64_t parent, const uint32_t *tokens, size_t count);
uint64_t cop_hash_root(uint64_t salt);

#endif
