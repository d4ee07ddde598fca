#include "tokenizer/bpe.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/heap.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_WORD = 40 }; /* symbols; a scan of as many ranks is as fast as a heap */

/* ranks[i], products[i]: of the pair (ids[i], ids[i + 1]). */
static size_t merge_short(const cop_merges *merges, uint32_t *ids, size_t count)
{
    uint32_t ranks[SHORT_WORD], products[SHORT_WORD];
    for (size_t i = 0; i + 1 < count; i++)
        ranks[i] = cop_merges_rank(merges, ids[i], ids[i + 1], &products[i]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (ranks[i] < ranks[best])
                best = i;
        if (ranks[best] == COP_NO_RANK)
            break;
        ids[best] = products[best];
        count--;
        size_t behind = count - best - 1;
        memmove(ids + best + 1, ids + best + 2, behind * sizeof *ids);
        memmove(ranks + best, ranks + best + 1, behind * sizeof *ranks);
        memmove(products + best, products + best + 1, behind * sizeof *products);
        if (best > 0)
            ranks[best - 1] =
                cop_merges_rank(merges, ids[best - 1], ids[best], &products[best - 1]);
        if (best + 1 < count)
            ranks[best] = cop_merges_rank(merges, ids[best], ids[best + 1], &products[best]);
    }
    return count;
}

/* A long word: symbols in a list, its pairs in a heap by (rank, place of the left symbol). */
typedef struct {
    const cop_merges *merges;
    uint32_t *ids, *before, *after; /* before[0] and after[last] are NONE */
    cop_heap pairs;
} long_word;

enum { NONE = UINT32_MAX };

static void rank_pair(long_word *w, uint32_t left)
{
    uint32_t product, rank = COP_NO_RANK;
    if (w->after[left] != NONE)
        rank = cop_merges_rank(w->merges, w->ids[left], w->ids[w->after[left]], &product);
    if (rank == COP_NO_RANK)
        cop_heap_remove(&w->pairs, left);
    else
        cop_heap_put(&w->pairs, left, (cop_heap_key){.major = rank, .minor = left});
}

static void merge_pair(long_word *w, uint32_t left)
{
    uint32_t right = w->after[left], product;
    cop_merges_rank(w->merges, w->ids[left], w->ids[right], &product);
    w->ids[left] = product;
    cop_heap_remove(&w->pairs, right);
    w->after[left] = w->after[right];
    if (w->after[left] != NONE)
        w->before[w->after[left]] = left;
    rank_pair(w, left);
    if (w->before[left] != NONE)
        rank_pair(w, w->before[left]);
}

static size_t merge_long(const cop_merges *merges, uint32_t *ids, size_t count)
{
    COP_CHECK(count < NONE);
    long_word w = {.merges = merges, .ids = ids};
    w.before = cop_malloc(count * sizeof *w.before);
    w.after = cop_malloc(count * sizeof *w.after);
    cop_heap_init(&w.pairs, count);
    for (uint32_t i = 0; i < count; i++) {
        w.before[i] = i - 1; /* NONE for the first */
        w.after[i] = i + 1 < count ? i + 1 : NONE;
    }
    uint32_t left;
    for (uint32_t i = 0; i < count; i++)
        rank_pair(&w, i);
    while (cop_heap_top(&w.pairs, &left))
        merge_pair(&w, left);
    size_t kept = 0;
    for (uint32_t i = 0; i != NONE; i = w.after[i])
        ids[kept++] = ids[i];
    free(w.before);
    free(w.after);
    cop_heap_fini(&w.pairs);
    return kept;
}

size_t cop_bpe_merge(const cop_merges *merges, uint32_t *ids, size_t count)
{
    return count <= SHORT_WORD ? merge_short(merges, ids, count) : merge_long(merges, ids, count);
}
