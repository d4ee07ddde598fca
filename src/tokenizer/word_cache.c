#include "tokenizer/word_cache.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 2 * COP_CACHE_WORDS };

void cop_word_cache_fini(cop_word_cache *cache)
{
    free(cache->slots);
    cop_buffer_fini(&cache->text);
    free(cache->ids.ids);
    *cache = (cop_word_cache){0};
}

void cop_word_cache_clear(cop_word_cache *cache)
{
    if (cache->slots)
        memset(cache->slots, 0, SLOTS * sizeof *cache->slots);
    cache->words = cache->text.size = cache->ids.count = 0;
}

static cop_cached_word *find_slot(const cop_word_cache *cache, uint64_t hash, const char *word,
                                  size_t bytes)
{
    size_t at = hash % SLOTS;
    for (;; at = (at + 1) % SLOTS) {
        cop_cached_word *slot = &cache->slots[at];
        if (slot->bytes == 0 || (slot->hash == hash && slot->bytes == bytes &&
                                 memcmp(cache->text.data + slot->text, word, bytes) == 0))
            return slot;
    }
}

const uint32_t *cop_word_cache_find(const cop_word_cache *cache, uint64_t hash, const char *word,
                                    size_t bytes, size_t *count)
{
    if (!cache->slots)
        return NULL;
    const cop_cached_word *slot = find_slot(cache, hash, word, bytes);
    *count = slot->count;
    return slot->bytes ? cache->ids.ids + slot->ids : NULL;
}

void cop_word_cache_put(cop_word_cache *cache, uint64_t hash, const char *word, size_t bytes,
                        const uint32_t *ids, size_t count)
{
    COP_CHECK(bytes > 0 && bytes <= COP_CACHE_WORD_BYTES && count <= 4 * bytes);
    if (!cache->slots)
        cache->slots = cop_calloc(SLOTS, sizeof *cache->slots);
    if (cache->words == COP_CACHE_WORDS || cache->text.size + bytes > COP_CACHE_BYTES)
        cop_word_cache_clear(cache);
    cop_cached_word *slot = find_slot(cache, hash, word, bytes);
    COP_CHECK(slot->bytes == 0);
    *slot = (cop_cached_word){.hash = hash,
                              .text = (uint32_t)cache->text.size,
                              .ids = (uint32_t)cache->ids.count,
                              .bytes = (uint16_t)bytes,
                              .count = (uint16_t)count};
    cache->words++;
    cop_buffer_put(&cache->text, word, bytes);
    COP_GROW(cache->ids.ids, cache->ids.capacity, cache->ids.count + count);
    memcpy(cache->ids.ids + cache->ids.count, ids, count * sizeof *ids);
    cache->ids.count += count;
}
