/* Every policy of the registry beside its definition, computed the slow way: from a log of all
 * insertions and touches, over all blocks. And bounds that hold for requests which pin their path,
 * insert what is missing and touch the path once: LRU hits what the stack distances say, and no
 * policy beats Belady's (FIFO may fall with capacity, so monotony is asked of LRU alone).
 * COP_SEED=n runs another seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/rng.h"
#include "core/block_pool.h"
#include "core/evict/evict.h"
#include "core/prefix_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed_of_the_run(void)
{
    const char *text = getenv("COP_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 8218;
    print_message("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static cop_tree *open_tree(const char *policy, uint32_t capacity)
{
    cop_tree *tree;
    cop_error err;
    cop_tree_options options = {.block_tokens = 1, .capacity_blocks = capacity, .eviction = policy};
    assert_int_equal(cop_tree_open(&tree, &options, &err), COP_OK);
    return tree;
}

/* Victims beside the definitions. */

enum { CAPACITY = 24, OPERATIONS = 3000, TRACES = 12, RUNNING = 3 };

/* What the log says of a block: positions of its insertion and of its last use (or insertion). */
typedef struct {
    uint64_t inserted, used, touches;
} history;

static cop_heap_key lru(history h)
{
    return (cop_heap_key){h.used, 0};
}

static cop_heap_key fifo(history h)
{
    return (cop_heap_key){h.inserted, 0};
}

static cop_heap_key lfu(history h)
{
    return (cop_heap_key){h.touches, h.used};
}

typedef struct {
    const char *name;
    cop_heap_key (*key)(history);
} definition;

static const definition definitions[] = {{"lru", lru}, {"fifo", fifo}, {"lfu", lfu}};

static const definition *definition_of(const char *policy)
{
    for (size_t i = 0; i < sizeof definitions / sizeof *definitions; i++)
        if (strcmp(definitions[i].name, policy) == 0)
            return &definitions[i];
    fail_msg("policy '%s' has no definition in this test", policy);
    return NULL;
}

typedef struct {
    cop_rng rng;
    cop_tree *tree;
    cop_pool pool;
    uint32_t root;
    bool resident[CAPACITY];
    uint32_t parent[CAPACITY];
    uint32_t running[RUNNING]; /* nodes pinned; the root when idle */
    struct {
        uint32_t block;
        bool touch;
    } log[OPERATIONS * CAPACITY];
    uint32_t logged, victims;
    uint64_t digest; /* of the sequence of victims */
} trace;

static bool is_below(const trace *t, uint32_t block, uint32_t ancestor)
{
    while (block < CAPACITY && block != ancestor)
        block = t->parent[block];
    return block == ancestor;
}

static bool is_candidate(const trace *t, uint32_t block)
{
    for (uint32_t i = 0; i < RUNNING; i++)
        if (is_below(t, t->running[i], block))
            return false;
    for (uint32_t i = 0; i < CAPACITY; i++)
        if (t->resident[i] && t->parent[i] == block)
            return false;
    return t->resident[block];
}

static uint32_t victim_by_definition(const trace *t, const definition *d)
{
    history histories[CAPACITY];
    for (uint32_t i = 0; i < t->logged; i++) {
        history *h = &histories[t->log[i].block];
        if (!t->log[i].touch)
            *h = (history){.inserted = i};
        h->used = i;
        h->touches += t->log[i].touch;
    }
    uint32_t victim = COP_NO_BLOCK;
    cop_heap_key lowest = {0, 0};
    for (uint32_t block = 0; block < CAPACITY; block++) {
        if (!is_candidate(t, block))
            continue;
        cop_heap_key key = d->key(histories[block]);
        if (victim == COP_NO_BLOCK || key.major < lowest.major ||
            (key.major == lowest.major && key.minor < lowest.minor)) {
            victim = block;
            lowest = key;
        }
    }
    return victim;
}

/* Frees one block, unless all are pinned. */
static bool evict(trace *t, const definition *d)
{
    uint32_t expected = victim_by_definition(t, d);
    cop_evicted out = {.block = COP_NO_BLOCK};
    assert_int_equal(cop_tree_evict(t->tree, 0, &out), expected != COP_NO_BLOCK);
    assert_int_equal(out.block, expected);
    if (expected == COP_NO_BLOCK)
        return false;
    t->resident[expected] = false;
    cop_pool_give(&t->pool, expected);
    t->victims++;
    t->digest = cop_hash(&expected, sizeof expected, t->digest);
    return true;
}

static void touch(trace *t, uint32_t node)
{
    cop_tree_touch(t->tree, node, 0);
    for (; node < CAPACITY; node = t->parent[node]) {
        t->log[t->logged].block = node;
        t->log[t->logged++].touch = true;
    }
}

/* Grows the path of a running request by one block, as decoding does, and moves its pin along. */
static void grow(trace *t, uint32_t runner, const definition *d)
{
    uint32_t node = t->running[runner], token = (uint32_t)cop_rng_below(&t->rng, 3), superseded;
    if (cop_tree_depth(t->tree, node) == 7)
        return;
    uint32_t block = cop_pool_take(&t->pool);
    if (block == COP_NO_BLOCK) {
        if (evict(t, d))
            block = cop_pool_take(&t->pool);
        else
            return;
    }
    uint32_t now = cop_tree_insert(t->tree, node, &token, 1, block, 0, 0, &superseded);
    if (now == block) {
        t->resident[block] = true;
        t->parent[block] = node;
        t->log[t->logged].block = block;
        t->log[t->logged++].touch = false;
    } else {
        cop_pool_give(&t->pool, block);
    }
    cop_tree_pin(t->tree, now);
    cop_tree_unpin(t->tree, node);
    t->running[runner] = now;
}

static void operate(trace *t, const definition *d)
{
    uint32_t runner = (uint32_t)cop_rng_below(&t->rng, RUNNING);
    uint32_t other = (uint32_t)cop_rng_below(&t->rng, CAPACITY);
    switch (cop_rng_below(&t->rng, 8)) {
    case 0: /* ends; another begins at the root */
        touch(t, t->running[runner]);
        cop_tree_unpin(t->tree, t->running[runner]);
        t->running[runner] = t->root;
        cop_tree_pin(t->tree, t->root);
        break;
    case 1:
        evict(t, d);
        break;
    case 2: /* a use without a pin */
        if (t->resident[other])
            touch(t, other);
        break;
    default:
        grow(t, runner, d);
    }
    cop_tree_check(t->tree);
}

static uint64_t run_trace(const definition *d, uint64_t seed, uint32_t *victims)
{
    static trace t;
    memset(&t, 0, sizeof t);
    cop_rng_init(&t.rng, seed, 0);
    cop_pool_init(&t.pool, CAPACITY);
    t.tree = open_tree(d->name, CAPACITY);
    t.root = cop_tree_root(t.tree, 1);
    for (uint32_t i = 0; i < RUNNING; i++) {
        t.running[i] = t.root;
        cop_tree_pin(t.tree, t.root);
    }
    for (int i = 0; i < OPERATIONS; i++)
        operate(&t, d);
    *victims = t.victims;
    cop_tree_close(t.tree);
    cop_pool_fini(&t.pool);
    return t.digest;
}

static void test_victims_are_those_of_the_definition(void **state)
{
    uint64_t seed = seed_of_the_run(), digests[8] = {0};
    size_t policies = 0;
    for (const cop_evict_ops *policy; (policy = cop_evict_at(policies)); policies++) {
        const definition *d = definition_of(policy->name);
        uint32_t victims = 0;
        for (uint64_t i = 0; i < TRACES; i++) {
            digests[policies] = run_trace(d, seed + i, &victims);
            assert_true(victims > 300);
        }
        /* The same again gives the same. */
        assert_true(digests[policies] == run_trace(d, seed + TRACES - 1, &victims));
        /* And other policies choose otherwise, or the trace would show nothing. */
        for (size_t i = 0; i < policies; i++)
            assert_true(digests[i] != digests[policies]);
    }
    assert_true(policies >= 3);
}

/* Hits beside the bounds. Requests are paths of a random tree of PLACES blocks; a block's only
 * token is its place. */

enum { PLACES = 160, DEEPEST = 12, REQUESTS = 1500 };

typedef struct {
    uint32_t parent[PLACES], depth[PLACES]; /* parent PLACES: none */
    uint32_t requests[REQUESTS];            /* deepest place of each */
} workload;

static void draw_workload(workload *w, uint64_t seed)
{
    cop_rng rng;
    cop_rng_init(&rng, seed, 1);
    for (uint32_t i = 0; i < PLACES; i++) {
        uint32_t parent = i < 4 ? PLACES : (uint32_t)cop_rng_below(&rng, i);
        if (parent < PLACES && w->depth[parent] == DEEPEST)
            parent = PLACES;
        w->parent[i] = parent;
        w->depth[i] = parent == PLACES ? 1 : w->depth[parent] + 1;
    }
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint32_t a = (uint32_t)cop_rng_below(&rng, PLACES),
                 b = (uint32_t)cop_rng_below(&rng, a + 1);
        w->requests[i] = cop_rng_below(&rng, 3) ? b : a; /* low places are popular */
    }
}

/* Fills path u32[depth], root's child first; returns the depth. */
static uint32_t path_of(const workload *w, uint32_t place, uint32_t *path)
{
    uint32_t depth = w->depth[place];
    for (uint32_t i = depth; i-- > 0; place = w->parent[place])
        path[i] = place;
    return depth;
}

static uint32_t free_block(cop_tree *tree, cop_pool *pool)
{
    if (pool->free_count == 0) {
        cop_evicted out;
        assert_true(cop_tree_evict(tree, 0, &out));
        cop_pool_give(pool, out.block);
    }
    return cop_pool_take(pool);
}

/* Serves the requests with a cache; hits[i] blocks of request i were there. Returns their sum. */
static uint32_t serve(const workload *w, const char *policy, uint32_t capacity, uint32_t *hits)
{
    cop_tree *tree = open_tree(policy, capacity);
    cop_pool pool;
    cop_pool_init(&pool, capacity);
    uint32_t root = cop_tree_root(tree, 0), path[DEEPEST], superseded, sum = 0;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint32_t depth = path_of(w, w->requests[i], path);
        cop_match match = cop_tree_match(tree, root, path, depth);
        sum += hits[i] = match.blocks;
        uint32_t node = match.node;
        cop_tree_pin(tree, node);
        for (uint32_t j = match.blocks; j < depth; j++) {
            uint32_t block = free_block(tree, &pool);
            cop_tree_insert(tree, node, path + j, 1, block, 0, 0, &superseded);
            cop_tree_pin(tree, block);
            cop_tree_unpin(tree, node);
            node = block;
        }
        cop_tree_touch(tree, node, 0);
        cop_tree_unpin(tree, node);
    }
    cop_tree_check(tree);
    cop_tree_close(tree);
    cop_pool_fini(&pool);
    return sum;
}

/* Mattson's stack: a block is in every LRU cache larger than its position in the recency list. */
static void stack_positions(const workload *w, uint32_t (*positions)[DEEPEST])
{
    uint32_t stack[PLACES], height = 0, path[DEEPEST];
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint32_t depth = path_of(w, w->requests[i], path);
        for (uint32_t j = 0; j < depth; j++) {
            positions[i][j] = UINT32_MAX;
            for (uint32_t k = 0; k < height; k++)
                if (stack[k] == path[j])
                    positions[i][j] = k;
        }
        for (uint32_t j = depth; j-- > 0;) { /* the root's child is last, so on top */
            uint32_t k = 0;
            while (k < height && stack[k] != path[j])
                k++;
            height += k == height;
            memmove(stack + 1, stack, k * sizeof *stack);
            stack[0] = path[j];
        }
    }
}

static void test_lru_hits_what_the_stack_distances_say(void **state)
{
    static workload w;
    static uint32_t positions[REQUESTS][DEEPEST], hits[REQUESTS];
    draw_workload(&w, seed_of_the_run());
    stack_positions(&w, positions);
    uint32_t previous = 0, rises = 0;
    for (uint32_t capacity = DEEPEST; capacity <= PLACES; capacity += 4) {
        uint32_t sum = serve(&w, "lru", capacity, hits);
        for (uint32_t i = 0; i < REQUESTS; i++) {
            uint32_t expected = 0;
            for (uint32_t j = 0; j < w.depth[w.requests[i]]; j++)
                expected += positions[i][j] < capacity;
            assert_int_equal(hits[i], expected);
        }
        assert_true(sum >= previous);
        rises += sum > previous;
        previous = sum;
    }
    assert_true(rises > 10);
}

/* Belady's choice among paths: the next use of a block is never later than that of its children, so
 * what is used last is a leaf (of equals, the deepest). */
static uint32_t last_to_be_used(const workload *w, const bool *resident, const bool *on_path,
                                const uint32_t *next_use)
{
    uint32_t victim = PLACES;
    for (uint32_t i = 0; i < PLACES; i++) {
        if (!resident[i] || on_path[i])
            continue;
        if (victim == PLACES || next_use[i] > next_use[victim] ||
            (next_use[i] == next_use[victim] && w->depth[i] > w->depth[victim]))
            victim = i;
    }
    return victim;
}

static void next_uses(const workload *w, uint32_t after, uint32_t *next_use)
{
    uint32_t path[DEEPEST];
    for (uint32_t i = 0; i < PLACES; i++)
        next_use[i] = UINT32_MAX;
    for (uint32_t i = REQUESTS; i-- > after + 1;)
        for (uint32_t j = path_of(w, w->requests[i], path); j-- > 0;)
            next_use[path[j]] = i;
}

static uint32_t belady(const workload *w, uint32_t capacity)
{
    bool resident[PLACES] = {0};
    uint32_t path[DEEPEST], next_use[PLACES], sum = 0, used = 0;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        bool on_path[PLACES] = {0};
        next_uses(w, i, next_use);
        uint32_t depth = path_of(w, w->requests[i], path);
        for (uint32_t j = 0; j < depth; j++) {
            on_path[path[j]] = true;
            sum += resident[path[j]];
            used += !resident[path[j]];
            resident[path[j]] = true;
        }
        for (; used > capacity; used--)
            resident[last_to_be_used(w, resident, on_path, next_use)] = false;
    }
    return sum;
}

static void test_no_policy_beats_belady(void **state)
{
    static workload w;
    static uint32_t hits[REQUESTS];
    draw_workload(&w, seed_of_the_run() + 1);
    const cop_evict_ops *policy;
    for (uint32_t capacity = DEEPEST; capacity < PLACES; capacity += 24) {
        uint32_t best = belady(&w, capacity), all = belady(&w, PLACES);
        assert_true(best <= all && (best < all || capacity > PLACES / 2));
        for (size_t i = 0; (policy = cop_evict_at(i)); i++) {
            uint32_t sum = serve(&w, policy->name, capacity, hits);
            assert_true(sum <= best && (sum < best || best == all));
            assert_int_equal(serve(&w, policy->name, PLACES, hits), all);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_victims_are_those_of_the_definition),
        cmocka_unit_test(test_lru_hits_what_the_stack_distances_say),
        cmocka_unit_test(test_no_policy_beats_belady),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
