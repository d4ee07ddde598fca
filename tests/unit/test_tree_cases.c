#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "core/prefix_tree.h"

#include <string.h>

static cop_tree *open_tree(uint32_t block_tokens, uint32_t capacity_blocks, const char *eviction)
{
    cop_tree *tree = NULL;
    cop_error err;
    cop_tree_options options = {
        .block_tokens = block_tokens, .capacity_blocks = capacity_blocks, .eviction = eviction};
    assert_int_equal(cop_tree_open(&tree, &options, &err), COP_OK);
    return tree;
}

/* Tokens are the characters of a string. Returns their count. */
static uint32_t spell(const char *text, uint32_t tokens[64])
{
    uint32_t count = (uint32_t)strlen(text);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (unsigned char)text[i];
    return count;
}

/* Inserts and expects `node` to stand for the tokens and `superseded` to leave. */
static void insert(cop_tree *tree, uint32_t parent, const char *text, uint32_t block, uint32_t node,
                   uint32_t superseded)
{
    uint32_t tokens[64], gone = 0;
    uint32_t count = spell(text, tokens);
    assert_int_equal(cop_tree_insert(tree, parent, tokens, count, block, 0, 1000, &gone), node);
    assert_int_equal(gone, superseded);
    cop_tree_check(tree);
}

static void enter(cop_tree *tree, uint32_t parent, const char *text, uint32_t block)
{
    insert(tree, parent, text, block, block, COP_NO_BLOCK);
}

static void expect_match(const cop_tree *tree, uint32_t root, const char *text, uint32_t node,
                         uint32_t blocks, uint32_t partial_node, uint32_t partial_tokens)
{
    uint32_t tokens[64];
    cop_match match = cop_tree_match(tree, root, tokens, spell(text, tokens));
    assert_int_equal(match.node, node);
    assert_int_equal(match.blocks, blocks);
    assert_int_equal(match.partial_node, partial_node);
    assert_int_equal(match.partial_tokens, partial_tokens);
}

static void expect_evicted(cop_tree *tree, uint32_t block)
{
    cop_evicted evicted = {0};
    assert_true(cop_tree_evict(tree, 5000, &evicted));
    assert_int_equal(evicted.block, block);
    cop_tree_check(tree);
}

static void test_an_empty_tree_matches_nothing(void **state)
{
    cop_tree *tree = open_tree(4, 8, "lru");
    uint32_t root = cop_tree_root(tree, 7);
    cop_evicted evicted;
    expect_match(tree, root, "abcd", root, 0, COP_NO_BLOCK, 0);
    expect_match(tree, root, "", root, 0, COP_NO_BLOCK, 0);
    assert_false(cop_tree_evict(tree, 0, &evicted));
    assert_int_equal(cop_tree_find(tree, 1), COP_NO_BLOCK);
    cop_tree_check(tree);
    cop_tree_close(tree);
    cop_tree_close(NULL);
}

static void test_a_path_matches_to_the_token(void **state)
{
    cop_tree *tree = open_tree(4, 8, "lru");
    uint32_t root = cop_tree_root(tree, 7);
    enter(tree, root, "abcd", 3);
    enter(tree, 3, "efgh", 1);
    enter(tree, 1, "ij", 5);
    expect_match(tree, root, "abcdefghijkl", 1, 2, 5, 2);
    expect_match(tree, root, "abcdefghi", 1, 2, 5, 1);
    expect_match(tree, root, "abcdefgh", 1, 2, COP_NO_BLOCK, 0);
    expect_match(tree, root, "abcdefg", 3, 1, 1, 3);
    expect_match(tree, root, "abcdefgz", 3, 1, 1, 3);
    expect_match(tree, root, "abcz", root, 0, 3, 3);
    expect_match(tree, root, "zbcd", root, 0, COP_NO_BLOCK, 0);
    uint32_t path[2];
    cop_tree_path(tree, 1, path);
    assert_int_equal(path[0], 3);
    assert_int_equal(path[1], 1);
    assert_int_equal(cop_tree_depth(tree, 5), 3);
    assert_int_equal(cop_tree_parent(tree, 5), 1);
    assert_int_equal(cop_tree_parent(tree, 3), root);
    cop_tree_close(tree);
}

/* Case 1: a resident sibling begins with the new tokens, or equals them. */
static void test_insert_1_what_is_resident_stands(void **state)
{
    cop_tree *tree = open_tree(4, 8, "lru");
    uint32_t root = cop_tree_root(tree, 7);
    enter(tree, root, "abcd", 0);
    enter(tree, root, "abe", 1);
    enter(tree, root, "b", 2);
    insert(tree, root, "abcd", 5, 0, COP_NO_BLOCK);
    insert(tree, root, "abc", 5, 0, COP_NO_BLOCK);
    insert(tree, root, "ab", 5, 0, COP_NO_BLOCK); /* two begin with it: the lower */
    insert(tree, root, "abe", 5, 1, COP_NO_BLOCK);
    insert(tree, root, "b", 5, 2, COP_NO_BLOCK);
    assert_int_equal(cop_tree_resident(tree), 3);
    cop_tree_close(tree);
}

/* Case 2: a partial sibling is a prefix of the new tokens; its place is taken. */
static void test_insert_2_a_partial_prefix_is_superseded(void **state)
{
    cop_tree *tree = open_tree(4, 8, "lru");
    uint32_t root = cop_tree_root(tree, 7);
    enter(tree, root, "a", 0);
    insert(tree, root, "abe", 1, 1, 0);
    enter(tree, root, "abcd", 2);
    enter(tree, root, "b", 3);
    insert(tree, root, "abef", 0, 0, 1);
    insert(tree, root, "bc", 4, 4, 3);
    assert_int_equal(cop_tree_resident(tree), 3);
    expect_match(tree, root, "abef", 0, 1, COP_NO_BLOCK, 0);
    expect_match(tree, root, "bc", root, 0, 4, 2);
    enter(tree, 0, "x", 1); /* a full block may have children, the partial before it could not */
    cop_tree_close(tree);
}

/* Case 3: no sibling is a prefix of the new tokens or begins with them. */
static void test_insert_3_new_children_find_their_place(void **state)
{
    cop_tree *tree = open_tree(4, 32, "lru");
    uint32_t root = cop_tree_root(tree, 7);
    const char *texts[] = {"mm", "ab", "zz", "mn", "ac", "ml", "zy", "b", "y", "c",
                           "x",  "d",  "w",  "e",  "v",  "f",  "u",  "g", "t", "h"};
    for (uint32_t i = 0; i < 20; i++)
        enter(tree, root, texts[i], i);
    for (uint32_t i = 0; i < 20; i++)
        expect_match(tree, root, texts[i], root, 0, i, (uint32_t)strlen(texts[i]));
    /* The most in common may be before the place or after it. */
    expect_match(tree, root, "ma", root, 0, 5, 1);
    expect_match(tree, root, "aca", root, 0, 4, 2);
    expect_match(tree, root, "az", root, 0, 4, 1);
    cop_tree_close(tree);
}

static void test_tokens_compare_as_unsigned(void **state)
{
    cop_tree *tree = open_tree(1, 4, "lru");
    uint32_t root = cop_tree_root(tree, 0), gone;
    uint32_t tokens[] = {UINT32_MAX, 0, 0x80000000u, 0x7fffffffu};
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(cop_tree_insert(tree, root, tokens + i, 1, i, 0, 0, &gone), i);
    cop_tree_check(tree);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(cop_tree_match(tree, root, tokens + i, 1).node, i);
    cop_tree_close(tree);
}

static void test_tenants_never_meet(void **state)
{
    cop_tree *tree = open_tree(4, 64, "lru");
    uint32_t roots[40];
    for (uint32_t i = 0; i < 40; i++) {
        roots[i] = cop_tree_root(tree, 1000 + i);
        assert_int_equal(roots[i], 64 + i);
        expect_match(tree, roots[i], "abcd", roots[i], 0, COP_NO_BLOCK, 0);
        enter(tree, roots[i], "abcd", i);
    }
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(cop_tree_root(tree, 1000 + i), roots[i]);
        expect_match(tree, roots[i], "abcdef", i, 1, COP_NO_BLOCK, 0);
        assert_int_equal(cop_tree_tenant(tree, i), 1000 + i);
        assert_int_equal(cop_tree_tenant(tree, roots[i]), 1000 + i);
        assert_true(cop_tree_hash(tree, roots[i]) == cop_hash_root(1000 + i));
        assert_int_equal(cop_tree_find(tree, cop_tree_hash(tree, i)), i);
    }
    cop_tree_close(tree);
}

static void test_a_root_outlives_its_blocks(void **state)
{
    cop_tree *tree = open_tree(2, 2, "lru");
    uint32_t root = cop_tree_root(tree, 5);
    for (int round = 0; round < 3; round++) {
        enter(tree, root, "ab", 0);
        enter(tree, 0, "cd", 1);
        expect_evicted(tree, 1);
        expect_evicted(tree, 0);
        assert_int_equal(cop_tree_resident(tree), 0);
        assert_int_equal(cop_tree_root(tree, 5), root);
        expect_match(tree, root, "ab", root, 0, COP_NO_BLOCK, 0);
    }
    cop_tree_close(tree);
}

/* XXH3 of 8 bytes under a seed is a bijection of (bytes XOR flip(seed)), with this flip. So, for
 * any two parents, blocks of two tokens with one hash can be computed. */
static uint64_t flip_of(uint64_t seed)
{
    seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
    return (0x1cad21f72c81017cu ^ 0xdb979083e96dd4deu) - seed;
}

static void test_a_hash_collision_across_tenants_proves_no_match(void **state)
{
    cop_tree *tree = open_tree(2, 4, "lru");
    uint32_t mine = cop_tree_root(tree, 1), theirs = cop_tree_root(tree, 2), gone, count;
    uint32_t a[2] = {11, 22}, b[2];
    uint64_t delta = flip_of(cop_hash_root(1)) ^ flip_of(cop_hash_root(2));
    b[0] = a[0] ^ (uint32_t)(delta >> 32);
    b[1] = a[1] ^ (uint32_t)delta;
    uint64_t hash = cop_hash_block(cop_hash_root(1), a, 2);
    assert_true(hash == cop_hash_block(cop_hash_root(2), b, 2));
    assert_memory_not_equal(a, b, sizeof a);

    assert_int_equal(cop_tree_insert(tree, mine, a, 2, 0, 0, 0, &gone), 0);
    assert_int_equal(cop_tree_insert(tree, theirs, b, 2, 1, 0, 0, &gone), 1);
    cop_tree_check(tree);
    assert_int_equal(cop_tree_match(tree, theirs, a, 2).blocks, 0);
    assert_int_equal(cop_tree_match(tree, mine, b, 2).blocks, 0);
    assert_memory_equal(cop_tree_tokens(tree, 1, &count), b, sizeof b);

    /* The first is found by hash; once it is gone nobody is, and a newcomer can be again. */
    assert_int_equal(cop_tree_find(tree, hash), 0);
    expect_evicted(tree, 0);
    assert_int_equal(cop_tree_find(tree, hash), COP_NO_BLOCK);
    assert_int_equal(cop_tree_insert(tree, mine, a, 2, 2, 0, 0, &gone), 2);
    assert_int_equal(cop_tree_find(tree, hash), 2);
    expect_evicted(tree, 1); /* the one that was never found takes no entry with it */
    assert_int_equal(cop_tree_find(tree, hash), 2);
    cop_tree_close(tree);
}

static void test_partial_blocks_have_no_hash(void **state)
{
    cop_tree *tree = open_tree(4, 4, "lru");
    uint32_t root = cop_tree_root(tree, 3);
    enter(tree, root, "abcd", 0);
    enter(tree, 0, "e", 1);
    assert_true(cop_tree_hash(tree, 1) == 0);
    assert_int_equal(cop_tree_find(tree, 0), COP_NO_BLOCK);
    uint32_t tokens[64];
    spell("abcd", tokens);
    assert_true(cop_tree_hash(tree, 0) == cop_hash_block(cop_hash_root(3), tokens, 4));
    cop_tree_close(tree);
}

static void test_pins_hold_the_path_and_nothing_else(void **state)
{
    cop_tree *tree = open_tree(1, 8, "lru");
    uint32_t root = cop_tree_root(tree, 0);
    cop_evicted evicted;
    enter(tree, root, "a", 0);
    enter(tree, 0, "b", 1);
    enter(tree, 1, "c", 2);
    enter(tree, 1, "d", 3);
    cop_tree_pin(tree, 3);
    cop_tree_pin(tree, 1);
    cop_tree_pin(tree, root);
    cop_tree_check(tree);
    assert_int_equal(cop_tree_evictable(tree), 1);
    expect_evicted(tree, 2);
    assert_false(cop_tree_evict(tree, 0, &evicted));
    cop_tree_unpin(tree, 3); /* 1 is pinned on its own, and holds 0 */
    cop_tree_check(tree);
    assert_int_equal(cop_tree_evictable(tree), 1);
    expect_evicted(tree, 3);
    assert_false(cop_tree_evict(tree, 0, &evicted));
    cop_tree_unpin(tree, 1);
    cop_tree_unpin(tree, root);
    assert_int_equal(cop_tree_evictable(tree), 2);
    expect_evicted(tree, 1);
    expect_evicted(tree, 0);
    cop_tree_close(tree);
}

/* A request's pin moves down as its blocks fill. */
static void test_a_pin_moves_along_a_growing_path(void **state)
{
    cop_tree *tree = open_tree(1, 16, "lru");
    uint32_t root = cop_tree_root(tree, 0), at = root;
    cop_tree_pin(tree, root);
    for (uint32_t block = 0; block < 16; block++) {
        enter(tree, at, "x", block);
        cop_tree_pin(tree, block);
        cop_tree_unpin(tree, at);
        cop_tree_check(tree);
        at = block;
        assert_int_equal(cop_tree_evictable(tree), 0);
    }
    cop_tree_unpin(tree, at);
    cop_tree_check(tree);
    assert_int_equal(cop_tree_evictable(tree), 16);
    cop_tree_close(tree);
}

static void test_eviction_order_of_each_policy(void **state)
{
    static const struct {
        const char *policy;
        uint32_t order[4];
    } cases[] = {{"lru", {1, 0, 2, 3}}, {"fifo", {0, 1, 2, 3}}, {"lfu", {3, 0, 1, 2}}};
    for (int i = 0; i < 3; i++) {
        cop_tree *tree = open_tree(1, 4, cases[i].policy);
        uint32_t root = cop_tree_root(tree, 0);
        enter(tree, root, "a", 0);
        enter(tree, root, "b", 1);
        enter(tree, root, "c", 2);
        const uint32_t touched[] = {2, 1, 1, 0, 2};
        for (int j = 0; j < 5; j++) {
            cop_tree_touch(tree, touched[j], 2000);
            cop_tree_check(tree);
        }
        cop_tree_touch(tree, root, 2000);
        enter(tree, root, "d", 3); /* uses now: 1, 2, 2, 0 */
        for (int j = 0; j < 4; j++)
            expect_evicted(tree, cases[i].order[j]);
        cop_tree_close(tree);
    }
}

static void test_what_eviction_tells(void **state)
{
    cop_tree *tree = open_tree(4, 4, "lfu");
    uint32_t root = cop_tree_root(tree, 9), tokens[64], gone;
    uint32_t count = spell("abcd", tokens);
    cop_tree_insert(tree, root, tokens, count, 2, 77, 1000, &gone);
    count = spell("ef", tokens);
    cop_tree_insert(tree, 2, tokens, count, 0, 78, 1500, &gone);
    assert_int_equal(cop_tree_origin(tree, 2), 77);
    assert_int_equal(cop_tree_origin(tree, 0), 78);
    assert_int_equal(cop_tree_origin(tree, root), 0);
    uint64_t hash = cop_tree_hash(tree, 2);
    cop_tree_touch(tree, 2, 3000);
    cop_tree_touch(tree, 2, 4000);
    cop_evicted e;
    assert_true(cop_tree_evict(tree, 6000, &e));
    assert_true(e.hash == 0 && e.block == 0 && e.depth_tokens == 6 && e.tokens == 2);
    assert_true(e.uses == 0 && e.age_ns == 4500 && e.idle_ns == 4500 && e.key == 0);
    assert_true(cop_tree_evict(tree, 7000, &e));
    assert_true(e.hash == hash && e.block == 2 && e.depth_tokens == 4 && e.tokens == 4);
    assert_true(e.uses == 2 && e.age_ns == 6000 && e.idle_ns == 3000 && e.key == 2);
    cop_tree_close(tree);
}

static void test_an_unknown_policy_names_the_nearest(void **state)
{
    cop_tree *tree = NULL;
    cop_error err;
    cop_tree_options options = {.block_tokens = 4, .capacity_blocks = 4, .eviction = "lruu"};
    assert_int_equal(cop_tree_open(&tree, &options, &err), COP_ERR_INVALID);
    assert_null(tree);
    assert_string_equal(
        err.text, "cache.eviction: unknown policy 'lruu'; did you mean 'lru'? (lru, fifo, lfu)");
    options.eviction = "clairvoyant";
    assert_int_equal(cop_tree_open(&tree, &options, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, "cache.eviction: unknown policy 'clairvoyant' (lru, fifo, lfu)");
}

static void test_a_tree_too_large_is_an_error(void **state)
{
    cop_tree *tree = NULL;
    cop_error err;
    cop_tree_options options = {
        .block_tokens = UINT32_MAX, .capacity_blocks = 1u << 30, .eviction = "lru"};
    assert_int_equal(cop_tree_open(&tree, &options, &err), COP_ERR_NO_MEMORY);
    assert_null(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_tree_matches_nothing),
        cmocka_unit_test(test_a_path_matches_to_the_token),
        cmocka_unit_test(test_insert_1_what_is_resident_stands),
        cmocka_unit_test(test_insert_2_a_partial_prefix_is_superseded),
        cmocka_unit_test(test_insert_3_new_children_find_their_place),
        cmocka_unit_test(test_tokens_compare_as_unsigned),
        cmocka_unit_test(test_tenants_never_meet),
        cmocka_unit_test(test_a_root_outlives_its_blocks),
        cmocka_unit_test(test_a_hash_collision_across_tenants_proves_no_match),
        cmocka_unit_test(test_partial_blocks_have_no_hash),
        cmocka_unit_test(test_pins_hold_the_path_and_nothing_else),
        cmocka_unit_test(test_a_pin_moves_along_a_growing_path),
        cmocka_unit_test(test_eviction_order_of_each_policy),
        cmocka_unit_test(test_what_eviction_tells),
        cmocka_unit_test(test_an_unknown_policy_names_the_nearest),
        cmocka_unit_test(test_a_tree_too_large_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
