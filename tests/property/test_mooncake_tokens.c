/* Blocks of equal id give equal tokens, blocks of different id different ones: for any scale, two
 * prompts share exactly the tokens of the ids that they begin with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "workload/workload.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 6, TRIALS = 3000, VOCAB = 50000, SURE = 4 };

static const uint64_t seed = 4711;

typedef struct {
    uint64_t ids[2 * BLOCKS];
    cop_mooncake_row rows[2];
    cop_mooncake trace;
} pair;

/* Two prompts with `shared` equal ids in front, then unequal ones. Ids are small or 64-bit. */
static void draw_pair(cop_rng *rng, uint32_t shared, pair *p)
{
    for (uint32_t i = 0; i < 2 * BLOCKS; i++)
        p->ids[i] = (cop_rng_u64(rng) >> cop_rng_below(rng, 60) & ~1u) | (i / BLOCKS);
    memcpy(p->ids + BLOCKS, p->ids, shared * sizeof *p->ids);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t ids = shared + 1 + (uint32_t)cop_rng_below(rng, BLOCKS - shared);
        p->rows[i] = (cop_mooncake_row){.input_length =
                                            (ids - 1) * 512 + 1 + (uint32_t)cop_rng_below(rng, 512),
                                        .first_id = i * BLOCKS,
                                        .id_count = ids};
    }
    p->trace = (cop_mooncake){.rows = p->rows, .ids = p->ids, .row_count = 2};
}

static void check_pair(const pair *p, uint32_t shared, uint32_t scale)
{
    static uint32_t tokens[2][BLOCKS * 512 + 1];
    uint32_t count[2], per_block = 512 / scale, equal = 0;
    for (int i = 0; i < 2; i++) {
        uint32_t length = p->rows[i].input_length, expected = length / scale ? length / scale : 1;
        tokens[i][expected] = UINT32_MAX;
        cop_mooncake_tokens(&p->trace, &p->rows[i], scale, VOCAB, tokens[i], &count[i]);
        assert_int_equal(count[i], expected);
        assert_true(count[i] <= p->rows[i].id_count * per_block);
        assert_int_equal(tokens[i][expected], UINT32_MAX);
        for (uint32_t t = 0; t < count[i]; t++)
            assert_true(tokens[i][t] < VOCAB);
    }
    uint32_t shorter = count[0] < count[1] ? count[0] : count[1];
    while (equal < shorter && tokens[0][equal] == tokens[1][equal])
        equal++;
    uint32_t must = shared * per_block < shorter ? shared * per_block : shorter;
    assert_true(equal >= must);
    assert_true(equal < must + SURE || shorter < must + SURE); /* chance: 1 in 50000^4 */
}

static void test_tokens_are_shared_as_ids_are(void **state)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    cop_rng rng;
    cop_rng_init(&rng, seed, 0);
    for (int i = 0; i < TRIALS; i++) {
        pair p;
        uint32_t shared = (uint32_t)cop_rng_below(&rng, BLOCKS);
        draw_pair(&rng, shared, &p);
        check_pair(&p, shared, 1u << cop_rng_below(&rng, 10));
    }
}

/* A partial last block is the beginning of the whole one, and equal wherever the id stands. */
static void test_a_block_is_the_same_anywhere(void **state)
{
    uint64_t ids[] = {5, 8, 8, 5};
    cop_mooncake_row rows[] = {{.input_length = 1024, .first_id = 0, .id_count = 2},
                               {.input_length = 612, .first_id = 2, .id_count = 2}};
    cop_mooncake trace = {.rows = rows, .ids = ids, .row_count = 2, .id_count = 4};
    uint32_t a[1024], b[612], count;
    cop_mooncake_tokens(&trace, &rows[0], 1, VOCAB, a, &count);
    cop_mooncake_tokens(&trace, &rows[1], 1, VOCAB, b, &count);
    assert_int_equal(count, 612);
    assert_memory_equal(a + 512, b, 512 * sizeof *a);
    assert_memory_equal(a, b + 512, 100 * sizeof *a);
}

static void test_tokens_are_spread_over_the_vocabulary(void **state)
{
    enum { VALUES = 16, DRAWN = 512 * VALUES };
    uint64_t ids[VALUES];
    static uint32_t tokens[DRAWN];
    uint32_t count, seen[VALUES] = {0};
    for (uint64_t i = 0; i < VALUES; i++)
        ids[i] = i;
    cop_mooncake_row row = {.input_length = DRAWN, .id_count = VALUES};
    cop_mooncake trace = {.rows = &row, .ids = ids, .row_count = 1, .id_count = VALUES};
    cop_mooncake_tokens(&trace, &row, 1, VALUES, tokens, &count);
    for (uint32_t i = 0; i < count; i++)
        seen[tokens[i]]++;
    for (int i = 0; i < VALUES; i++) /* five standard deviations, sqrt(512 * 15 / 16) */
        assert_in_range(seen[i], 512 - 5 * 22, 512 + 5 * 22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_are_shared_as_ids_are),
        cmocka_unit_test(test_a_block_is_the_same_anywhere),
        cmocka_unit_test(test_tokens_are_spread_over_the_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
