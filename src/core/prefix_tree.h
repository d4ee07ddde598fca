/* The prefix tree: which token sequences have their KV in which blocks. One node per resident
 * block, and its id says where the KV lies; roots (one per tenant) have the ids behind.
 *
 *     0 .. capacity_blocks-1                              a block of the device's pool
 *     capacity_blocks .. capacity_blocks+host_blocks-1    a slot of the host tier
 *
 *     root(tenant 0) -- [You are a helpful ..] -- [.. assistant. Answer] -- [in French.] partial
 *                                            \                          \-- [in one word. Q: w]
 *                                             \- [.. pirate. Answer in]
 *
 * A node holds 1 .. block_tokens tokens; fewer than block_tokens makes it partial, and a leaf for
 * ever. Children of a node are kept sorted by their tokens, so the child with the longest common
 * prefix with any sequence is a neighbour of the place where the sequence would be inserted: one
 * binary search finds exact and partial matches, and tokens themselves are compared, never hashes.
 *
 * On every path the blocks on the device come first, then those on the host: what is computed next
 * needs all before it on the device. So a tier is left from its end: a block goes to the host, or
 * goes for good, when no block below it is on the device; a slot when nothing is below it. Only full
 * blocks are kept on the host.
 *
 *     root -- [device] -- [device] -- [host] -- [host]      ends: the second device block and the
 *                   \-- [device] partial                    partial one; the last host block
 *
 * Pins count along the path: a pin on a node pins its ancestors. What is not pinned can leave its
 * tier, ends first, in the order of the eviction policy (evict/), which each tier follows by itself.
 * A block in use by a running request but not yet full has no node.
 *
 * Invariants (cop_tree_check): path-closed (a resident node's ancestors are resident); nothing on the
 * device below the host; siblings sorted and distinct, none a prefix of another; a node with a
 * pinned child is pinned; a tier's heap holds exactly its unpinned ends; chain hashes right; counters
 * right. Sources: SGLang's RadixAttention (lock refs, leaf-only eviction) and HiCache (one tree over
 * device and host), vLLM (blocks, chain hashes). */
#ifndef COP_CORE_PREFIX_TREE_H
#define COP_CORE_PREFIX_TREE_H

#include "base/status.h"
#include "core/block_pool.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cop_tree cop_tree;

typedef enum { COP_TIER_DEVICE, COP_TIER_HOST, COP_TIERS } cop_tier;

typedef struct {
    uint32_t block_tokens, capacity_blocks;
    uint32_t host_blocks; /* 0: no host tier */
    const char *eviction; /* evict registry; COP_ERR_INVALID with the nearest name if unknown */
} cop_tree_options;

typedef struct {
    uint32_t node;           /* deepest node whose tokens all match and that is full; or the root */
    uint32_t blocks;         /* full blocks matched = depth of node */
    uint32_t partial_node;   /* child of `node` that matches further, or COP_NO_BLOCK */
    uint32_t partial_tokens; /* by so many tokens, >= 1 then; 0 without one */
} cop_match;                 /* matched tokens = blocks * block_tokens + partial_tokens */

typedef struct cop_evicted {
    uint64_t hash; /* chain hash; 0 for a partial block, which nobody was told of */
    uint32_t block;
    uint32_t depth_tokens;   /* tokens of the path up to and with the block */
    uint32_t tokens;         /* in the block */
    uint32_t uses;           /* touches */
    int64_t age_ns, idle_ns; /* since insertion, since last touch (or insertion) */
    uint64_t key;            /* major key of the policy */
    cop_tier tier;           /* where it was */
} cop_evicted;

cop_status cop_tree_open(cop_tree **out, const cop_tree_options *options, cop_error *err);
void cop_tree_close(cop_tree *tree);

/* The tenant's root; made when first asked for. */
uint32_t cop_tree_root(cop_tree *tree, uint64_t tenant);
uint32_t cop_tree_known_root(const cop_tree *tree, uint64_t tenant); /* COP_NO_BLOCK: none yet */

/* Longest common prefix of tokens[count] with what the tenant has. `root` from cop_tree_root. */
cop_match cop_tree_match(const cop_tree *tree, uint32_t root, const uint32_t *tokens,
                         uint32_t count);

/* Node of a full block by chain hash, or COP_NO_BLOCK. */
uint32_t cop_tree_find(const cop_tree *tree, uint64_t hash);

uint32_t cop_tree_depth(const cop_tree *tree, uint32_t node); /* blocks from the root; root: 0 */
uint32_t cop_tree_parent(const cop_tree *tree, uint32_t node);
uint64_t cop_tree_hash(const cop_tree *tree, uint32_t node); /* of a root: cop_hash_root */
uint64_t cop_tree_tenant(const cop_tree *tree, uint32_t node);
uint64_t cop_tree_origin(const cop_tree *tree, uint32_t node);
const uint32_t *cop_tree_tokens(const cop_tree *tree, uint32_t node,
                                uint32_t *count); /* borrowed */

/* Block ids of the path, root's child first: blocks u32[depth(node)]. */
void cop_tree_path(const cop_tree *tree, uint32_t node, uint32_t *blocks);

/* One use of every block from `node` up, deepest first. Of a root alone: nothing. */
void cop_tree_touch(cop_tree *tree, uint32_t node, int64_t now_ns);

void cop_tree_pin(cop_tree *tree, uint32_t node);
void cop_tree_unpin(cop_tree *tree, uint32_t node);

/* Enters block `block` of the device holding tokens[count] under `parent` (a full block of the
 * device, or a root). `origin` is kept with the node (what brought it, or 0). Returns the node that
 * now stands for these tokens: `block` itself, or a resident one that holds the same (or, for a
 * partial block, more): then the caller keeps `block` and may free it. Of a full block that the host
 * has, `block` takes the place: with its uses, its pins and what is below it. *superseded is what
 * the new block made redundant, a partial sibling or that slot, which the caller frees; or
 * COP_NO_BLOCK. A partial block must therefore not stay pinned while others insert. An insertion
 * counts as no use. */
uint32_t cop_tree_insert(cop_tree *tree, uint32_t parent, const uint32_t *tokens, uint32_t count,
                         uint32_t block, uint64_t origin, int64_t now_ns, uint32_t *superseded);

/* The policy's next victim in a tier: an unpinned end, which stays. False: all is pinned there. */
bool cop_tree_victim(const cop_tree *tree, cop_tier tier, int64_t now_ns, cop_evicted *out);

/* Takes the device's victim out of the tree: for a tree without a host tier. */
bool cop_tree_evict(cop_tree *tree, int64_t now_ns, cop_evicted *out);

/* Takes an unpinned leaf out of the tree; the caller frees it. */
void cop_tree_remove(cop_tree *tree, uint32_t block);

/* A full block moves to a slot that is free, with all that is known of it and all that is below it:
 * from an end of the device to the host (unpinned), */
void cop_tree_demote(cop_tree *tree, uint32_t block, uint32_t slot);
/* and back below a block of the device, or a root. `origin`: what brought it. */
void cop_tree_promote(cop_tree *tree, uint32_t slot, uint32_t block, uint64_t origin);
/* The deepest of `node` and its ancestors that is on the device, or the root. */
uint32_t cop_tree_on_device(const cop_tree *tree, uint32_t node);

/* Shortens an unpinned leaf on the device to its first `count` tokens, 1 .. block_tokens - 1: it becomes partial.
 * No sibling may begin with these. An age or a use it had stays. */
void cop_tree_cut(cop_tree *tree, uint32_t block, uint32_t count);

/* Everything below `node`, parents before children: out u32[resident]. Returns how many. */
uint32_t cop_tree_below(const cop_tree *tree, uint32_t node, uint32_t *out);
/* Children of `node` that begin with tokens[count], in order: out u32[resident]. */
uint32_t cop_tree_beginning(const cop_tree *tree, uint32_t node, const uint32_t *tokens,
                            uint32_t count, uint32_t *out);

/* Every resident block in the order of insertion, so parents before children: out u32[resident]. */
void cop_tree_in_order(const cop_tree *tree, uint32_t *out);

/* What the policies go by: touches, and when the last use was (grows with time). */
uint32_t cop_tree_uses(const cop_tree *tree, uint32_t node, uint64_t *used_seq);
/* Gives a block the uses that it had elsewhere, the last of them now; its ancestors none. */
void cop_tree_recall(cop_tree *tree, uint32_t node, uint32_t uses, int64_t now_ns);

bool cop_tree_pinned(const cop_tree *tree, uint32_t node);
uint32_t cop_tree_resident(const cop_tree *tree); /* nodes, of both tiers */
uint32_t cop_tree_resident_on(const cop_tree *tree, cop_tier tier);
/* Nodes on the device that are not pinned: all can leave it, in some order. */
uint32_t cop_tree_evictable(const cop_tree *tree);

void cop_tree_check(const cop_tree *tree);

#endif
