/* Merge rules: the pair (left, right) becomes `product`, rules of lower rank first. */
#ifndef COP_TOKENIZER_MERGES_H
#define COP_TOKENIZER_MERGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COP_NO_RANK = UINT32_MAX };

typedef struct {
    uint32_t left, right, rank, product; /* rank COP_NO_RANK: an empty slot */
} cop_merge;

typedef struct {
    cop_merge *slots; /* open addressing, at most half full */
    size_t mask, count;
} cop_merges;

void cop_merges_init(cop_merges *merges, size_t rules);
void cop_merges_fini(cop_merges *merges);
void cop_merges_put(cop_merges *merges, cop_merge rule); /* replaces a rule for the same pair */

static inline size_t cop_merges_home(const cop_merges *merges, uint32_t left, uint32_t right)
{
    uint64_t mixed = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (mixed ^ mixed >> 32) & merges->mask;
}

/* The rule's rank, and its *product; COP_NO_RANK if there is none. */
static inline uint32_t cop_merges_rank(const cop_merges *merges, uint32_t left, uint32_t right,
                                       uint32_t *product)
{
    size_t at = cop_merges_home(merges, left, right);
    for (;; at = (at + 1) & merges->mask) {
        const cop_merge *slot = &merges->slots[at];
        if (slot->rank == COP_NO_RANK || (slot->left == left && slot->right == right)) {
            *product = slot->product;
            return slot->rank;
        }
    }
}

#endif
