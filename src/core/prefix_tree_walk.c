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
    cop_heap_key key;
    uint32_t node;
} ranked;

static int by_key(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->key.major != y->key.major)
        return x->key.major < y->key.major ? -1 : 1;
    if (x->key.minor != y->key.minor)
        return x->key.minor < y->key.minor ? -1 : 1;
    return (x->node > y->node) - (x->node < y->node);
}

/* By rank, each after those of its ancestors that have not been listed yet. */
void cop_tree_in_order(const cop_tree *tree, uint32_t *out)
{
    ranked *all = cop_malloc((tree->resident + 1) * sizeof *all);
    bool *listed = cop_calloc(tree->capacity, sizeof *listed);
    uint32_t count = 0, done = 0;
    for (uint32_t id = 0; id < tree->capacity; id++)
        if (tree->nodes[id].token_count > 0)
            all[count++] = (ranked){cop_tree_key(tree, id), id};
    COP_CHECK(count == tree->resident);
    qsort(all, count, sizeof *all, by_key);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t new_nodes = 0;
        for (uint32_t id = all[i].node; !cop_tree_is_root(tree, id) && !listed[id];
             id = tree->nodes[id].parent)
            new_nodes++;
        done += new_nodes;
        uint32_t id = all[i].node;
        for (uint32_t place = done; new_nodes > 0; new_nodes--, id = tree->nodes[id].parent) {
            out[--place] = id;
            listed[id] = true;
        }
    }
    COP_CHECK(done == count);
    free(all);
    free(listed);
}
