#include "core/prefix_tree_node.h"

#include "base/check.h"
#include "base/hash.h"

#include <string.h>

/* What the walk finds, to be compared with the tree's counters. */
typedef struct {
    uint32_t resident[COP_TIERS], ends[COP_TIERS], listed, evictable, full;
} tally;

/* Siblings sorted, distinct and none a prefix of another. It is enough to compare neighbours: what
 * stands between a sequence and one that begins with it begins with it too. */
static void check_children(const cop_tree *tree, uint32_t id, tally *found)
{
    const cop_tree_node *node = cop_tree_at(tree, id);
    const uint32_t *children = cop_tree_children(node);
    uint32_t pinned = 0, on_host = 0;
    for (uint32_t i = 0; i < node->child_count; i++) {
        const cop_tree_node *child = &tree->nodes[children[i]];
        COP_CHECK(children[i] < tree->capacity && child->token_count > 0 && child->parent == id);
        pinned += child->pins > 0;
        on_host += children[i] >= tree->device_blocks;
        if (i == 0)
            continue;
        const uint32_t *a = cop_tree_tokens_of(tree, children[i - 1]);
        const uint32_t *b = cop_tree_tokens_of(tree, children[i]);
        uint32_t a_count = tree->nodes[children[i - 1]].token_count, b_count = child->token_count;
        uint32_t shorter = a_count < b_count ? a_count : b_count;
        uint32_t common = cop_tokens_common(a, b, shorter);
        COP_CHECK(common < shorter && a[common] < b[common]);
    }
    COP_CHECK(node->pins >= pinned);
    if (id < tree->device_blocks)
        COP_CHECK(tree->cold[id].host_children == on_host);
    else if (id < tree->capacity)
        COP_CHECK(on_host == node->child_count);
    COP_CHECK(node->child_count < 2 || node->child_capacity >= node->child_count);
    found->listed += node->child_count;
}

static void check_hash(const cop_tree *tree, uint32_t id)
{
    const cop_tree_node *node = &tree->nodes[id], *parent = cop_tree_at(tree, node->parent);
    bool full = node->token_count == tree->block_tokens;
    const uint32_t *tokens = cop_tree_tokens_of(tree, id);
    COP_CHECK(node->hash == (full ? cop_hash_block(parent->hash, tokens, node->token_count) : 0));
    if (!full)
        return;
    const uint32_t *holder = cop_map_get(&tree->by_hash, node->hash);
    COP_CHECK(holder ? tree->nodes[*holder].hash == node->hash : tree->unfindable > 0);
    COP_CHECK(!holder || tree->nodes[*holder].token_count == tree->block_tokens);
}

static void check_heap(const cop_tree *tree, uint32_t id)
{
    const cop_tree_node *node = &tree->nodes[id];
    const cop_heap *heap = &tree->ends[cop_tree_tier(tree, id)];
    uint32_t item = cop_tree_heap_item(tree, id), in_tier = 0;
    for (uint32_t i = 0; i < node->child_count; i++)
        in_tier += cop_tree_tier(tree, cop_tree_children(node)[i]) == cop_tree_tier(tree, id);
    bool unpinned_end = node->token_count > 0 && node->pins == 0 && in_tier == 0;
    COP_CHECK(cop_heap_contains(heap, item) == unpinned_end);
    if (!unpinned_end)
        return;
    cop_heap_key kept = heap->nodes[heap->place[item] - 1].key;
    cop_heap_key key = cop_tree_key(tree, id);
    COP_CHECK(kept.major == key.major && kept.minor == key.minor);
}

static void check_node(const cop_tree *tree, uint32_t id, tally *found)
{
    const cop_tree_node *node = &tree->nodes[id];
    check_heap(tree, id);
    if (node->token_count == 0) {
        COP_CHECK(node->child_count == 0 && node->pins == 0);
        return;
    }
    const cop_tree_node *parent = cop_tree_at(tree, node->parent);
    const cop_tree_cold *cold = &tree->cold[id];
    bool full = node->token_count == tree->block_tokens;
    COP_CHECK(node->token_count <= tree->block_tokens && (full || node->child_count == 0));
    COP_CHECK(cop_tree_is_root(tree, node->parent) || parent->token_count == tree->block_tokens);
    COP_CHECK(full || id < tree->device_blocks);
    COP_CHECK(node->depth == parent->depth + 1 && node->root == parent->root);
    COP_CHECK(cold->inserted_seq <= node->used_seq && node->used_seq < tree->next_seq);
    COP_CHECK(node->uses == 0 || cold->inserted_seq < node->used_seq);
    check_hash(tree, id);
    check_children(tree, id, found);
    cop_tier tier = cop_tree_tier(tree, id);
    found->resident[tier]++;
    found->full += full;
    found->evictable += node->pins == 0 && tier == COP_TIER_DEVICE;
    found->ends[tier] += node->pins == 0 && cop_tree_is_end(tree, id);
}

void cop_tree_check(const cop_tree *tree)
{
    tally found = {0};
    for (uint32_t id = 0; id < tree->capacity; id++)
        check_node(tree, id, &found);
    for (uint32_t i = 0; i < tree->root_count; i++) {
        const cop_tree_node *root = &tree->roots[i];
        const uint32_t *index = cop_map_get(&tree->root_of, tree->tenants[i]);
        COP_CHECK(index && *index == i && root->root == tree->capacity + i);
        COP_CHECK(root->parent == COP_NO_BLOCK && root->depth == 0 && root->token_count == 0);
        COP_CHECK(root->hash == cop_hash_root(tree->tenants[i]));
        check_children(tree, root->root, &found);
    }
    COP_CHECK(tree->root_of.count == tree->root_count);
    COP_CHECK(found.listed == cop_tree_resident(tree) && found.evictable == tree->evictable);
    for (int tier = 0; tier < COP_TIERS; tier++)
        COP_CHECK(found.resident[tier] == tree->resident[tier] &&
                  found.ends[tier] == tree->ends[tier].count);
    COP_CHECK(found.full == tree->by_hash.count + tree->unfindable);
}
