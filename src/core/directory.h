/* The directory: chain hash of a full KV block -> the workers that hold it.
 *
 *      request's chain      h0      h1      h2      h3      h4
 *      holders             {2,5}   {2,5}   {2,5}   {5}     nobody      all five known: an infinite
 *      matched blocks      worker 2: 3,  worker 5: 4,  others: 0       cache would hold five
 *
 * One open-addressing table of 16-byte entries, home = top bits of the mixed hash, linear probing,
 * at most 3/4 full. A prompt of 12,000 tokens touches 750 random cache lines, so everything works
 * on whole arrays of hashes and prefetches ahead: what limits it is how many misses the core keeps
 * in flight, not their latency. As homes are in hash order, growing streams both tables.
 *
 * With `remember`, an entry stays when its last holder drops it: "was ever asked for or held" is
 * the infinite shared cache that ideal_match_tokens compares with, at no second table. Memory is
 * then 21 to 43 bytes per distinct block ever seen. Without, it is erased.
 *
 * Owned by one thread. Hashes: chain hashes of base/hash.h; 0 is stored as 1. */
#ifndef COP_CORE_DIRECTORY_H
#define COP_CORE_DIRECTORY_H

#include "core/holders.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t hash;    /* 0: the slot is empty */
    uint32_t holders; /* word of holders.h */
    uint32_t uses;    /* requests that asked for it; saturates */
} cop_directory_entry;

typedef struct {
    cop_directory_entry *entries;
    size_t capacity, count;
    int shift; /* 64 - log2(capacity) */
    bool remember;
    cop_holders holders;
} cop_directory;

void cop_directory_init(cop_directory *dir, uint32_t workers, bool remember);
void cop_directory_fini(cop_directory *dir);

static inline size_t cop_directory_home(const cop_directory *dir, uint64_t hash)
{
    return (size_t)((hash * UINT64_C(0x9e3779b97f4a7c15)) >> dir->shift);
}

static inline void cop_directory_prefetch(const cop_directory *dir, uint64_t hash)
{
    __builtin_prefetch(&dir->entries[cop_directory_home(dir, hash)], 1);
}

/* A request asks for a chain: counts a use of every block, enters those never seen, and sets
 * holders[count] to the words before it. Returns how many leading blocks were known. Only with
 * `remember`. hashes: u64[count], the chain in order. */
uint32_t cop_directory_ask(cop_directory *dir, const uint64_t *hashes, uint32_t count,
                           uint32_t *holders);

/* Sets holders[count] and changes nothing; NONE for unknown blocks. */
void cop_directory_look(const cop_directory *dir, const uint64_t *hashes, uint32_t count,
                        uint32_t *holders);

/* matched[workers]: leading blocks of the chain held by each worker, all of them without a gap.
 * holders: u32[count] from ask or look. */
void cop_directory_match(const cop_directory *dir, const uint32_t *holders, uint32_t count,
                         uint32_t *matched);

/* `worker` holds, or no longer holds, these blocks, in any order; repeats have no effect. */
void cop_directory_insert(cop_directory *dir, uint32_t worker, const uint64_t *hashes,
                          uint32_t count);
void cop_directory_remove(cop_directory *dir, uint32_t worker, const uint64_t *hashes,
                          uint32_t count);

uint32_t cop_directory_uses(const cop_directory *dir, uint64_t hash); /* 0: unknown */

void cop_directory_check(const cop_directory *dir);

#endif
