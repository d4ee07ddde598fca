/* The public library on a small preset: what it counts, what it refuses, when it stops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coppice.h"

#include <math.h>
#include <string.h>

enum { TOKENS = 200 };

static cop_model *model;
static cop_error err;
static uint32_t prompt[TOKENS];

static int open_model(void **state)
{
    for (uint32_t i = 0; i < TOKENS; i++)
        prompt[i] = (i * 131 + 7) % 2048;
    return cop_model_open(&model, &(cop_model_options){.preset = "tiny", .seed = 3, .threads = 1},
                          &err) != COP_OK;
}

static int close_model(void **state)
{
    cop_model_close(model);
    return 0;
}

static cop_cache *open_cache(uint32_t capacity_tokens, uint32_t block_tokens)
{
    cop_cache *cache;
    cop_cache_options options = {
        .capacity_tokens = capacity_tokens, .block_tokens = block_tokens, .chunk_tokens = 64};
    assert_int_equal(cop_cache_open(&cache, model, &options, &err), COP_OK);
    return cache;
}

static cop_cache_stats stats_of(const cop_cache *cache)
{
    cop_cache_stats stats;
    cop_cache_read(cache, &stats);
    return stats;
}

/* ---- options ---- */

static void refuse_model(cop_model_options options, const char *text)
{
    cop_model *none = NULL;
    assert_int_equal(cop_model_open(&none, &options, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, text));
    assert_null(none);
    assert_int_equal(cop_model_open(&none, &options, NULL), COP_ERR_INVALID);
    assert_int_equal(cop_model_open(&none, NULL, NULL), COP_ERR_INVALID);
}

static void test_model_options(void **state)
{
    refuse_model((cop_model_options){0}, "neither a path (a checkpoint folder) nor a preset");
    refuse_model((cop_model_options){.preset = "tinny"}, "did you mean 'tiny'?");
    refuse_model((cop_model_options){.preset = "tiny", .precision = "float23"},
                 "unknown precision 'float23'; did you mean 'float32'?");
    refuse_model((cop_model_options){.preset = "tiny", .weights = "int9"},
                 "unknown weights 'int9'; did you mean 'int8'?");
    refuse_model((cop_model_options){.preset = "tiny", .threads = 5000}, "5000 threads");
    cop_model_close(NULL);
}

static void refuse_cache(cop_cache_options options, const char *text)
{
    cop_cache *none = NULL;
    assert_int_equal(cop_cache_open(&none, model, &options, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, text));
    assert_null(none);
}

static void test_cache_options(void **state)
{
    refuse_cache((cop_cache_options){.eviction = "lruu"}, "did you mean 'lru'?");
    refuse_cache((cop_cache_options){.block_tokens = 513}, "block_tokens 513");
    refuse_cache((cop_cache_options){.chunk_tokens = UINT32_MAX}, "chunk_tokens 4294967295");
    refuse_cache((cop_cache_options){.capacity_tokens = UINT32_MAX, .block_tokens = 1},
                 "4294967295 blocks");
    cop_cache_close(NULL);
}

static void test_describe(void **state)
{
    cop_model_info info;
    cop_cache_close(open_cache(64, 16));
    cop_model_describe(model, &info);
    assert_string_equal(info.name, "tiny");
    assert_null(info.family);
    assert_non_null(strstr(info.device, "1 thread, bf16"));
    assert_int_equal(info.layers, 4);
    assert_int_equal(info.hidden, 256);
    assert_int_equal(info.vocab, 2048);
    assert_int_equal(info.max_context, 32768);
    assert_int_equal(info.kv_bytes_per_token, 2 * 4 * 2 * 64 * 2);
    assert_false(info.has_tokenizer);
}

static void test_no_text_without_a_tokenizer(void **state)
{
    uint32_t tokens[4];
    char text[4];
    size_t n = 77;
    const char *turn = "hello";
    assert_int_equal(cop_tokenize(model, "hello", 5, 0, tokens, 4, &n, &err), COP_ERR_UNSUPPORTED);
    assert_string_equal(err.text, "tiny has no tokenizer.json: it knows tokens only");
    assert_int_equal(cop_tokenize_chat(model, NULL, &turn, 1, tokens, 4, &n, &err),
                     COP_ERR_UNSUPPORTED);
    assert_int_equal(cop_detokenize(model, prompt, 3, text, 4, &n, &err), COP_ERR_UNSUPPORTED);
    assert_int_equal(n, 77);
}

/* ---- the cache ---- */

static void test_insert_matches_to_the_token(void **state)
{
    static const size_t counts[] = {1, 2, 15, 16, 17, 64, 65, 199};
    size_t computed, known = 0;
    cop_cache *cache = open_cache(512, 16);
    assert_int_equal(cop_cache_match(cache, prompt, TOKENS), 0);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        size_t n = counts[i];
        assert_int_equal(cop_cache_insert(cache, prompt, n, &computed, &err), COP_OK);
        assert_int_equal(computed, n - known);
        assert_int_equal(cop_cache_match(cache, prompt, TOKENS), n);
        assert_int_equal(cop_cache_match(cache, prompt, n - 1), n - 1);
        assert_int_equal(cop_cache_insert(cache, prompt, n, &computed, &err), COP_OK);
        assert_int_equal(computed, 1);
        known = n;
    }
    cop_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.block_tokens, 16);
    assert_int_equal(stats.capacity_blocks, 32);
    assert_int_equal(stats.block_bytes, 16 * 2 * 4 * 2 * 64 * 2);
    assert_int_equal(stats.cached_blocks, 13); /* of 199 tokens */
    assert_int_equal(stats.used_blocks, 13);
    assert_int_equal(stats.prompts, 16);
    assert_int_equal(stats.prompt_tokens, 2 * (1 + 2 + 15 + 16 + 17 + 64 + 65 + 199));
    assert_int_equal(stats.computed_tokens, 199 + 8);
    assert_int_equal(stats.hit_tokens, stats.prompt_tokens - stats.computed_tokens);
    assert_int_equal(stats.evicted_blocks, 0);
    cop_cache_close(cache);
}

static void test_truncate_keeps_the_prefix(void **state)
{
    cop_cache *cache = open_cache(1024, 16);
    uint32_t other[TOKENS];
    memcpy(other, prompt, sizeof other);
    other[40] = 2000; /* another continuation of the first 40 */
    for (size_t cut = 0; cut <= 100; cut += 7) {
        assert_int_equal(cop_cache_insert(cache, prompt, 100, NULL, &err), COP_OK);
        assert_int_equal(cop_cache_insert(cache, other, 60, NULL, &err), COP_OK);
        cop_cache_truncate(cache, prompt, cut);
        assert_int_equal(cop_cache_match(cache, prompt, TOKENS), cut);
        assert_int_equal(cop_cache_match(cache, other, TOKENS), cut > 40 ? 60 : cut);
    }
    cop_cache_truncate(cache, other, TOKENS + 1000000); /* longer than anything cached */
    assert_int_equal(cop_cache_match(cache, other, TOKENS), 60);
    cop_cache_truncate(cache, NULL, 0);
    assert_int_equal(stats_of(cache).cached_blocks, 0);
    cop_cache_close(cache);
}

static void test_evicts_what_is_unused_longest(void **state)
{
    cop_cache *cache = open_cache(64, 16);
    uint32_t other[64];
    for (uint32_t i = 0; i < 64; i++)
        other[i] = 1000 + i;
    assert_int_equal(cop_cache_insert(cache, prompt, 32, NULL, &err), COP_OK);
    assert_int_equal(cop_cache_insert(cache, other, 32, NULL, &err), COP_OK);
    assert_int_equal(cop_cache_insert(cache, prompt, 48, NULL, &err), COP_OK);
    assert_int_equal(cop_cache_match(cache, prompt, TOKENS), 48);
    assert_int_equal(cop_cache_match(cache, other, 64), 16);
    assert_int_equal(stats_of(cache).evicted_blocks, 1);
    cop_cache_close(cache);
}

/* ---- generation ---- */

typedef struct {
    uint32_t tokens[64], count, most;
    cop_cache *cache; /* to be used from inside; NULL: left alone */
} listener;

static bool listen(void *ctx, uint32_t token, const char *text, size_t bytes)
{
    listener *l = ctx;
    assert_string_equal(text, "");
    assert_int_equal(bytes, 0);
    l->tokens[l->count++] = token;
    if (l->cache) {
        size_t before = cop_cache_match(l->cache, prompt, TOKENS);
        cop_cache_truncate(l->cache, NULL, 0);
        assert_int_equal(cop_cache_match(l->cache, prompt, TOKENS), before);
        assert_int_equal(cop_cache_insert(l->cache, prompt, 9, NULL, &err), COP_ERR_INVALID);
        assert_non_null(strstr(err.text, "in use by a generation"));
        assert_int_equal(cop_cache_save(l->cache, "/dev/null/x", &err), COP_ERR_INVALID);
        assert_int_equal(cop_cache_load(l->cache, "/dev/null/x", &err), COP_ERR_IO);
    }
    return l->count < l->most;
}

static cop_generate_result generate(cop_cache *cache, cop_generate_options options, listener *l)
{
    cop_generate_result result;
    l->most = l->most ? l->most : 64;
    assert_int_equal(cop_generate(cache, &options, listen, l, &result, &err), COP_OK);
    assert_int_equal(result.prompt_tokens, options.count);
    assert_int_equal(result.cached_tokens + result.computed_tokens, options.count);
    assert_int_equal(result.new_tokens, l->count);
    assert_true(result.ttft_ns > 0 && result.total_ns >= result.ttft_ns);
    return result;
}

static void test_an_answer_extends_the_cache(void **state)
{
    cop_cache *cache = open_cache(512, 16);
    cop_generate_options options = {.tokens = prompt, .count = 100, .max_new_tokens = 30};
    listener first = {.cache = cache}, second = {0}, next = {0};
    cop_generate_result cold = generate(cache, options, &first);
    assert_int_equal(cold.cached_tokens, 0);
    assert_int_equal(cold.new_tokens, 30);
    assert_false(cold.stopped);
    cop_generate_result hit = generate(cache, options, &second);
    assert_int_equal(hit.cached_tokens, 99);
    assert_true(hit.logits_hash == cold.logits_hash && hit.logits_hash != 0);
    assert_memory_equal(first.tokens, second.tokens, sizeof first.tokens);

    /* The next turn: the conversation so far, whose last token was drawn but not computed. */
    uint32_t turn[140];
    memcpy(turn, prompt, 100 * sizeof *turn);
    memcpy(turn + 100, first.tokens, 30 * sizeof *turn);
    memcpy(turn + 130, prompt, 10 * sizeof *turn);
    options.tokens = turn;
    options.count = 140;
    assert_int_equal(generate(cache, options, &next).cached_tokens, 129);
    cop_cache_close(cache);
}

static void test_stops(void **state)
{
    cop_cache *cache = open_cache(512, 16);
    cop_generate_options options = {
        .tokens = prompt, .count = 50, .max_new_tokens = 20, .temperature = 2, .seed = 1};
    listener all = {0}, until = {0}, on = {0}, three = {.most = 3};
    generate(cache, options, &all);
    uint32_t stops[] = {5000, all.tokens[9]}, expected = 1;
    while (all.tokens[expected - 1] != stops[1])
        expected++;
    options.stops = stops;
    options.stop_count = 2;
    cop_generate_result result = generate(cache, options, &until);
    assert_true(result.stopped);
    assert_int_equal(result.new_tokens, expected);
    assert_memory_equal(all.tokens, until.tokens, expected * sizeof *all.tokens);

    options.ignore_stops = true;
    result = generate(cache, options, &on);
    assert_false(result.stopped);
    assert_memory_equal(all.tokens, on.tokens, sizeof all.tokens);

    /* The callback ends it: what was computed by then stays, and the cache goes on. */
    cop_cache_truncate(cache, NULL, 0);
    result = generate(cache, options, &three);
    assert_true(result.stopped);
    assert_int_equal(result.new_tokens, 3);
    assert_int_equal(stats_of(cache).used_blocks, 4); /* of 52 tokens */
    uint32_t path[53];
    memcpy(path, prompt, 50 * sizeof *path);
    memcpy(path + 50, three.tokens, 3 * sizeof *path);
    assert_int_equal(cop_cache_match(cache, path, 53), 52);
    cop_cache_close(cache);
}

static void test_no_cache_leaves_no_trace(void **state)
{
    cop_cache *cache = open_cache(512, 16);
    cop_generate_options options = {
        .tokens = prompt, .count = 100, .max_new_tokens = 5, .no_cache = true};
    listener a = {0}, b = {0}, c = {0};
    cop_generate_result cold = generate(cache, options, &a);
    assert_int_equal(stats_of(cache).used_blocks, 0);
    assert_int_equal(cop_cache_insert(cache, prompt, 100, NULL, &err), COP_OK);
    cop_generate_result again = generate(cache, options, &b);
    assert_int_equal(again.cached_tokens, 0);
    assert_int_equal(stats_of(cache).cached_blocks, 7);
    options.no_cache = false;
    cop_generate_result hit = generate(cache, options, &c);
    assert_int_equal(hit.cached_tokens, 99);
    assert_true(cold.logits_hash == again.logits_hash && again.logits_hash == hit.logits_hash);
    cop_cache_close(cache);
}

static void test_draws_depend_on_the_seed(void **state)
{
    cop_cache *cache = open_cache(512, 16);
    cop_generate_options options = {.tokens = prompt,
                                    .count = 40,
                                    .max_new_tokens = 12,
                                    .temperature = 1,
                                    .top_p = 0.9f,
                                    .seed = 1};
    listener a = {0}, b = {0}, c = {0};
    generate(cache, options, &a);
    generate(cache, options, &b);
    options.seed = 2;
    generate(cache, options, &c);
    assert_memory_equal(a.tokens, b.tokens, sizeof a.tokens);
    assert_memory_not_equal(a.tokens, c.tokens, sizeof a.tokens);
    cop_cache_close(cache);
}

static void refuse(cop_cache *cache, cop_generate_options options, const char *text)
{
    cop_generate_result result = {.new_tokens = 77};
    uint64_t prompts = stats_of(cache).prompts;
    assert_int_equal(cop_generate(cache, &options, NULL, NULL, &result, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, text));
    assert_int_equal(result.new_tokens, 77);
    assert_int_equal(stats_of(cache).prompts, prompts);
}

static void test_refused_prompts(void **state)
{
    cop_cache *cache = open_cache(100, 16); /* 112 in whole blocks */
    cop_generate_options good = {.tokens = prompt, .count = 100, .max_new_tokens = 13}, bad = good;
    uint32_t unknown[] = {1, 2, 2048};
    bad.count = 0;
    refuse(cache, bad, "an empty prompt");
    bad = good;
    bad.tokens = NULL;
    refuse(cache, bad, "an empty prompt");
    bad = good;
    bad.max_new_tokens = 0;
    refuse(cache, bad, "max_new_tokens is 0");
    bad = good;
    bad.max_new_tokens = 14;
    refuse(cache, bad, "100 tokens and 14 new ones");
    assert_non_null(strstr(err.text, "this cache holds 112 tokens"));
    bad.max_new_tokens = UINT32_MAX;
    refuse(cache, bad, "this cache holds 112 tokens");
    bad = good;
    bad.count = SIZE_MAX;
    refuse(cache, bad, "this cache holds 112 tokens");
    bad = good;
    bad.tokens = unknown;
    bad.count = 3;
    refuse(cache, bad, "token 2 of the prompt is 2048; the vocabulary of tiny ends at 2047");
    bad = good;
    bad.temperature = NAN;
    refuse(cache, bad, "temperature");
    bad.temperature = -1;
    refuse(cache, bad, "temperature -1");
    bad = good;
    bad.top_p = 1.5f;
    refuse(cache, bad, "top_p 1.5");
    assert_int_equal(cop_generate(cache, &good, NULL, NULL, NULL, NULL), COP_OK);
    cop_cache_close(cache);

    cache = open_cache(40000, 16);
    bad = good;
    bad.max_new_tokens = 32768 - 100 + 2;
    refuse(cache, bad, "the model's context holds 32768 tokens");
    cop_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_options),
        cmocka_unit_test(test_cache_options),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_no_text_without_a_tokenizer),
        cmocka_unit_test(test_insert_matches_to_the_token),
        cmocka_unit_test(test_truncate_keeps_the_prefix),
        cmocka_unit_test(test_evicts_what_is_unused_longest),
        cmocka_unit_test(test_an_answer_extends_the_cache),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_no_cache_leaves_no_trace),
        cmocka_unit_test(test_draws_depend_on_the_seed),
        cmocka_unit_test(test_refused_prompts),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
