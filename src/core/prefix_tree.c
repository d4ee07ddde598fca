#include "core/prefix_tree_node.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

static size_t bytes_of_tokens(const cop_tree *tree)
{
    return (size_t)tree->capacity * tree->block_tokens * sizeof *tree->tokens;
}

static cop_status allocate(cop_tree *tree, cop_error *err)
{
    void *p;
    cop_status status = cop_alloc_large(&p, tree->capacity * sizeof *tree->nodes,
                                        "the nodes of the prefix tree", err);
    if (status)
        return status;
    tree->nodes = p;
    status = cop_alloc_large(&p, tree->capacity * sizeof *tree->cold,
                             "the nodes of the prefix tree", err);
    if (status)
        return status;
    tree->cold = p;
    status = cop_alloc_large(&p, bytes_of_tokens(tree), "the tokens of the prefix tree", err);
    if (status)
        return status;
    tree->tokens = p;
    return COP_OK;
}

cop_status cop_tree_open(cop_tree **out, const cop_tree_options *options, cop_error *err)
{
    COP_CHECK(options->block_tokens >= 1 && options->capacity_blocks >= 1);
    COP_CHECK((uint64_t)options->capacity_blocks + options->host_blocks <= UINT32_MAX / 2);
    const cop_evict_ops *policy;
    cop_status status = cop_evict_find(options->eviction, &policy, err);
    if (status)
        return status;
    cop_tree *tree = cop_calloc(1, sizeof *tree);
    tree->block_tokens = options->block_tokens;
    tree->device_blocks = options->capacity_blocks;
    tree->capacity = options->capacity_blocks + options->host_blocks;
    tree->policy = policy;
    tree->next_seq = 1;
    cop_map_init(&tree->root_of);
    cop_map_init(&tree->by_hash);
    status = allocate(tree, err);
    if (status) {
        cop_tree_close(tree);
        return status;
    }
    cop_heap_init(&tree->ends[COP_TIER_DEVICE], tree->device_blocks);
    cop_heap_init(&tree->ends[COP_TIER_HOST], tree->capacity - tree->device_blocks);
    *out = tree;
    return COP_OK;
}

void cop_tree_close(cop_tree *tree)
{
    if (!tree)
        return;
    for (uint32_t i = 0; cop_tree_resident(tree) > 0 && i < tree->capacity; i++)
        cop_children_fini(&tree->nodes[i]);
    for (uint32_t i = 0; i < tree->root_count; i++)
        cop_children_fini(&tree->roots[i]);
    cop_free_large(tree->nodes, tree->capacity * sizeof *tree->nodes);
    cop_free_large(tree->cold, tree->capacity * sizeof *tree->cold);
    cop_free_large(tree->tokens, bytes_of_tokens(tree));
    free(tree->roots);
    free(tree->tenants);
    cop_map_fini(&tree->root_of);
    cop_map_fini(&tree->by_hash);
    for (int tier = 0; tier < COP_TIERS; tier++)
        cop_heap_fini(&tree->ends[tier]);
    free(tree);
}

uint32_t cop_tree_root(cop_tree *tree, uint64_t tenant)
{
    const uint32_t *known = cop_map_get(&tree->root_of, tenant);
    if (known)
        return tree->capacity + *known;
    uint32_t index = tree->root_count++;
    COP_GROW(tree->roots, tree->root_capacity, tree->root_count);
    COP_GROW(tree->tenants, tree->tenant_capacity, tree->root_count);
    tree->roots[index] = (cop_tree_node){
        .parent = COP_NO_BLOCK, .root = tree->capacity + index, .hash = cop_hash_root(tenant)};
    tree->tenants[index] = tenant;
    cop_map_put(&tree->root_of, tenant, index);
    return tree->capacity + index;
}

uint32_t cop_tree_known_root(const cop_tree *tree, uint64_t tenant)
{
    const uint32_t *known = cop_map_get(&tree->root_of, tenant);
    return known ? tree->capacity + *known : COP_NO_BLOCK;
}

cop_match cop_tree_match(const cop_tree *tree, uint32_t root, const uint32_t *tokens,
                         uint32_t count)
{
    cop_match match = {.node = root, .partial_node = COP_NO_BLOCK};
    cop_tree_place place;
    for (;;) {
        uint32_t wanted = count < tree->block_tokens ? count : tree->block_tokens;
        place = cop_children_place(tree, cop_tree_at(tree, match.node), tokens, wanted);
        if (place.after_common < tree->block_tokens)
            break;
        match.node = place.after;
        match.blocks++;
        tokens += wanted;
        count -= wanted;
    }
    if (place.before_common > place.after_common) {
        match.partial_node = place.before;
        match.partial_tokens = place.before_common;
    } else if (place.after_common > 0) {
        match.partial_node = place.after;
        match.partial_tokens = place.after_common;
    }
    return match;
}

uint32_t cop_tree_find(const cop_tree *tree, uint64_t hash)
{
    const uint32_t *node = cop_map_get(&tree->by_hash, hash);
    return node ? *node : COP_NO_BLOCK;
}

uint32_t cop_tree_depth(const cop_tree *tree, uint32_t node)
{
    return cop_tree_at(tree, node)->depth;
}

uint32_t cop_tree_parent(const cop_tree *tree, uint32_t node)
{
    return cop_tree_at(tree, node)->parent;
}

uint64_t cop_tree_hash(const cop_tree *tree, uint32_t node)
{
    return cop_tree_at(tree, node)->hash;
}

uint64_t cop_tree_tenant(const cop_tree *tree, uint32_t node)
{
    return tree->tenants[cop_tree_at(tree, node)->root - tree->capacity];
}

uint64_t cop_tree_origin(const cop_tree *tree, uint32_t node)
{
    return cop_tree_is_root(tree, node) ? 0 : tree->cold[node].origin;
}

const uint32_t *cop_tree_tokens(const cop_tree *tree, uint32_t node, uint32_t *count)
{
    *count = cop_tree_at(tree, node)->token_count;
    return cop_tree_is_root(tree, node) ? NULL : cop_tree_tokens_of(tree, node);
}

void cop_tree_path(const cop_tree *tree, uint32_t node, uint32_t *blocks)
{
    while (!cop_tree_is_root(tree, node)) {
        const cop_tree_node *at = &tree->nodes[node];
        blocks[at->depth - 1] = node;
        node = at->parent;
    }
}

bool cop_tree_pinned(const cop_tree *tree, uint32_t node)
{
    return cop_tree_at(tree, node)->pins > 0;
}

uint32_t cop_tree_resident(const cop_tree *tree)
{
    return tree->resident[COP_TIER_DEVICE] + tree->resident[COP_TIER_HOST];
}

uint32_t cop_tree_resident_on(const cop_tree *tree, cop_tier tier)
{
    return tree->resident[tier];
}

uint32_t cop_tree_evictable(const cop_tree *tree)
{
    return tree->evictable;
}

cop_heap_key cop_tree_key(const cop_tree *tree, uint32_t node)
{
    const cop_tree_node *at = &tree->nodes[node];
    const cop_tree_cold *cold = &tree->cold[node];
    cop_block_meta meta = {.inserted_ns = cold->inserted_ns,
                           .used_ns = at->used_ns,
                           .inserted_seq = cold->inserted_seq,
                           .used_seq = at->used_seq,
                           .uses = at->uses,
                           .depth = at->depth,
                           .tokens = at->token_count};
    return tree->policy->key(&meta);
}

void cop_tree_touch(cop_tree *tree, uint32_t id, int64_t now_ns)
{
    uint32_t deepest = id, on_device = cop_tree_on_device(tree, id);
    while (!cop_tree_is_root(tree, id)) {
        cop_tree_node *node = &tree->nodes[id];
        COP_CHECK(node->token_count > 0);
        node->uses++;
        node->used_ns = now_ns;
        node->used_seq = tree->next_seq++;
        id = node->parent;
    }
    cop_tree_offer(tree, deepest);
    if (on_device != deepest)
        cop_tree_offer(tree, on_device);
}

uint32_t cop_tree_uses(const cop_tree *tree, uint32_t node, uint64_t *used_seq)
{
    *used_seq = cop_tree_at(tree, node)->used_seq;
    return cop_tree_at(tree, node)->uses;
}

void cop_tree_recall(cop_tree *tree, uint32_t id, uint32_t uses, int64_t now_ns)
{
    cop_tree_node *node = &tree->nodes[id];
    COP_CHECK(id < tree->capacity && node->token_count > 0);
    node->uses = uses;
    node->used_ns = now_ns;
    node->used_seq = tree->next_seq++;
    cop_tree_offer(tree, id);
}

void cop_tree_pin(cop_tree *tree, uint32_t id)
{
    for (;;) {
        cop_tree_node *node = cop_tree_at(tree, id);
        bool was_pinned = node->pins++ > 0;
        if (was_pinned || cop_tree_is_root(tree, id))
            return;
        COP_CHECK(node->token_count > 0);
        tree->evictable -= id < tree->device_blocks;
        if (cop_tree_is_end(tree, id))
            cop_tree_withdraw(tree, id);
        id = node->parent;
    }
}

void cop_tree_unpin(cop_tree *tree, uint32_t id)
{
    for (;;) {
        cop_tree_node *node = cop_tree_at(tree, id);
        COP_CHECK(node->pins > 0);
        bool still_pinned = --node->pins > 0;
        if (still_pinned || cop_tree_is_root(tree, id))
            return;
        tree->evictable += id < tree->device_blocks;
        cop_tree_offer(tree, id);
        id = node->parent;
    }
}

static void enter_hash(cop_tree *tree, uint32_t block, uint64_t parent_hash)
{
    cop_tree_node *node = &tree->nodes[block];
    node->hash = cop_hash_block(parent_hash, cop_tree_tokens_of(tree, block), node->token_count);
    if (cop_map_get(&tree->by_hash, node->hash))
        tree->unfindable++;
    else
        cop_map_put(&tree->by_hash, node->hash, block);
}

static void leave_hash(cop_tree *tree, uint32_t block)
{
    const uint32_t *holder = cop_map_get(&tree->by_hash, tree->nodes[block].hash);
    if (holder && *holder == block)
        cop_map_remove(&tree->by_hash, tree->nodes[block].hash);
    else
        tree->unfindable--;
}

/* The node of `block`, whose place among the children of `parent` is already made. */
static void enter(cop_tree *tree, uint32_t parent, const uint32_t *tokens, uint32_t count,
                  uint32_t block, int64_t now_ns)
{
    const cop_tree_node *above = cop_tree_at(tree, parent);
    tree->nodes[block] = (cop_tree_node){.parent = parent,
                                         .root = above->root,
                                         .depth = above->depth + 1,
                                         .token_count = count,
                                         .used_seq = tree->next_seq,
                                         .used_ns = now_ns};
    memcpy(cop_tree_tokens_of(tree, block), tokens, count * sizeof *tokens);
    if (count == tree->block_tokens)
        enter_hash(tree, block, above->hash);
    tree->next_seq++;
    tree->resident[COP_TIER_DEVICE]++;
    tree->evictable++;
}

/* Forgets an unpinned leaf that no child list names any more. */
static void leave(cop_tree *tree, uint32_t block)
{
    cop_tree_node *node = &tree->nodes[block];
    COP_CHECK(node->pins == 0 && node->child_count == 0);
    cop_tree_withdraw(tree, block);
    if (node->token_count == tree->block_tokens)
        leave_hash(tree, block);
    node->token_count = 0;
    tree->resident[cop_tree_tier(tree, block)]--;
    tree->evictable -= block < tree->device_blocks;
}

/* Siblings are never prefixes of one another, so a sequence meets at most one sibling that begins
 * with it or that it begins with, and that one is a neighbour of its place:
 *
 *     among  [a b c d] [a b e] [b]                                    block_tokens 4
 *     1  [a b]      the child after the place begins with it          -> that child stands for it
 *        [a b e]    or equals it                                      -> likewise; but a full block
 *                                                    on the host gives its place to the device's
 *     2  [a b e f]  the child before the place is a prefix of it      -> takes that one's place
 *     3  [a b d]    neither                                           -> new child at the place */
uint32_t cop_tree_insert(cop_tree *tree, uint32_t parent, const uint32_t *tokens, uint32_t count,
                         uint32_t block, uint64_t origin, int64_t now_ns, uint32_t *superseded)
{
    cop_tree_node *above = cop_tree_at(tree, parent);
    COP_CHECK(count >= 1 && count <= tree->block_tokens);
    COP_CHECK(block < tree->device_blocks && tree->nodes[block].token_count == 0);
    COP_CHECK(cop_tree_is_root(tree, parent) ||
              (parent < tree->device_blocks && above->token_count == tree->block_tokens));
    *superseded = COP_NO_BLOCK;
    cop_tree_place place = cop_children_place(tree, above, tokens, count);

    /* 1 */
    if (place.after_common == count) {
        if (place.after < tree->device_blocks || count < tree->block_tokens)
            return place.after;
        cop_tree_promote(tree, place.after, block, origin);
        *superseded = place.after;
        return block;
    }

    /* 2 */
    if (place.before_common > 0 && place.before_common == tree->nodes[place.before].token_count) {
        cop_children_replace(above, place.index - 1, block);
        leave(tree, place.before);
        *superseded = place.before;
    }

    /* 3 */
    else {
        if (!cop_tree_is_root(tree, parent) && cop_tree_is_end(tree, parent))
            cop_tree_withdraw(tree, parent);
        cop_children_insert(above, place.index, block);
    }

    tree->cold[block] = (cop_tree_cold){now_ns, tree->next_seq, origin, 0};
    enter(tree, parent, tokens, count, block, now_ns);
    cop_tree_offer(tree, block);
    return block;
}

void cop_tree_remove(cop_tree *tree, uint32_t block)
{
    uint32_t parent = tree->nodes[block].parent;
    cop_tree_node *above = cop_tree_at(tree, parent);
    cop_tree_place place = cop_children_place(tree, above, cop_tree_tokens_of(tree, block),
                                              tree->nodes[block].token_count);
    COP_CHECK(place.after == block);
    cop_children_remove(above, place.index);
    if (block >= tree->device_blocks && !cop_tree_is_root(tree, parent))
        tree->cold[parent].host_children--;
    leave(tree, block);
    cop_tree_offer(tree, parent);
}

/* Among its siblings it keeps its place: none of them begins with what is left of it, so they all
 * differ from it within that. */
void cop_tree_cut(cop_tree *tree, uint32_t block, uint32_t count)
{
    cop_tree_node *node = &tree->nodes[block];
    COP_CHECK(block < tree->device_blocks && node->pins == 0 && node->child_count == 0);
    COP_CHECK(count >= 1 && count < tree->block_tokens && count <= node->token_count);
    if (node->token_count == tree->block_tokens)
        leave_hash(tree, block);
    node->hash = 0;
    node->token_count = count;
    cop_tree_offer(tree, block);
}

bool cop_tree_victim(const cop_tree *tree, cop_tier tier, int64_t now_ns, cop_evicted *out)
{
    uint32_t block;
    if (!cop_heap_top(&tree->ends[tier], &block))
        return false;
    if (tier == COP_TIER_HOST)
        block += tree->device_blocks;
    const cop_tree_node *node = &tree->nodes[block];
    *out = (cop_evicted){.hash = node->hash,
                         .block = block,
                         .depth_tokens = (node->depth - 1) * tree->block_tokens + node->token_count,
                         .tokens = node->token_count,
                         .uses = node->uses,
                         .age_ns = now_ns - tree->cold[block].inserted_ns,
                         .idle_ns = now_ns - node->used_ns,
                         .key = cop_tree_key(tree, block).major,
                         .tier = tier};
    return true;
}

bool cop_tree_evict(cop_tree *tree, int64_t now_ns, cop_evicted *out)
{
    if (!cop_tree_victim(tree, COP_TIER_DEVICE, now_ns, out))
        return false;
    cop_tree_remove(tree, out->block);
    return true;
}
