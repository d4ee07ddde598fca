/* Lists of nodes: what is below one, which children begin alike, everything in order. */
#include "core/prefix_tree_node.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

static uint32_t append_children(const cop_tree *tree, uint32_t node, uint32_t *out, uint32_t count)
{
    const cop_tree_node *at = cop_tree_at(tree, node);
    if (at->child_count)
        memcpy(out + count, cop_tree_children(at), at->child_count * sizeof *out);
    return count + at->child_count;
}

uint32_t cop_tree_below(const cop_tree *tree, uint32_t node, uint32_t *out)
{
    uint32_t count = append_children(tree, node, out, 0);
    for (uint32_t i = 0; i < count; i++)
        count = append_children(tree, out[i], out, count);
    return count;
}

uint32_t cop_tree_beginning(const cop_tree *tree, uint32_t node, const uint32_t *tokens,
                            uint32_t count, uint32_t *out)
{
    const cop_tree_node *at = cop_tree_at(tree, node);
    cop_tree_place place = cop_children_place(tree, at, tokens, count);
    uint32_t found = 0;
    for (uint32_t i = place.index; i < at->child_count; i++) {
        uint32_t child = cop_tree_children(at)[i];
        if (tree->nodes[child].token_count < count ||
            cop_tokens_common(tokens, cop_tree_tokens_of(tree, child), count) < count)
            break;
        out[found++] = child;
    }
    return found;
}

typedef struct {
    uint64_t seq;
    uint32_t node;
} numbered;

static int by_seq(const void *a, const void *b)
{
    const numbered *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

void cop_tree_in_order(const cop_tree *tree, uint32_t *out)
{
    numbered *all = cop_malloc((cop_tree_resident(tree) + (size_t)1) * sizeof *all);
    uint32_t count = 0;
    for (uint32_t id = 0; id < tree->capacity; id++)
        if (tree->nodes[id].token_count > 0)
            all[count++] = (numbered){tree->cold[id].inserted_seq, id};
    COP_CHECK(count == cop_tree_resident(tree));
    qsort(all, count, sizeof *all, by_seq);
    for (uint32_t i = 0; i < count; i++)
        out[i] = all[i].node;
    free(all);
}
