#include "tokenizer/merges.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>

void cop_merges_init(cop_merges *merges, size_t rules)
{
    size_t slots = 16;
    while (slots < 2 * rules)
        slots *= 2;
    *merges = (cop_merges){.slots = cop_calloc(slots, sizeof *merges->slots), .mask = slots - 1};
    for (size_t i = 0; i < slots; i++)
        merges->slots[i].rank = COP_NO_RANK;
}

void cop_merges_fini(cop_merges *merges)
{
    free(merges->slots);
    *merges = (cop_merges){0};
}

void cop_merges_put(cop_merges *merges, cop_merge rule)
{
    size_t at = cop_merges_home(merges, rule.left, rule.right);
    cop_merge *slot = &merges->slots[at];
    while (slot->rank != COP_NO_RANK && (slot->left != rule.left || slot->right != rule.right)) {
        at = (at + 1) & merges->mask;
        slot = &merges->slots[at];
    }
    merges->count += slot->rank == COP_NO_RANK;
    COP_CHECK(2 * merges->count <= merges->mask + 1);
    *slot = rule;
}
