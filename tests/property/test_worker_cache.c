/* The cache of a worker from outside, beside a plain list of the sequences that it has seen: what
 * is cached of a prompt is its longest common prefix with any of them. Requests that end early, that
 * keep out of the cache, cuts by hand, and a copy of everything in a second worker.
 *
 * KV is symbolic: a slot holds a hash of all tokens up to its own, checked in each step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/rng.h"
#include "core/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY = 6000, OPERATIONS = 600, LONGEST = 60, SEQUENCES = 4 * OPERATIONS, TENANTS = 2 };

typedef struct {
    uint64_t tenant;
    uint32_t tokens[3 * LONGEST], count;
} sequence;

typedef struct {
    cop_rng rng;
    uint32_t block_tokens, capacity;
    cop_worker *core;
    cop_worker_actions actions;
    uint64_t *slots; /* [capacity * block_tokens] */
    sequence *seen;  /* [SEQUENCES] */
    uint32_t seen_count, ended_early;
    uint64_t next_id, hits, cuts;
    int64_t now_ns;
    cop_evicted evicted; /* the last one */
} world;

static uint32_t below(world *w, uint32_t n)
{
    return (uint32_t)cop_rng_below(&w->rng, n);
}

static void open_worker(world *w, uint32_t block_tokens, uint32_t capacity, const char *eviction)
{
    cop_error err;
    cop_worker_options options = {.block_tokens = block_tokens,
                                  .capacity_blocks = capacity,
                                  .max_batch = 1,
                                  .chunk_tokens = 7,
                                  .eviction = eviction,
                                  .cache_enabled = true,
                                  .partial_blocks = true};
    w->block_tokens = block_tokens;
    w->capacity = capacity;
    assert_int_equal(cop_worker_open(&w->core, &options, &err), COP_OK);
    w->slots = cop_calloc((size_t)capacity * block_tokens, sizeof *w->slots);
    w->seen = cop_calloc(SEQUENCES, sizeof *w->seen);
}

static void close_worker(world *w)
{
    cop_worker_check(w->core);
    cop_worker_close(w->core);
    cop_worker_actions_fini(&w->actions);
    free(w->slots);
    free(w->seen);
}

static uint64_t *slot(const world *w, const uint32_t *blocks, uint32_t at)
{
    return &w->slots[(size_t)blocks[at / w->block_tokens] * w->block_tokens + at % w->block_tokens];
}

/* The longest common prefix with anything seen. */
static uint32_t expected_match(const world *w, uint64_t tenant, const uint32_t *tokens,
                               uint32_t count)
{
    uint32_t longest = 0;
    for (uint32_t i = 0; i < w->seen_count; i++) {
        const sequence *s = &w->seen[i];
        uint32_t n = 0;
        while (s->tenant == tenant && n < count && n < s->count && s->tokens[n] == tokens[n])
            n++;
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* Some of what was seen, cut anywhere, and a random continuation: 1 .. LONGEST tokens. */
static sequence draw(world *w)
{
    sequence s = {.tenant = below(w, TENANTS)};
    if (w->seen_count && below(w, 8)) {
        const sequence *other = &w->seen[below(w, w->seen_count)];
        s = *other;
        s.count = below(w, 3) ? below(w, other->count + 1) : other->count;
    }
    uint32_t more = below(w, 12);
    while (s.count < LONGEST && (more-- > 0 || s.count == 0))
        s.tokens[s.count++] = below(w, 3);
    s.count = s.count < LONGEST ? s.count : LONGEST;
    return s;
}

static void check_context(const world *w, uint64_t tenant, const cop_step_sequence *step,
                          const uint32_t *tokens)
{
    uint64_t value = cop_hash_root(tenant);
    for (uint32_t p = 0; p < step->start + step->count; p++) {
        value = cop_hash(&tokens[p], sizeof tokens[p], value);
        if (p < step->start)
            assert_int_equal(*slot(w, step->blocks, p), value);
        else
            *slot(w, step->blocks, p) = value;
    }
}

static const cop_request_story *perform(world *w)
{
    const cop_request_story *story = NULL;
    for (size_t i = 0; i < w->actions.count; i++) {
        const cop_worker_action *a = &w->actions.items[i];
        if (a->kind == COP_ACT_COPY)
            memcpy(&w->slots[(size_t)a->copy.dst * w->block_tokens],
                   &w->slots[(size_t)a->copy.src * w->block_tokens],
                   a->copy.tokens * sizeof *w->slots);
        if (a->kind == COP_ACT_FINISHED)
            story = &a->story;
        for (uint32_t k = 0; a->kind == COP_ACT_EVICTED && k < a->blocks.evicted_count; k++)
            w->evicted = a->blocks.evicted[k];
    }
    return story;
}

/* From submission to its last token, which `ends_after` outputs bring on. `s` grows by them. */
static cop_request_story serve(world *w, sequence *s, uint32_t outputs, uint32_t ends_after,
                               bool no_cache)
{
    uint32_t prompt = s->count;
    cop_worker_event event = {.kind = COP_WORKER_SUBMIT, .now_ns = ++w->now_ns};
    event.submit.request = (cop_request){.id = w->next_id++,
                                         .tenant = s->tenant,
                                         .prompt_tokens = prompt,
                                         .output_tokens = outputs,
                                         .tokens = s->tokens};
    event.submit.transfer = COP_NO_TRANSFER;
    event.submit.no_cache = no_cache;
    cop_worker_step(w->core, &event, &w->actions);
    perform(w);
    for (;;) {
        assert_true(w->actions.start_step && w->actions.step_count == 1);
        const cop_step_sequence *step = w->actions.step;
        check_context(w, s->tenant, step, s->tokens);
        uint32_t drawn = (uint32_t)(*slot(w, step->blocks, step->start + step->count - 1) % 3);
        if (step->sample)
            s->tokens[s->count++] = drawn;
        bool ends = step->sample && s->count - prompt == ends_after;
        event = (cop_worker_event){.kind = COP_WORKER_STEP_DONE, .now_ns = ++w->now_ns};
        event.step.tokens = &drawn;
        event.step.ends = ends_after ? &ends : NULL;
        cop_worker_step(w->core, &event, &w->actions);
        const cop_request_story *story = perform(w);
        if (story)
            return *story;
    }
}

static void check_serve(world *w)
{
    sequence s = draw(w);
    uint32_t prompt = s.count, outputs = 1 + below(w, 9);
    uint32_t ends_after = below(w, 2) ? 1 + below(w, outputs) : 0;
    bool no_cache = below(w, 5) == 0;
    uint32_t match = expected_match(w, s.tenant, s.tokens, prompt - 1);
    uint32_t cached = cop_worker_read(w->core).cached_blocks;
    cop_request_story story = serve(w, &s, outputs, ends_after, no_cache);
    assert_int_equal(story.output_tokens, ends_after ? ends_after : outputs);
    assert_int_equal(story.output_tokens, s.count - prompt);
    assert_int_equal(story.hit_local, no_cache ? 0 : match);
    assert_int_equal(story.computed, prompt - story.hit_local);
    w->ended_early += ends_after && ends_after < outputs;
    w->hits += story.hit_local;
    if (no_cache) {
        assert_int_equal(cop_worker_read(w->core).cached_blocks, cached);
        return;
    }
    s.count--; /* the last token was drawn, not computed */
    w->seen[w->seen_count++] = s;
}

static void check_match(world *w)
{
    sequence s = draw(w);
    assert_int_equal(cop_worker_match(w->core, s.tenant, s.tokens, s.count),
                     expected_match(w, s.tenant, s.tokens, s.count));
}

static void check_truncate(world *w)
{
    sequence s = draw(w);
    if (below(w, 40) == 0)
        s.count = 0;
    uint32_t before = cop_worker_read(w->core).cached_blocks;
    uint32_t gone = cop_worker_truncate(w->core, s.tenant, s.tokens, s.count);
    assert_int_equal(cop_worker_read(w->core).cached_blocks, before - gone);
    for (uint32_t i = 0; i < w->seen_count; i++) {
        sequence *other = &w->seen[i];
        if (other->tenant == s.tenant && other->count > s.count &&
            memcmp(other->tokens, s.tokens, s.count * sizeof *s.tokens) == 0) {
            other->count = s.count;
            w->cuts++;
        }
    }
    assert_int_equal(cop_worker_match(w->core, s.tenant, s.tokens, s.count),
                     expected_match(w, s.tenant, s.tokens, s.count));
}

static void copy_worker(const world *from, world *to)
{
    cop_worker_gauges gauges = cop_worker_read(from->core);
    cop_cached_block *blocks = cop_calloc(gauges.cached_blocks + 1, sizeof *blocks);
    uint32_t *ids = cop_calloc(from->capacity, sizeof *ids);
    assert_int_equal(cop_worker_cached(from->core, blocks), gauges.cached_blocks);
    for (uint32_t i = 0; i < gauges.cached_blocks; i++) {
        cop_cached_block *block = &blocks[i];
        block->parent = block->parent == COP_NO_BLOCK ? COP_NO_BLOCK : ids[block->parent];
        uint32_t id = cop_worker_adopt(to->core, block, 1), theirs = block->block;
        assert_int_not_equal(id, COP_NO_BLOCK);
        if (gauges.cached_blocks < to->capacity) /* room for a copy, which is held already */
            assert_int_equal(cop_worker_adopt(to->core, block, 1), COP_NO_BLOCK);
        ids[theirs] = block->block = id;
        memcpy(&to->slots[(size_t)id * to->block_tokens],
               &from->slots[(size_t)theirs * from->block_tokens],
               from->block_tokens * sizeof *to->slots);
    }
    cop_worker_recall(to->core, blocks, gauges.cached_blocks, 1);
    memcpy(to->seen, from->seen, from->seen_count * sizeof *from->seen);
    to->seen_count = from->seen_count;
    cop_worker_check(to->core);
    assert_int_equal(cop_worker_read(to->core).cached_blocks, gauges.cached_blocks);
    free(blocks);
    free(ids);
}

static void run_beside_the_list(uint32_t block_tokens, const char *eviction, uint64_t seed)
{
    static world w, copy;
    memset(&w, 0, sizeof w);
    memset(&copy, 0, sizeof copy);
    printf("block_tokens %u, %s, seed %llu\n", block_tokens, eviction, (unsigned long long)seed);
    cop_rng_init(&w.rng, seed, 0);
    cop_rng_init(&copy.rng, seed, 1);
    open_worker(&w, block_tokens, CAPACITY, eviction);
    open_worker(&copy, block_tokens, CAPACITY, eviction);
    static void (*const operations[])(world *) = {check_serve, check_serve, check_serve,
                                                  check_match, check_match, check_truncate};
    for (int i = 0; i < OPERATIONS; i++) {
        operations[below(&w, 6)](&w);
        if (i % 16 == 0)
            cop_worker_check(w.core);
    }
    copy_worker(&w, &copy);
    for (int i = 0; i < OPERATIONS / 4; i++)
        operations[below(&copy, 6)](&copy);
    printf("  %llu hit tokens (%llu in the copy), %u ended early, %llu sequences cut\n",
           (unsigned long long)w.hits, (unsigned long long)copy.hits, w.ended_early,
           (unsigned long long)w.cuts);
    assert_true(w.hits > 500 && w.ended_early > 20 && w.cuts > 50 && copy.hits > 50);
    close_worker(&w);
    close_worker(&copy);
}

static void test_beside_the_list(void **state)
{
    static const char *const policies[] = {"lru", "fifo", "lfu"};
    static const uint32_t sizes[] = {1, 2, 4, 16};
    for (uint32_t i = 0; i < 12; i++)
        run_beside_the_list(sizes[i % 4], policies[i / 4], 20250301 + i);
}

/* Room for one block more than is free, each time: the victims, one by one, are those of the
 * original. */
static void check_eviction_order(const char *eviction, uint64_t seed)
{
    enum { BLOCKS = 40, BLOCK_TOKENS = 4, OUTPUTS = 1 };
    static world w, copy;
    memset(&w, 0, sizeof w);
    memset(&copy, 0, sizeof copy);
    cop_rng_init(&w.rng, seed, 0);
    open_worker(&w, BLOCK_TOKENS, BLOCKS, eviction);
    open_worker(&copy, BLOCK_TOKENS, BLOCKS, eviction);
    for (int i = 0; i < 60; i++) {
        sequence s = draw(&w);
        serve(&w, &s, OUTPUTS, 0, false);
        w.seen[w.seen_count++] = s;
    }
    copy_worker(&w, &copy);
    uint32_t cached = cop_worker_read(w.core).cached_blocks;
    assert_true(cached > BLOCKS / 2);
    for (; cached > 0; cached--) {
        sequence probe = {.tenant = 5, .count = (BLOCKS - cached + 1) * BLOCK_TOKENS};
        sequence again = probe;
        serve(&w, &probe, OUTPUTS, 0, true);
        serve(&copy, &again, OUTPUTS, 0, true);
        assert_int_equal(cop_worker_read(w.core).cached_blocks, cached - 1);
        assert_int_equal(w.evicted.hash, copy.evicted.hash);
        assert_int_equal(w.evicted.tokens, copy.evicted.tokens);
        assert_int_equal(w.evicted.depth_tokens, copy.evicted.depth_tokens);
    }
    close_worker(&w);
    close_worker(&copy);
}

static void test_eviction_goes_on_as_it_was(void **state)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        check_eviction_order("lru", seed);
        check_eviction_order("fifo", seed);
        check_eviction_order("lfu", seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beside_the_list),
        cmocka_unit_test(test_eviction_goes_on_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
