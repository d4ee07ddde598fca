/* The prefix tree beside a plain list of (tenant, tokens from the root on), one entry per resident
 * block, every question to which is answered by scanning all of it.
 *
 * Random operations over two tokens of an alphabet, so that partial overlaps are dense; the results
 * of each are compared, and the tree's invariants walked after it. COP_SEED=n runs another seed,
 * COP_ROUNDS=n runs n seeds from there on. */
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

enum { CAPACITY = 28, TENANTS = 3, DEEPEST = 6, LONGEST_BLOCK = 16, OPERATIONS = 200000 };
enum { LONGEST_PATH = (DEEPEST + 1) * LONGEST_BLOCK };

typedef struct {
    bool resident;
    uint64_t tenant, origin;
    uint32_t path[LONGEST_PATH], length; /* tokens from the root up to and with the block */
    uint32_t tokens;                     /* of them in the block */
    uint32_t parent;                     /* block, or the id of the root */
    uint32_t pins, uses;
    int64_t inserted_ns, used_ns;
} entry;

typedef struct {
    cop_rng rng;
    cop_tree *tree;
    cop_pool pool;
    uint32_t block_tokens, roots[TENANTS];
    entry list[CAPACITY]; /* by block */
    int64_t now_ns;
    bool pinning; /* pins pile up, or fall off */
    uint32_t superseded, redundant, evicted, refused, partly_matched; /* that it all happened */
} world;

static uint32_t below(world *w, uint32_t n)
{
    return (uint32_t)cop_rng_below(&w->rng, n);
}

static uint32_t common(const uint32_t *a, uint32_t a_count, const uint32_t *b, uint32_t b_count)
{
    uint32_t i = 0;
    while (i < a_count && i < b_count && a[i] == b[i])
        i++;
    return i;
}

/* The tokens of the block alone. */
static const uint32_t *own(const entry *e)
{
    return e->path + e->length - e->tokens;
}

static bool is_full(const world *w, uint32_t block)
{
    return w->list[block].tokens == w->block_tokens;
}

/* A block is below itself. */
static bool is_below(const world *w, uint32_t block, uint32_t ancestor)
{
    while (block < CAPACITY && block != ancestor)
        block = w->list[block].parent;
    return block == ancestor;
}

static bool is_pinned(const world *w, uint32_t block)
{
    for (uint32_t i = 0; i < CAPACITY; i++)
        if (w->list[i].resident && w->list[i].pins > 0 && is_below(w, i, block))
            return true;
    return false;
}

static bool is_leaf(const world *w, uint32_t block)
{
    for (uint32_t i = 0; i < CAPACITY; i++)
        if (w->list[i].resident && w->list[i].parent == block)
            return false;
    return true;
}

static uint64_t hash_of(const world *w, const entry *e)
{
    if (e->tokens < w->block_tokens)
        return 0;
    uint64_t hash = cop_hash_root(e->tenant);
    for (uint32_t i = 0; i < e->length; i += w->block_tokens)
        hash = cop_hash_block(hash, e->path + i, w->block_tokens);
    return hash;
}

/* A resident block, or COP_NO_BLOCK. */
static uint32_t any_resident(world *w)
{
    uint32_t start = below(w, CAPACITY);
    for (uint32_t i = 0; i < CAPACITY; i++)
        if (w->list[(start + i) % CAPACITY].resident)
            return (start + i) % CAPACITY;
    return COP_NO_BLOCK;
}

/* Some of what is resident, cut anywhere, and a random continuation. Returns the count. */
static uint32_t draw_sequence(world *w, uint32_t *tokens, uint32_t most)
{
    uint32_t count = 0, block = any_resident(w), more = below(w, 2 * w->block_tokens + 1);
    if (block != COP_NO_BLOCK && below(w, 8)) {
        const entry *e = &w->list[block];
        count = below(w, 2) ? e->length : below(w, e->length + 1);
        memcpy(tokens, e->path, count * sizeof *tokens);
    }
    for (; more > 0 && count < most; more--)
        tokens[count++] = below(w, 2);
    return count;
}

static void check_match(world *w)
{
    uint32_t tokens[LONGEST_PATH], tenant = below(w, TENANTS), longest = 0;
    uint32_t count = draw_sequence(w, tokens, LONGEST_PATH);
    for (uint32_t i = 0; i < CAPACITY; i++) {
        const entry *e = &w->list[i];
        if (!e->resident || e->tenant != tenant)
            continue;
        uint32_t length = common(e->path, e->length, tokens, count);
        longest = length > longest ? length : longest;
    }
    cop_match match = cop_tree_match(w->tree, w->roots[tenant], tokens, count);
    assert_int_equal(match.blocks * w->block_tokens + match.partial_tokens, longest);
    assert_in_range(match.partial_tokens, 0, w->block_tokens - 1);
    if (match.blocks == 0) {
        assert_int_equal(match.node, w->roots[tenant]);
    } else {
        const entry *e = &w->list[match.node];
        assert_true(e->resident && e->tenant == tenant);
        assert_int_equal(e->length, match.blocks * w->block_tokens);
        assert_memory_equal(e->path, tokens, e->length * sizeof *tokens);
    }
    assert_int_equal(match.partial_node == COP_NO_BLOCK, match.partial_tokens == 0);
    if (match.partial_tokens == 0)
        return;
    const entry *e = &w->list[match.partial_node];
    assert_true(e->resident && e->parent == match.node);
    assert_int_equal(common(e->path, e->length, tokens, count), longest);
    w->partly_matched++;
}

static void forget(world *w, uint32_t block)
{
    w->list[block].resident = false;
    cop_pool_give(&w->pool, block);
}

static void check_evict(world *w)
{
    uint32_t unpinned = 0;
    for (uint32_t i = 0; i < CAPACITY; i++)
        unpinned += w->list[i].resident && !is_pinned(w, i);
    assert_int_equal(cop_tree_evictable(w->tree), unpinned);
    cop_evicted out;
    bool evicted = cop_tree_evict(w->tree, w->now_ns, &out);
    assert_int_equal(evicted, unpinned > 0);
    if (!evicted) {
        w->refused++;
        return;
    }
    assert_in_range(out.block, 0, CAPACITY - 1);
    const entry *e = &w->list[out.block];
    assert_true(e->resident && is_leaf(w, out.block) && !is_pinned(w, out.block));
    uint64_t hash = hash_of(w, e);
    assert_true(out.hash == hash);
    assert_int_equal(out.depth_tokens, e->length);
    assert_int_equal(out.tokens, e->tokens);
    assert_int_equal(out.uses, e->uses);
    assert_int_equal(out.age_ns, w->now_ns - e->inserted_ns);
    assert_int_equal(out.idle_ns, w->now_ns - e->used_ns);
    assert_int_equal(cop_tree_find(w->tree, hash), COP_NO_BLOCK);
    forget(w, out.block);
    w->evicted++;
}

/* Tokens for a child of `parent`: a resident child's, cut or whole, continued; or random ones. */
static uint32_t draw_block(world *w, uint32_t parent, uint32_t *tokens)
{
    uint32_t count = below(w, 2) ? w->block_tokens : 1 + below(w, w->block_tokens);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = below(w, 2);
    uint32_t start = below(w, CAPACITY);
    for (uint32_t i = 0; i < CAPACITY; i++) {
        const entry *e = &w->list[(start + i) % CAPACITY];
        if (!e->resident || e->parent != parent)
            continue;
        uint32_t kept = below(w, 2) ? e->tokens : below(w, e->tokens + 1);
        memcpy(tokens, own(e), (kept < count ? kept : count) * sizeof *tokens);
        break;
    }
    return count;
}

static void write_entry(world *w, uint32_t block, uint32_t parent, uint32_t tenant,
                        const uint32_t *tokens, uint32_t count, uint64_t origin)
{
    entry *e = &w->list[block];
    *e = (entry){.resident = true,
                 .tenant = tenant,
                 .origin = origin,
                 .tokens = count,
                 .parent = parent,
                 .inserted_ns = w->now_ns,
                 .used_ns = w->now_ns};
    if (parent < CAPACITY) {
        e->length = w->list[parent].length;
        memcpy(e->path, w->list[parent].path, e->length * sizeof *tokens);
    }
    memcpy(e->path + e->length, tokens, count * sizeof *tokens);
    e->length += count;
}

static void check_insert(world *w)
{
    uint32_t tenant = below(w, TENANTS), parent = any_resident(w), tokens[LONGEST_BLOCK];
    if (parent == COP_NO_BLOCK || below(w, 3) == 0)
        parent = w->roots[tenant];
    else if (!is_full(w, parent) || w->list[parent].length >= DEEPEST * w->block_tokens)
        return;
    else
        tenant = (uint32_t)w->list[parent].tenant;
    uint32_t count = draw_block(w, parent, tokens), covers = 0, covered = COP_NO_BLOCK;
    for (uint32_t i = 0; i < CAPACITY; i++) {
        const entry *e = &w->list[i];
        if (!e->resident || e->parent != parent)
            continue;
        uint32_t same = common(own(e), e->tokens, tokens, count);
        covers += same == count;
        if (same == e->tokens && same < count) {
            assert_int_equal(covered, COP_NO_BLOCK); /* siblings are no prefixes of each other */
            covered = i;
        }
    }
    if (covered != COP_NO_BLOCK && is_pinned(w, covered))
        return; /* the contract forbids it */
    uint32_t block = cop_pool_take(&w->pool), superseded;
    if (block == COP_NO_BLOCK)
        return;
    uint64_t origin = cop_rng_u64(&w->rng);
    uint32_t node =
        cop_tree_insert(w->tree, parent, tokens, count, block, origin, w->now_ns, &superseded);
    assert_int_equal(node == block, covers == 0);
    assert_int_equal(superseded, covered);
    if (node == block) {
        write_entry(w, block, parent, tenant, tokens, count, origin);
    } else {
        const entry *e = &w->list[node];
        assert_true(e->resident && e->parent == parent && e->tokens >= count);
        assert_memory_equal(own(e), tokens, count * sizeof *tokens);
        cop_pool_give(&w->pool, block);
        w->redundant++;
    }
    if (superseded != COP_NO_BLOCK) {
        forget(w, superseded);
        w->superseded++;
    }
}

static void check_pin(world *w)
{
    uint32_t block = any_resident(w);
    if (block == COP_NO_BLOCK)
        return;
    if (w->list[block].pins > 0 && !(w->pinning && below(w, 8))) {
        cop_tree_unpin(w->tree, block);
        w->list[block].pins--;
    } else if (below(w, w->pinning ? 2 : 20) == 0) {
        for (int times = 1 + (int)below(w, 2); times > 0; times--) {
            cop_tree_pin(w->tree, block);
            w->list[block].pins++;
        }
    }
}

static void check_touch(world *w)
{
    uint32_t block = any_resident(w);
    if (block == COP_NO_BLOCK)
        return;
    cop_tree_touch(w->tree, block, w->now_ns);
    for (; block < CAPACITY; block = w->list[block].parent) {
        w->list[block].uses++;
        w->list[block].used_ns = w->now_ns;
    }
}

static void check_what_is_told(world *w)
{
    uint32_t resident = 0, path[DEEPEST + 1], count;
    for (uint32_t i = 0; i < CAPACITY; i++)
        resident += w->list[i].resident;
    assert_int_equal(cop_tree_resident(w->tree), resident);
    uint32_t block = any_resident(w);
    if (block == COP_NO_BLOCK)
        return;
    const entry *e = &w->list[block];
    uint64_t hash = hash_of(w, e);
    assert_true(cop_tree_hash(w->tree, block) == hash);
    assert_int_equal(cop_tree_find(w->tree, hash), hash ? block : COP_NO_BLOCK);
    assert_int_equal(cop_tree_parent(w->tree, block), e->parent);
    assert_int_equal(cop_tree_tenant(w->tree, block), e->tenant);
    assert_true(cop_tree_origin(w->tree, block) == e->origin);
    assert_memory_equal(cop_tree_tokens(w->tree, block, &count), own(e),
                        e->tokens * sizeof *e->path);
    assert_int_equal(count, e->tokens);
    uint32_t depth = (e->length + w->block_tokens - 1) / w->block_tokens;
    assert_int_equal(cop_tree_depth(w->tree, block), depth);
    cop_tree_path(w->tree, block, path);
    for (; depth > 0; depth--, block = w->list[block].parent)
        assert_int_equal(path[depth - 1], block);
    assert_int_equal(block, w->roots[e->tenant]);
}

static void open_world(world *w, uint32_t block_tokens, const char *policy, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->block_tokens = block_tokens;
    cop_rng_init(&w->rng, seed, block_tokens);
    cop_pool_init(&w->pool, CAPACITY);
    cop_error err;
    cop_tree_options options = {
        .block_tokens = block_tokens, .capacity_blocks = CAPACITY, .eviction = policy};
    assert_int_equal(cop_tree_open(&w->tree, &options, &err), COP_OK);
    for (uint32_t i = 0; i < TENANTS; i++)
        w->roots[i] = cop_tree_root(w->tree, i);
}

static void close_world(world *w)
{
    cop_tree_close(w->tree);
    cop_pool_fini(&w->pool);
}

static void operate(world *w)
{
    static void (*const operations[])(world *) = {
        check_match, check_match, check_insert, check_insert, check_insert,      check_insert,
        check_evict, check_pin,   check_pin,    check_touch,  check_what_is_told};
    w->now_ns += below(w, 100);
    if (below(w, 100) == 0)
        w->pinning = !w->pinning;
    operations[below(w, sizeof operations / sizeof *operations)](w);
    cop_tree_check(w->tree);
    cop_pool_check(&w->pool);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void run_beside_the_list(uint32_t block_tokens)
{
    uint64_t seed = from_environment("COP_SEED", 20240917);
    uint64_t rounds = from_environment("COP_ROUNDS", 3);
    static world w;
    for (uint64_t round = 0; round < rounds; round++, seed++) {
        const cop_evict_ops *policy = cop_evict_at(seed % 3);
        print_message("block_tokens %u, seed %llu, %s\n", block_tokens, (unsigned long long)seed,
                      policy->name);
        open_world(&w, block_tokens, policy->name, seed);
        for (int i = 0; i < OPERATIONS; i++)
            operate(&w);
        print_message("  evicted %u, refused %u, redundant %u, superseded %u, partly matched %u\n",
                      w.evicted, w.refused, w.redundant, w.superseded, w.partly_matched);
        assert_true(w.evicted > 1000 && w.redundant > 1000 && w.refused > 100);
        assert_true(block_tokens == 1 || (w.superseded > 100 && w.partly_matched > 1000));
        close_world(&w);
    }
}

static void test_block_of_1(void **state)
{
    run_beside_the_list(1);
}

static void test_block_of_2(void **state)
{
    run_beside_the_list(2);
}

static void test_block_of_4(void **state)
{
    run_beside_the_list(4);
}

static void test_block_of_16(void **state)
{
    run_beside_the_list(16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_of_1),
        cmocka_unit_test(test_block_of_2),
        cmocka_unit_test(test_block_of_4),
        cmocka_unit_test(test_block_of_16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
