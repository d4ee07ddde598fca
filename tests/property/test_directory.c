#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "core/directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The directory beside a table of booleans [block][worker] that always tells the truth. Blocks form
 * chains that share prefixes: block b of chain c is block b of chain c/2 for b below 8, and so on,
 * as prompts do. */
enum { CHAINS = 16, LENGTH = 24, BLOCKS = CHAINS * LENGTH, MOST_WORKERS = 130 };

typedef struct {
    cop_rng rng;
    cop_directory dir;
    uint32_t workers;
    bool remember;
    bool held[BLOCKS][MOST_WORKERS], known[BLOCKS];
    uint32_t uses[BLOCKS];
} model;

static uint32_t block_of(uint32_t chain, uint32_t depth)
{
    for (uint32_t shared = LENGTH; shared > depth && chain > 0; shared -= 8)
        chain /= 2;
    return chain * LENGTH + depth;
}

/* 0 is among them, which the table stores as 1. */
static uint64_t hash_of(uint32_t block)
{
    return block % 3 ? cop_splitmix64(block) : block;
}

static uint32_t draw(model *m, uint32_t n)
{
    return (uint32_t)cop_rng_below(&m->rng, n);
}

static uint32_t draw_chain(model *m, uint64_t *hashes, uint32_t *blocks)
{
    uint32_t chain = draw(m, CHAINS), count = draw(m, LENGTH + 1);
    for (uint32_t i = 0; i < count; i++) {
        blocks[i] = block_of(chain, i);
        hashes[i] = hash_of(blocks[i]);
    }
    return count;
}

/* Events may be late and out of order: any subset, shuffled, with repeats. */
static uint32_t draw_report(model *m, uint64_t *hashes, uint32_t *blocks)
{
    uint32_t count = draw_chain(m, hashes, blocks);
    if (count > 0 && draw(m, 2)) {
        for (uint32_t i = 0; i < count; i++)
            blocks[i] = draw(m, 4) ? blocks[draw(m, count)] : draw(m, BLOCKS);
        for (uint32_t i = 0; i < count; i++)
            hashes[i] = hash_of(blocks[i]);
    }
    return count;
}

static uint32_t match_by_hand(const model *m, const uint32_t *blocks, uint32_t count, uint32_t w)
{
    uint32_t k = 0;
    while (k < count && m->held[blocks[k]][w])
        k++;
    return k;
}

static void compare_matches(model *m, const uint32_t *holders, const uint32_t *blocks,
                            uint32_t count)
{
    uint32_t matched[MOST_WORKERS];
    cop_directory_match(&m->dir, holders, count, matched);
    for (uint32_t w = 0; w < m->workers; w++)
        assert_int_equal(matched[w], match_by_hand(m, blocks, count, w));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sum = 0;
        for (uint32_t w = 0; w < m->workers; w++) {
            assert_int_equal(cop_holders_has(&m->dir.holders, holders[i], w),
                             m->held[blocks[i]][w]);
            sum += m->held[blocks[i]][w];
        }
        assert_int_equal(cop_holders_count(&m->dir.holders, holders[i]), sum);
    }
}

static void ask(model *m)
{
    uint64_t hashes[LENGTH];
    uint32_t blocks[LENGTH], holders[LENGTH], count = draw_chain(m, hashes, blocks), known = 0;
    while (known < count && m->known[blocks[known]])
        known++;
    if (m->remember) {
        assert_int_equal(cop_directory_ask(&m->dir, hashes, count, holders), known);
        for (uint32_t i = 0; i < count; i++) {
            m->known[blocks[i]] = true;
            assert_int_equal(cop_directory_uses(&m->dir, hashes[i]), ++m->uses[blocks[i]]);
        }
    } else {
        cop_directory_look(&m->dir, hashes, count, holders);
    }
    compare_matches(m, holders, blocks, count);
}

static void report(model *m)
{
    uint64_t hashes[LENGTH];
    uint32_t blocks[LENGTH], worker = draw(m, m->workers);
    uint32_t count = draw_report(m, hashes, blocks);
    bool inserted = draw(m, 5) < 3;
    if (inserted)
        cop_directory_insert(&m->dir, worker, hashes, count);
    else
        cop_directory_remove(&m->dir, worker, hashes, count);
    for (uint32_t i = 0; i < count; i++) {
        m->held[blocks[i]][worker] = inserted;
        m->known[blocks[i]] |= inserted;
    }
}

static void against_truth(uint64_t seed, uint32_t workers, bool remember)
{
    print_message("seed %llu, %u workers, %s\n", (unsigned long long)seed, workers,
                  remember ? "remember" : "erase");
    model *m = calloc(1, sizeof *m);
    m->workers = workers;
    m->remember = remember;
    cop_rng_init(&m->rng, seed, 0);
    cop_directory_init(&m->dir, workers, remember);
    for (int round = 0; round < 6000; round++) {
        if (draw(m, 3))
            report(m);
        else
            ask(m);
        if (round % 64 == 0)
            cop_directory_check(&m->dir);
    }
    cop_directory_check(&m->dir);
    size_t expected = 0;
    for (uint32_t b = 0; b < BLOCKS; b++) {
        bool any = m->known[b] && remember;
        for (uint32_t w = 0; w < workers; w++)
            any |= m->held[b][w];
        expected += any;
    }
    assert_int_equal(m->dir.count, expected);
    cop_directory_fini(&m->dir);
    free(m);
}

static void test_directory_tells_the_truth(void **state)
{
    const uint32_t workers[] = {1, 2, 7, 64, 65, 130};
    for (uint64_t seed = 0; seed < 12; seed++)
        against_truth(seed, workers[seed % 6], seed / 6);
}

/* All sets gone, all rows must be free again, and equal sets must have had one word. */
static void test_sets_are_shared_and_freed(void **state)
{
    enum { N = 500, WORKERS = 300 };
    cop_directory dir;
    cop_directory_init(&dir, WORKERS, false);
    uint64_t hashes[N];
    uint32_t holders[N];
    for (uint32_t i = 0; i < N; i++)
        hashes[i] = cop_splitmix64(i);
    for (uint32_t w = 0; w < WORKERS; w += 3)
        cop_directory_insert(&dir, w, hashes, N);
    cop_directory_look(&dir, hashes, N, holders);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(holders[i], holders[0]);
    assert_int_equal(cop_holders_count(&dir.holders, holders[0]), WORKERS / 3);
    assert_true(dir.holders.count <= 3);
    for (uint32_t w = 0; w < WORKERS; w++)
        cop_directory_remove(&dir, w, hashes, N);
    assert_int_equal(dir.count, 0);
    assert_int_equal(dir.holders.index.count, 0);
    cop_directory_check(&dir);
    cop_directory_fini(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directory_tells_the_truth),
        cmocka_unit_test(test_sets_are_shared_and_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
