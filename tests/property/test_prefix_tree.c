/* The prefix tree beside a plain list of (tenant, tokens from the root on), one entry per resident
 * block, every question to which is answered by scanning all of it. Blocks go to the host tier and
 * come back, where there is one.
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

#ifdef __SANITIZE_ADDRESS__
enum { ROUNDS = 1 }; /* ten times as slow */
#else
enum { ROUNDS = 3 };
#endif

enum { DEVICE = 28, HOST = 12, CAPACITY = DEVICE + HOST }; /* ids from DEVICE up: slots */
enum { TENANTS = 3, DEEPEST = 6, LONGEST_BLOCK = 16, OPERATIONS = 200000 };
enum { LONGEST_PATH = (DEEPEST + 1) * LONGEST_BLOCK };

typedef struct {
    bool resident;
    uint64_t tenant, origin;
    uint32_t path[LONGEST_PATH], length; /* tokens from the root up to and with the block */
    uint32_t tokens;                     /* of them in the block */
    uint32_t parent;                     /* block, or the id of the root */
    uint32_t pins, uses;
    int64_t inserted_ns, used_ns;
    uint64_t inserted_seq, used_seq;
} entry;

typedef struct {
    cop_rng rng;
    cop_tree *tree;
    cop_pool pool, slots;
    const char *policy;
    uint64_t next_seq;
    uint32_t places; /* DEVICE + HOST, or DEVICE: no host tier */
    uint32_t block_tokens, roots[TENANTS];
    entry list[CAPACITY]; /* by block */
    int64_t now_ns;
    bool pinning; /* pins pile up, or fall off */
    uint32_t superseded, redundant, evicted, refused, partly_matched; /* that it all happened */
    uint32_t demoted, promoted, taken_over, host_evicted;
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
    while (block < w->places && block != ancestor)
        block = w->list[block].parent;
    return block == ancestor;
}

static bool is_pinned(const world *w, uint32_t block)
{
    for (uint32_t i = 0; i < w->places; i++)
        if (w->list[i].resident && w->list[i].pins > 0 && is_below(w, i, block))
            return true;
    return false;
}

static bool on_host(uint32_t block)
{
    return block >= DEVICE;
}

/* Nothing below it, or on the device nothing but blocks of the host. */
static bool is_end(const world *w, uint32_t block)
{
    for (uint32_t i = 0; i < w->places; i++)
        if (w->list[i].resident && w->list[i].parent == block && on_host(i) == on_host(block))
            return false;
    return true;
}

static bool goes_before(const world *w, const entry *a, const entry *b)
{
    if (strcmp(w->policy, "fifo") == 0)
        return a->inserted_seq < b->inserted_seq;
    if (strcmp(w->policy, "lfu") == 0 && a->uses != b->uses)
        return a->uses < b->uses;
    return a->used_seq < b->used_seq;
}

/* The unpinned end of the tier that the policy ranks lowest, or COP_NO_BLOCK. */
static uint32_t expected_victim(const world *w, cop_tier tier)
{
    uint32_t victim = COP_NO_BLOCK;
    for (uint32_t i = 0; i < w->places; i++)
        if (w->list[i].resident && on_host(i) == (tier == COP_TIER_HOST) && is_end(w, i) &&
            !is_pinned(w, i) &&
            (victim == COP_NO_BLOCK || goes_before(w, &w->list[i], &w->list[victim])))
            victim = i;
    return victim;
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
    uint32_t start = below(w, w->places);
    for (uint32_t i = 0; i < w->places; i++)
        if (w->list[(start + i) % w->places].resident)
            return (start + i) % w->places;
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
    for (uint32_t i = 0; i < w->places; i++) {
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
    if (on_host(block))
        cop_pool_give(&w->slots, block - DEVICE);
    else
        cop_pool_give(&w->pool, block);
}

/* Victim of a tier, or COP_NO_BLOCK, and what is said of it. */
static uint32_t check_victim(world *w, cop_tier tier)
{
    uint32_t expected = expected_victim(w, tier);
    cop_evicted out;
    bool found = cop_tree_victim(w->tree, tier, w->now_ns, &out);
    assert_int_equal(found, expected != COP_NO_BLOCK);
    if (!found)
        return COP_NO_BLOCK;
    assert_int_equal(out.block, expected);
    assert_int_equal(out.tier, tier);
    const entry *e = &w->list[out.block];
    uint64_t hash = hash_of(w, e);
    assert_true(out.hash == hash);
    assert_int_equal(out.depth_tokens, e->length);
    assert_int_equal(out.tokens, e->tokens);
    assert_int_equal(out.uses, e->uses);
    assert_int_equal(out.age_ns, w->now_ns - e->inserted_ns);
    assert_int_equal(out.idle_ns, w->now_ns - e->used_ns);
    return out.block;
}

static void rename_entry(world *w, uint32_t from, uint32_t to)
{
    w->list[to] = w->list[from];
    forget(w, from);
    for (uint32_t i = 0; i < w->places; i++)
        if (w->list[i].resident && w->list[i].parent == from)
            w->list[i].parent = to;
}

/* The device's victim goes to the host if it is full and a slot is free; else for good, if it is a
 * leaf. */
static void check_evict(world *w)
{
    uint32_t unpinned = 0;
    for (uint32_t i = 0; i < DEVICE; i++)
        unpinned += w->list[i].resident && !is_pinned(w, i);
    assert_int_equal(cop_tree_evictable(w->tree), unpinned);
    uint32_t victim = check_victim(w, COP_TIER_DEVICE);
    assert_int_equal(victim != COP_NO_BLOCK, unpinned > 0);
    if (victim == COP_NO_BLOCK) {
        w->refused++;
        return;
    }
    bool leaf = true;
    for (uint32_t i = DEVICE; i < w->places; i++)
        leaf = leaf && !(w->list[i].resident && w->list[i].parent == victim);
    uint32_t slot = is_full(w, victim) && below(w, 4) ? cop_pool_take(&w->slots) : COP_NO_BLOCK;
    if (slot != COP_NO_BLOCK) {
        cop_tree_demote(w->tree, victim, DEVICE + slot);
        rename_entry(w, victim, DEVICE + slot);
        w->demoted++;
    } else if (leaf) {
        uint64_t hash = hash_of(w, &w->list[victim]);
        cop_tree_remove(w->tree, victim);
        assert_int_equal(cop_tree_find(w->tree, hash), COP_NO_BLOCK);
        forget(w, victim);
        w->evicted++;
    }
}

static void check_evict_host(world *w)
{
    uint32_t victim = check_victim(w, COP_TIER_HOST);
    if (victim == COP_NO_BLOCK || below(w, 2))
        return;
    cop_tree_remove(w->tree, victim);
    forget(w, victim);
    w->host_evicted++;
}

/* A block of the host whose parent is on the device comes back, pinned or not. */
static void check_promote(world *w)
{
    uint32_t start = below(w, HOST);
    for (uint32_t i = 0; DEVICE + i < w->places; i++) {
        uint32_t slot = DEVICE + (start + i) % HOST;
        bool below_host = w->list[slot].parent >= DEVICE && w->list[slot].parent < w->places;
        if (!w->list[slot].resident || below_host)
            continue;
        uint32_t block = cop_pool_take(&w->pool);
        if (block == COP_NO_BLOCK)
            return;
        uint64_t origin = cop_rng_u64(&w->rng);
        cop_tree_promote(w->tree, slot, block, origin);
        rename_entry(w, slot, block);
        w->list[block].origin = origin;
        w->promoted++;
        return;
    }
}

/* Tokens for a child of `parent`: a resident child's, cut or whole, continued; or random ones. */
static uint32_t draw_block(world *w, uint32_t parent, uint32_t *tokens)
{
    uint32_t count = below(w, 2) ? w->block_tokens : 1 + below(w, w->block_tokens);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = below(w, 2);
    uint32_t start = below(w, w->places);
    for (uint32_t i = 0; i < w->places; i++) {
        const entry *e = &w->list[(start + i) % w->places];
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
                 .used_ns = w->now_ns,
                 .inserted_seq = w->next_seq,
                 .used_seq = w->next_seq};
    w->next_seq++;
    if (parent < w->places) {
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
    else if (!is_full(w, parent) || on_host(parent) ||
             w->list[parent].length >= DEEPEST * w->block_tokens)
        return;
    else
        tenant = (uint32_t)w->list[parent].tenant;
    uint32_t count = draw_block(w, parent, tokens), covers = 0, covered = COP_NO_BLOCK;
    uint32_t slot = COP_NO_BLOCK; /* of the same full block */
    for (uint32_t i = 0; i < w->places; i++) {
        const entry *e = &w->list[i];
        if (!e->resident || e->parent != parent)
            continue;
        uint32_t same = common(own(e), e->tokens, tokens, count);
        covers += same == count;
        slot = same == w->block_tokens && on_host(i) ? i : slot;
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
    assert_int_equal(node == block, covers == 0 || slot != COP_NO_BLOCK);
    assert_int_equal(superseded, slot != COP_NO_BLOCK ? slot : covered);
    if (slot != COP_NO_BLOCK) {
        rename_entry(w, slot, block);
        w->list[block].origin = origin;
        w->taken_over++;
        return;
    }
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
    for (; block < w->places; block = w->list[block].parent) {
        w->list[block].uses++;
        w->list[block].used_ns = w->now_ns;
        w->list[block].used_seq = w->next_seq++;
    }
}

static void check_what_is_told(world *w)
{
    uint32_t resident[2] = {0}, path[DEEPEST + 1], count;
    for (uint32_t i = 0; i < w->places; i++)
        resident[on_host(i)] += w->list[i].resident;
    assert_int_equal(cop_tree_resident(w->tree), resident[0] + resident[1]);
    assert_int_equal(cop_tree_resident_on(w->tree, COP_TIER_DEVICE), resident[0]);
    assert_int_equal(cop_tree_resident_on(w->tree, COP_TIER_HOST), resident[1]);
    uint32_t block = any_resident(w);
    if (block == COP_NO_BLOCK)
        return;
    uint32_t upper = block;
    while (upper < w->places && on_host(upper))
        upper = w->list[upper].parent;
    assert_int_equal(cop_tree_on_device(w->tree, block), upper);
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

static void open_world(world *w, uint32_t block_tokens, uint32_t host, const char *policy,
                       uint64_t seed)
{
    memset(w, 0, sizeof *w);
    w->block_tokens = block_tokens;
    w->places = DEVICE + host;
    w->policy = policy;
    cop_rng_init(&w->rng, seed, block_tokens);
    cop_pool_init(&w->pool, DEVICE);
    cop_pool_init(&w->slots, host);
    cop_error err;
    cop_tree_options options = {.block_tokens = block_tokens,
                                .capacity_blocks = DEVICE,
                                .host_blocks = host,
                                .eviction = policy};
    assert_int_equal(cop_tree_open(&w->tree, &options, &err), COP_OK);
    for (uint32_t i = 0; i < TENANTS; i++)
        w->roots[i] = cop_tree_root(w->tree, i);
}

static void close_world(world *w)
{
    cop_tree_close(w->tree);
    cop_pool_fini(&w->pool);
    cop_pool_fini(&w->slots);
}

static void operate(world *w)
{
    static void (*const operations[])(world *) = {
        check_match,        check_match,   check_insert,    check_insert, check_insert,
        check_insert,       check_evict,   check_pin,       check_pin,    check_touch,
        check_what_is_told, check_promote, check_evict_host};
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

static void run_beside_the_list(uint32_t block_tokens, uint32_t host)
{
    uint64_t seed = from_environment("COP_SEED", 20240917);
    uint64_t rounds = from_environment("COP_ROUNDS", ROUNDS);
    static world w;
    for (uint64_t round = 0; round < rounds; round++, seed++) {
        const cop_evict_ops *policy = cop_evict_at(seed % 3);
        print_message("block_tokens %u, host %u, seed %llu, %s\n", block_tokens, host,
                      (unsigned long long)seed, policy->name);
        open_world(&w, block_tokens, host, policy->name, seed);
        for (int i = 0; i < OPERATIONS; i++)
            operate(&w);
        print_message("  evicted %u, refused %u, redundant %u, superseded %u, partly matched %u\n",
                      w.evicted, w.refused, w.redundant, w.superseded, w.partly_matched);
        print_message("  demoted %u, promoted %u, taken over %u, evicted from the host %u\n",
                      w.demoted, w.promoted, w.taken_over, w.host_evicted);
        bool tiers =
            w.demoted > 1000 && w.promoted > 500 && w.taken_over > 100 && w.host_evicted > 500;
        assert_true(tiers == (host > 0) && (host > 0 || w.demoted == 0));
        assert_true(w.evicted > 1000 && w.redundant > 1000 && w.refused > 100);
        assert_true(block_tokens == 1 ||
                    (w.superseded > (host ? 30u : 100u) && w.partly_matched > 1000));
        close_world(&w);
    }
}

static void test_block_of_1(void **state)
{
    run_beside_the_list(1, 0);
}

static void test_block_of_2(void **state)
{
    run_beside_the_list(2, 0);
}

static void test_block_of_4(void **state)
{
    run_beside_the_list(4, 0);
}

static void test_block_of_16(void **state)
{
    run_beside_the_list(16, 0);
}

static void test_two_tiers(void **state)
{
    run_beside_the_list(1, HOST);
    run_beside_the_list(4, HOST);
    run_beside_the_list(16, HOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_of_1), cmocka_unit_test(test_block_of_2),
        cmocka_unit_test(test_block_of_4), cmocka_unit_test(test_block_of_16),
        cmocka_unit_test(test_two_tiers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
