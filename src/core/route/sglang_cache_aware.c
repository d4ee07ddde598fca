/* sglang_cache_aware: R9, the cache_aware policy of the SGLang gateway.
 *
 *     q = outstanding requests of each worker
 *     every eviction_s: every worker's part of the tree is cut to max_tree_tokens, LRU leaves first
 *     if max q - min q > abs and max q > rel * min q:      argmin q
 *     else r = longest match in the tree / prompt
 *          if r > threshold:                               a worker with that match
 *          else:                                           argmin q
 *     the prompt is inserted in the tree under the choice
 *
 *                 threshold   abs    rel    eviction   max tree
 *     cli            0.3       64    1.5      120 s      2^26
 *     library        0.5       32    1.1       30 s     10,000
 *
 * Source: sgl-project/sglang, policies/cache_aware.rs and tree.rs, the form that sends misses to
 * the shortest queue (an older one took the smallest tree). The tree is the router's own guess from
 * its own choices: it never hears of evictions at the workers. What differs from the original:
 * text in the tree counts in whole blocks of tokens, not characters, for match and size alike;
 * equal matches go by the seeded hash where it takes the first key of a map; it evicts from a timer
 * thread, here the first arrival after the interval does; it also marks the path it matched as
 * used under a worker it did not choose in the end. */
#include "core/route/route.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/map.h"
#include "base/rng.h"
#include "core/directory.h"

#include <stdlib.h>

enum { NIL = UINT32_MAX };

typedef struct {
    double threshold, rel;
    uint32_t abs;
    int64_t evict_ns;
    uint64_t max_tree_tokens;
} defaults;

static const defaults cli = {0.3, 1.5, 64, INT64_C(120000000000), UINT64_C(1) << 26};
static const defaults library = {0.5, 1.1, 32, INT64_C(30000000000), 10000};

/* A block in one worker's part of the tree. Touched deepest first, so that the least recently used
 * one is always a leaf. */
typedef struct {
    uint64_t hash;
    uint32_t older, newer; /* list of the worker; next free in `newer` */
} node;

typedef struct {
    uint32_t oldest, newest, blocks;
} branch;

typedef struct {
    defaults set;
    uint64_t max_blocks;
    uint32_t workers;
    cop_directory tree;
    cop_map index; /* block of a worker -> node */
    node *nodes;
    size_t nodes_capacity;
    uint32_t node_count, first_free;
    branch *branches;  /* [workers] */
    uint32_t *holders; /* scratch, per block */
    size_t holders_capacity;
    uint32_t *matched;  /* scratch, per worker */
    int64_t evicted_ns; /* when the last round was */
    bool started;
} tree_state;

static void *open_state(const cop_router_options *options)
{
    tree_state *t = cop_calloc(1, sizeof *t);
    t->set = options->sglang_library_set ? library : cli;
    t->max_blocks = t->set.max_tree_tokens / options->block_tokens;
    t->workers = options->workers;
    t->first_free = NIL;
    cop_directory_init(&t->tree, options->workers, false);
    cop_map_init(&t->index);
    t->branches = cop_malloc(t->workers * sizeof *t->branches);
    for (uint32_t w = 0; w < t->workers; w++)
        t->branches[w] = (branch){.oldest = NIL, .newest = NIL};
    t->matched = cop_calloc(t->workers, sizeof *t->matched);
    return t;
}

static void close_state(void *state)
{
    tree_state *t = state;
    cop_directory_fini(&t->tree);
    cop_map_fini(&t->index);
    free(t->nodes);
    free(t->branches);
    free(t->holders);
    free(t->matched);
    free(t);
}

static uint64_t key_of(uint64_t hash, uint32_t worker)
{
    return hash ^ cop_splitmix64(worker);
}

static void unlink_node(tree_state *t, branch *b, uint32_t id)
{
    node *n = &t->nodes[id];
    *(n->older == NIL ? &b->oldest : &t->nodes[n->older].newer) = n->newer;
    *(n->newer == NIL ? &b->newest : &t->nodes[n->newer].older) = n->older;
}

static void link_newest(tree_state *t, branch *b, uint32_t id)
{
    t->nodes[id].older = b->newest;
    t->nodes[id].newer = NIL;
    *(b->newest == NIL ? &b->oldest : &t->nodes[b->newest].newer) = id;
    b->newest = id;
}

static uint32_t take_node(tree_state *t)
{
    uint32_t id = t->first_free;
    if (id != NIL) {
        t->first_free = t->nodes[id].newer;
        return id;
    }
    COP_GROW(t->nodes, t->nodes_capacity, t->node_count + 1);
    return t->node_count++;
}

static void touch(tree_state *t, uint32_t worker, uint64_t hash)
{
    branch *b = &t->branches[worker];
    uint64_t key = key_of(hash, worker);
    const uint32_t *known = cop_map_get(&t->index, key);
    uint32_t id;
    if (known) {
        id = *known;
        unlink_node(t, b, id);
    } else {
        id = take_node(t);
        t->nodes[id].hash = hash;
        cop_map_put(&t->index, key, id);
        b->blocks++;
    }
    link_newest(t, b, id);
}

static void evict_from(tree_state *t, uint32_t worker)
{
    branch *b = &t->branches[worker];
    while (b->blocks > t->max_blocks) {
        uint32_t id = b->oldest;
        unlink_node(t, b, id);
        b->blocks--;
        cop_map_remove(&t->index, key_of(t->nodes[id].hash, worker));
        cop_directory_remove(&t->tree, worker, &t->nodes[id].hash, 1);
        t->nodes[id].newer = t->first_free;
        t->first_free = id;
    }
}

static void evict_when_due(tree_state *t, int64_t now_ns)
{
    if (!t->started) {
        t->started = true;
        t->evicted_ns = now_ns;
    }
    if (now_ns - t->evicted_ns < t->set.evict_ns)
        return;
    t->evicted_ns = now_ns;
    for (uint32_t w = 0; w < t->workers; w++)
        evict_from(t, w);
}

static bool imbalanced(const tree_state *t, const cop_candidate *candidates)
{
    uint32_t low = UINT32_MAX, high = 0;
    for (uint32_t w = 0; w < t->workers; w++) {
        uint32_t q = candidates[w].outstanding;
        low = q < low ? q : low;
        high = q > high ? q : high;
    }
    return high - low > t->set.abs && high > t->set.rel * low;
}

static uint32_t longest_match(tree_state *t, const cop_arrival *in)
{
    COP_GROW(t->holders, t->holders_capacity, in->blocks);
    cop_directory_look(&t->tree, in->hashes, in->blocks, t->holders);
    cop_directory_match(&t->tree, t->holders, in->blocks, t->matched);
    uint32_t best = 0;
    for (uint32_t w = 0; w < t->workers; w++)
        best = t->matched[w] > best ? t->matched[w] : best;
    return best;
}

static void score(void *state, const cop_arrival *in, cop_candidate *candidates)
{
    tree_state *t = state;
    evict_when_due(t, in->now_ns);
    uint32_t best = longest_match(t, in);
    double rate = (double)best * in->options->block_tokens / in->request->prompt_tokens;
    bool by_match = rate > t->set.threshold && !imbalanced(t, candidates);
    for (uint32_t w = 0; w < t->workers; w++) {
        candidates[w].cost = by_match ? t->matched[w] < best : candidates[w].outstanding;
        candidates[w].tie_cost = 0;
    }
}

static void chosen(void *state, const cop_arrival *in, uint32_t worker)
{
    tree_state *t = state;
    cop_directory_insert(&t->tree, worker, in->hashes, in->blocks);
    for (uint32_t i = in->blocks; i-- > 0;)
        touch(t, worker, in->hashes[i]);
}

static void check(const void *state)
{
    const tree_state *t = state;
    cop_directory_check(&t->tree);
    size_t total = 0;
    for (uint32_t w = 0; w < t->workers; w++) {
        uint32_t blocks = 0, older = NIL;
        for (uint32_t id = t->branches[w].oldest; id != NIL; id = t->nodes[id].newer) {
            const uint32_t *known = cop_map_get(&t->index, key_of(t->nodes[id].hash, w));
            COP_CHECK(known && *known == id);
            COP_CHECK(t->nodes[id].older == older);
            older = id;
            blocks++;
        }
        COP_CHECK(blocks == t->branches[w].blocks && older == t->branches[w].newest);
        total += blocks;
    }
    COP_CHECK(total == t->index.count);
}

const cop_route_ops cop_route_sglang_cache_aware = {
    .name = "sglang_cache_aware",
    .source = "sgl-project/sglang, cache_aware.rs",
    .open = open_state,
    .close = close_state,
    .score = score,
    .chosen = chosen,
    .check = check,
};
