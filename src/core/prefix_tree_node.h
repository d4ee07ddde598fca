/* Inside of the prefix tree; included by prefix_tree*.c alone.
 *
 * What matching, touching and pinning walk over is one cache line a node (beside the tokens, which
 * are a line of their own with 16 to a block); what only insertion and eviction need is kept apart.
 *
 *     nodes[block]  cold[block]  tokens[block * block_tokens ..]      block < capacity: both tiers
 *     roots[id - capacity]       tenants[id - capacity]               one per tenant
 *
 * A node's `pins` are its own and one for every pinned child, so that pinning stops at the first
 * ancestor already pinned: moving a pin along a growing path costs O(1), whatever its length. */
#ifndef COP_CORE_PREFIX_TREE_NODE_H
#define COP_CORE_PREFIX_TREE_NODE_H

#include "base/heap.h"
#include "base/map.h"
#include "core/evict/evict.h"
#include "core/prefix_tree.h"

typedef struct {
    union {
        uint32_t only;  /* child_count == 1 */
        uint32_t *many; /* child_count >= 2: u32[child_capacity], sorted by tokens, owned */
    } children;
    uint32_t child_count, child_capacity;
    uint32_t parent, root;   /* of a root: COP_NO_BLOCK, itself */
    uint32_t depth;          /* blocks from the root */
    uint32_t pins;           /* own, and one per pinned child */
    uint32_t token_count;    /* 0: a root, or nothing resident */
    uint32_t uses;           /* touches */
    uint64_t used_seq, hash; /* hash: chain hash of a full block, 0 of a partial one */
    int64_t used_ns;
} cop_tree_node;

_Static_assert(sizeof(cop_tree_node) == 64, "a node is one cache line");

typedef struct {
    int64_t inserted_ns;
    uint64_t inserted_seq, origin;
    uint32_t host_children; /* of a block on the device */
} cop_tree_cold;

struct cop_tree {
    uint32_t block_tokens;
    uint32_t device_blocks, capacity; /* capacity: of both tiers */
    const cop_evict_ops *policy;
    cop_tree_node *nodes; /* [capacity] */
    cop_tree_cold *cold;  /* [capacity] */
    uint32_t *tokens;     /* [capacity * block_tokens] */

    cop_tree_node *roots; /* [root_count] */
    uint64_t *tenants;    /* [root_count] */
    uint32_t root_count, root_capacity, tenant_capacity;
    cop_map root_of; /* tenant -> index of its root */

    cop_map by_hash;     /* chain hash -> full block */
    uint32_t unfindable; /* full blocks entered while another held their hash */

    cop_heap ends[COP_TIERS]; /* the unpinned ends of each tier, by the policy's key */
    uint64_t next_seq;
    uint32_t resident[COP_TIERS];
    uint32_t evictable; /* not pinned, on the device */
};

static inline bool cop_tree_is_root(const cop_tree *tree, uint32_t node)
{
    return node >= tree->capacity;
}

static inline cop_tier cop_tree_tier(const cop_tree *tree, uint32_t block)
{
    return block < tree->device_blocks ? COP_TIER_DEVICE : COP_TIER_HOST;
}

/* The id of a block in the heap of its tier. */
static inline uint32_t cop_tree_heap_item(const cop_tree *tree, uint32_t block)
{
    return block < tree->device_blocks ? block : block - tree->device_blocks;
}

/* Whether no block below this one is in its tier. */
static inline bool cop_tree_is_end(const cop_tree *tree, uint32_t block)
{
    uint32_t children = tree->nodes[block].child_count;
    return children == 0 || (tree->capacity > tree->device_blocks && block < tree->device_blocks &&
                             children == tree->cold[block].host_children);
}

static inline cop_tree_node *cop_tree_at(const cop_tree *tree, uint32_t node)
{
    return node < tree->capacity ? &tree->nodes[node] : &tree->roots[node - tree->capacity];
}

static inline uint32_t *cop_tree_tokens_of(const cop_tree *tree, uint32_t node)
{
    return tree->tokens + (size_t)node * tree->block_tokens;
}

static inline const uint32_t *cop_tree_children(const cop_tree_node *node)
{
    return node->child_count == 1 ? &node->children.only : node->children.many;
}

cop_heap_key cop_tree_key(const cop_tree *tree, uint32_t node); /* by the policy, as of now */

/* Enters the node among the policy's candidates, or renews its key there, if it is one. */
static inline void cop_tree_offer(cop_tree *tree, uint32_t id)
{
    if (!cop_tree_is_root(tree, id) && tree->nodes[id].pins == 0 && cop_tree_is_end(tree, id))
        cop_heap_put(&tree->ends[cop_tree_tier(tree, id)], cop_tree_heap_item(tree, id),
                     cop_tree_key(tree, id));
}

static inline void cop_tree_withdraw(cop_tree *tree, uint32_t block)
{
    cop_heap_remove(&tree->ends[cop_tree_tier(tree, block)], cop_tree_heap_item(tree, block));
}

/* Where a sequence stands among the sorted children of a node: `index` of them come before it. Its
 * neighbours there, each with the tokens it has in common with the sequence; COP_NO_BLOCK and 0
 * at the ends. One that begins with the sequence, or equals it, is `after`. */
typedef struct {
    uint32_t index;
    uint32_t before, before_common;
    uint32_t after, after_common;
} cop_tree_place;

cop_tree_place cop_children_place(const cop_tree *tree, const cop_tree_node *node,
                                  const uint32_t *tokens, uint32_t count);
void cop_children_insert(cop_tree_node *node, uint32_t index, uint32_t child);
void cop_children_replace(cop_tree_node *node, uint32_t index, uint32_t child);
void cop_children_remove(cop_tree_node *node, uint32_t index);
void cop_children_fini(cop_tree_node *node);

/* Tokens that a and b begin with in common, `count` at the most. */
uint32_t cop_tokens_common(const uint32_t *a, const uint32_t *b, uint32_t count);

#endif
