/* Blocks that change their tier: the node gets another id, and everything that names it follows. */
#include "core/prefix_tree_node.h"

#include "base/check.h"

#include <string.h>

uint32_t cop_tree_on_device(const cop_tree *tree, uint32_t node)
{
    while (node >= tree->device_blocks && node < tree->capacity)
        node = tree->nodes[node].parent;
    return node;
}

/* Writes node `to`, and makes the children and the hash index name it instead of `from`. */
static void rename_node(cop_tree *tree, uint32_t from, uint32_t to)
{
    cop_tree_node *node = &tree->nodes[to];
    *node = tree->nodes[from];
    tree->cold[to] = tree->cold[from];
    memcpy(cop_tree_tokens_of(tree, to), cop_tree_tokens_of(tree, from),
           tree->block_tokens * sizeof *tree->tokens);
    for (uint32_t i = 0; i < node->child_count; i++)
        tree->nodes[cop_tree_children(node)[i]].parent = to;
    uint32_t *holder = cop_map_get(&tree->by_hash, node->hash);
    if (holder && *holder == from)
        *holder = to;
    tree->nodes[from] = (cop_tree_node){0};
}

/* Who leaves the device has children on the host alone, and so has who comes from there. */
static void change_tier(cop_tree *tree, uint32_t from, uint32_t to)
{
    uint32_t parent = tree->nodes[from].parent;
    cop_tree_node *above = cop_tree_at(tree, parent);
    COP_CHECK(tree->nodes[from].token_count == tree->block_tokens);
    COP_CHECK(tree->nodes[to].token_count == 0);
    cop_tree_place place =
        cop_children_place(tree, above, cop_tree_tokens_of(tree, from), tree->block_tokens);
    COP_CHECK(place.after == from);
    cop_tree_withdraw(tree, from);
    cop_children_replace(above, place.index, to);
    rename_node(tree, from, to);
    tree->resident[cop_tree_tier(tree, from)]--;
    tree->resident[cop_tree_tier(tree, to)]++;
    cop_tree_offer(tree, to);
}

void cop_tree_demote(cop_tree *tree, uint32_t block, uint32_t slot)
{
    COP_CHECK(block < tree->device_blocks && slot >= tree->device_blocks && slot < tree->capacity);
    COP_CHECK(tree->nodes[block].pins == 0 && cop_tree_is_end(tree, block));
    uint32_t parent = tree->nodes[block].parent;
    change_tier(tree, block, slot);
    tree->evictable--;
    if (cop_tree_is_root(tree, parent))
        return;
    tree->cold[parent].host_children++;
    cop_tree_offer(tree, parent);
}

void cop_tree_promote(cop_tree *tree, uint32_t slot, uint32_t block, uint64_t origin)
{
    COP_CHECK(block < tree->device_blocks && slot >= tree->device_blocks && slot < tree->capacity);
    uint32_t parent = tree->nodes[slot].parent;
    COP_CHECK(parent < tree->device_blocks || cop_tree_is_root(tree, parent));
    /* Before it is offered: what is below it stays on the host, and it is the end of the device. */
    tree->cold[slot].host_children = tree->nodes[slot].child_count;
    tree->cold[slot].origin = origin;
    change_tier(tree, slot, block);
    tree->evictable += tree->nodes[block].pins == 0;
    if (cop_tree_is_root(tree, parent))
        return;
    tree->cold[parent].host_children--;
    cop_tree_withdraw(tree, parent);
}
