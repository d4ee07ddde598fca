/* Words that were seen, with their tokens. Bounded: when it is full it forgets everything, so that
 * what comes next is cached rather than what came first. */
#ifndef COP_TOKENIZER_WORD_CACHE_H
#define COP_TOKENIZER_WORD_CACHE_H

#include "base/buffer.h"
#include "base/conversation.h"

enum { COP_CACHE_WORDS = 1 << 16, COP_CACHE_WORD_BYTES = 96, COP_CACHE_BYTES = 2 << 20 };

typedef struct {
    uint64_t hash;
    uint32_t text, ids;    /* where they are in the pools */
    uint16_t bytes, count; /* bytes 0: an empty slot */
} cop_cached_word;

typedef struct {
    cop_cached_word *slots; /* open addressing, at most half full; made by the first word */
    size_t words;
    cop_buffer text;
    cop_tokens ids;
} cop_word_cache; /* zero-initialise */

void cop_word_cache_fini(cop_word_cache *cache);
void cop_word_cache_clear(cop_word_cache *cache);

/* hash: cop_hash of the word. The tokens, *count of them, valid until the next put; else NULL. */
const uint32_t *cop_word_cache_find(const cop_word_cache *cache, uint64_t hash, const char *word,
                                    size_t bytes, size_t *count);
/* A word that is not there, of 1 to COP_CACHE_WORD_BYTES bytes and no more tokens than bytes * 4. */
void cop_word_cache_put(cop_word_cache *cache, uint64_t hash, const char *word, size_t bytes,
                        const uint32_t *ids, size_t count);

#endif
