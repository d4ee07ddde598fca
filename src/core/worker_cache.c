/* The cache of a worker from outside: looked up, cut back, listed and filled by hand. */
#include "base/alloc.h"
#include "base/check.h"
#include "core/worker_private.h"

#include <stdlib.h>

uint32_t cop_worker_match(const cop_worker *w, uint64_t tenant, const uint32_t *tokens,
                          uint32_t count)
{
    uint32_t root = cop_tree_known_root(w->tree, tenant);
    if (root == COP_NO_BLOCK || !w->options.cache_enabled)
        return 0;
    cop_match match = cop_tree_match(w->tree, root, tokens, count);
    return match.blocks * w->options.block_tokens +
           (w->options.partial_blocks ? match.partial_tokens : 0);
}

/* Children before parents, so that each is a leaf when its turn comes. Whoever is pinned has pinned
 * ancestors, so nothing that goes has anything that stays below it. */
static uint32_t remove_below(cop_worker *w, uint32_t node, uint32_t *scratch)
{
    uint32_t removed = 0;
    for (uint32_t i = cop_tree_below(w->tree, node, scratch); i > 0; i--) {
        uint32_t block = scratch[i - 1];
        if (cop_tree_pinned(w->tree, block))
            continue;
        cop_tree_remove(w->tree, block);
        cop_worker_give(w, block);
        removed++;
    }
    return removed;
}

/* Of the children of `node` that begin with tail[count], a part of a block: one on the device stays,
 * cut to that, and the others go, for siblings may not begin with one another. One in use stays as
 * it is, and then it holds these tokens for all. */
static uint32_t cut_children(cop_worker *w, uint32_t node, const uint32_t *tail, uint32_t count,
                             uint32_t *scratch)
{
    uint32_t *alike = cop_malloc((cop_tree_resident(w->tree) + 1) * sizeof *alike);
    uint32_t found = cop_tree_beginning(w->tree, node, tail, count, alike), removed = 0;
    bool held = false;
    uint32_t kept = COP_NO_BLOCK;
    for (uint32_t i = 0; i < found; i++) {
        removed += remove_below(w, alike[i], scratch);
        held |= cop_tree_pinned(w->tree, alike[i]);
        kept = cop_worker_on_host(w, alike[i]) ? kept : alike[i];
    }
    for (uint32_t i = 0; i < found; i++) {
        if (cop_tree_pinned(w->tree, alike[i]) || (!held && alike[i] == kept))
            continue;
        cop_tree_remove(w->tree, alike[i]);
        cop_worker_give(w, alike[i]);
        removed++;
    }
    if (kept != COP_NO_BLOCK && !held)
        cop_tree_cut(w->tree, kept, count);
    free(alike);
    return removed;
}

uint32_t cop_worker_truncate(cop_worker *w, uint64_t tenant, const uint32_t *tokens, uint32_t count)
{
    COP_CHECK(w->step_count == 0);
    uint32_t root = cop_tree_known_root(w->tree, tenant), block_tokens = w->options.block_tokens;
    if (root == COP_NO_BLOCK)
        return 0;
    cop_match match = cop_tree_match(w->tree, root, tokens, count);
    if (match.blocks * block_tokens + match.partial_tokens < count)
        return 0; /* nothing goes on from there */
    uint32_t *scratch = cop_malloc((cop_tree_resident(w->tree) + 1) * sizeof *scratch);
    uint32_t removed =
        match.partial_tokens
            ? cut_children(w, match.node, tokens + (size_t)match.blocks * block_tokens,
                           match.partial_tokens, scratch)
            : remove_below(w, match.node, scratch);
    free(scratch);
#ifdef COP_WALK_INVARIANTS
    cop_worker_check(w);
#endif
    return removed;
}

typedef struct {
    uint64_t seq;
    uint32_t index;
} use;

static int by_seq(const void *a, const void *b)
{
    const use *x = a, *y = b;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

uint32_t cop_worker_cached(const cop_worker *w, cop_cached_block *out)
{
    COP_CHECK(w->step_count == 0);
    uint32_t resident = cop_tree_resident(w->tree), count = 0;
    uint32_t *order = cop_malloc((resident + (size_t)1) * sizeof *order);
    use *last_uses = cop_malloc((resident + (size_t)1) * sizeof *last_uses);
    cop_tree_in_order(w->tree, order);
    for (uint32_t i = 0; i < resident; i++)
        if (!cop_worker_on_host(w, order[i]))
            order[count++] = order[i];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t parent = cop_tree_parent(w->tree, order[i]);
        last_uses[i].index = i;
        out[i] = (cop_cached_block){.block = order[i],
                                    .parent =
                                        parent < w->options.capacity_blocks ? parent : COP_NO_BLOCK,
                                    .tenant = cop_tree_tenant(w->tree, order[i]),
                                    .uses = cop_tree_uses(w->tree, order[i], &last_uses[i].seq)};
        out[i].tokens = cop_tree_tokens(w->tree, order[i], &out[i].count);
    }
    qsort(last_uses, count, sizeof *last_uses, by_seq);
    for (uint32_t i = 0; i < count; i++)
        out[last_uses[i].index].last_use = i;
    free(order);
    free(last_uses);
    return count;
}

uint32_t cop_worker_adopt(cop_worker *w, const cop_cached_block *block, int64_t now_ns)
{
    COP_CHECK(w->step_count == 0);
    uint32_t parent = block->parent, own = cop_pool_take(&w->pool);
    if (own == COP_NO_BLOCK)
        return COP_NO_BLOCK;
    if (parent == COP_NO_BLOCK)
        parent = cop_tree_root(w->tree, block->tenant);
    uint32_t node = cop_worker_enter(w, parent, block->tokens, block->count, own, COP_NO_TRANSFER,
                                     now_ns, NULL);
    return node == own ? own : COP_NO_BLOCK;
}

void cop_worker_recall(cop_worker *w, const cop_cached_block *blocks, uint32_t count,
                       int64_t now_ns)
{
    use *last_uses = cop_malloc((count + (size_t)1) * sizeof *last_uses);
    for (uint32_t i = 0; i < count; i++)
        last_uses[i] = (use){blocks[i].last_use, i};
    qsort(last_uses, count, sizeof *last_uses, by_seq);
    for (uint32_t i = 0; i < count; i++) {
        const cop_cached_block *block = &blocks[last_uses[i].index];
        cop_tree_recall(w->tree, block->block, block->uses, now_ns);
    }
    free(last_uses);
#ifdef COP_WALK_INVARIANTS
    cop_worker_check(w);
#endif
}
