/* One suite over every instruction set and precision that this machine has: the bits of the logits
 * and of the KV depend on the tokens alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/request.h"
#include "base/rng.h"
#include "device/device.h"

#include "../shapes.h"
#include "../typed_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 150, VOCAB_MAX = 2048, BLOCKS = 400 };

typedef struct {
    const char *isa;
    bool float32, int8;
    const cop_geometry *geometry;
} variant;

static const cop_device_ops *ops;

static cop_device *open_with(const variant *v, cop_weights_source weights, uint32_t threads,
                             uint32_t block_tokens)
{
    cop_device *device;
    cop_error err;
    cop_device_options options = {
        .geometry = v->geometry,
        .weights = weights,
        .blocks = BLOCKS,
        .block_tokens = block_tokens,
        .max_batch_tokens = 512,
        .max_sequences = 8,
        .threads = threads,
        .float32 = v->float32,
        .int8_weights = v->int8,
        .logits_digest = true,
        .isa = v->isa,
    };
    cop_status status = ops->open(&device, &options, &err);
    if (status == COP_ERR_UNSUPPORTED)
        return NULL;
    if (status != COP_OK)
        fail_msg("%s", err.text);
    return device;
}

static cop_device *open_device(const variant *v, uint32_t threads, uint32_t block_tokens)
{
    cop_seeded_weights seeded = {.geometry = v->geometry, .seed = 5};
    return open_with(v, cop_weights_seeded(&seeded), threads, block_tokens);
}

static cop_step_result step(cop_device *device, const cop_sequence *sequences, uint32_t count)
{
    cop_step_result result;
    cop_error err;
    cop_batch batch = {.count = count, .sequences = sequences};
    if (ops->submit(device, &batch, &err) != COP_OK)
        fail_msg("%s", err.text);
    for (bool done = false; !done;) {
        if (ops->poll(device, &result, &done, &err) != COP_OK)
            fail_msg("%s", err.text);
        if (!done)
            cop_sleep_ns(20000);
    }
    assert_true(result.ended_ns >= result.started_ns);
    return result;
}

static void make_prompt(uint32_t *tokens, uint32_t n, uint32_t vocab, uint64_t stream)
{
    cop_rng rng;
    cop_rng_init(&rng, 99, stream);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)cop_rng_below(&rng, vocab);
}

/* A table of blocks in an order of its own. */
static void make_table(uint32_t *blocks, uint64_t stream)
{
    cop_rng rng;
    cop_rng_init(&rng, 7, stream);
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks[i] = i;
    for (uint32_t i = BLOCKS - 1; i > 0; i--) {
        uint32_t j = (uint32_t)cop_rng_below(&rng, i + 1), swap = blocks[i];
        blocks[i] = blocks[j];
        blocks[j] = swap;
    }
}

/* The truth of these tests: every token alone, in order, on one thread. One row for each token. */
typedef struct {
    uint32_t tokens[TOKENS], drawn[TOKENS];
    uint64_t digest[TOKENS];
    float *logits; /* [TOKENS][vocab] */
    char *kv;      /* [layer][k,v][head][token][head_dim] */
    size_t kv_bytes;
} reference;

static size_t stripes_of(const cop_geometry *g)
{
    return (size_t)g->layers * 2 * g->kv_heads;
}

/* KV of a sequence out of its blocks, in the order of tokens: the layout that device.h promises. */
static char *collect_kv(cop_device *device, const variant *v, const uint32_t *blocks,
                        uint32_t block_tokens, uint32_t tokens, size_t *bytes)
{
    const cop_geometry *g = v->geometry;
    size_t token = g->head_dim * (v->float32 ? 4 : 2), stripes = stripes_of(g);
    assert_int_equal(ops->block_bytes(device), stripes * block_tokens * token);
    *bytes = stripes * tokens * token;
    char *out = cop_malloc(*bytes);
    for (size_t s = 0; s < stripes; s++)
        for (uint32_t t = 0; t < tokens; t++) {
            const char *block = ops->block_address(device, blocks[t / block_tokens]);
            memcpy(out + (s * tokens + t) * token,
                   block + (s * block_tokens + t % block_tokens) * token, token);
        }
    return out;
}

static bool make_reference(reference *ref, const variant *v)
{
    const uint32_t vocab = v->geometry->vocab;
    uint32_t blocks[BLOCKS];
    cop_device *device = open_device(v, 1, 16);
    if (!device)
        return false;
    make_prompt(ref->tokens, TOKENS, vocab, 0);
    make_table(blocks, 0);
    ref->logits = cop_malloc(sizeof(float) * TOKENS * vocab);
    for (uint32_t i = 0; i < TOKENS; i++) {
        cop_sequence s = {
            .tokens = &ref->tokens[i], .start = i, .count = 1, .blocks = blocks, .sample = true};
        cop_step_result r = step(device, &s, 1);
        memcpy(ref->logits + (size_t)i * vocab, r.logits, vocab * sizeof(float));
        ref->digest[i] = r.digests[0];
        ref->drawn[i] = r.tokens[0];
        assert_true(ref->digest[i] == cop_hash(r.logits, vocab * sizeof(float), 0));
    }
    ref->kv = collect_kv(device, v, blocks, 16, TOKENS, &ref->kv_bytes);
    ops->close(device);
    return true;
}

static void free_reference(reference *ref)
{
    free(ref->logits);
    free(ref->kv);
}

static void expect_row(const reference *ref, const variant *v, const cop_step_result *r,
                       uint32_t sequence, uint32_t row, uint32_t position, const char *what)
{
    const uint32_t vocab = v->geometry->vocab;
    const float *got = r->logits + row * r->logits_stride;
    const float *want = ref->logits + (size_t)position * vocab;
    if (memcmp(got, want, vocab * sizeof *got) != 0) {
        uint32_t i = 0;
        while (memcmp(&got[i], &want[i], sizeof *got) == 0)
            i++;
        fail_msg("%s %s %s%s: %s: logit %u of position %u is %a, want %a", v->geometry->name,
                 v->isa, v->float32 ? "float32" : "bf16", v->int8 ? " int8" : "", what, i, position,
                 got[i], want[i]);
    }
    assert_true(r->digests[sequence] == ref->digest[position]);
    assert_int_equal(r->tokens[sequence], ref->drawn[position]);
}

static void prefill_in_chunks(cop_device *device, const reference *ref, const variant *v,
                              const uint32_t *blocks, uint32_t from, uint32_t chunk,
                              const char *what)
{
    for (uint32_t start = from; start < TOKENS; start += chunk) {
        uint32_t count = TOKENS - start < chunk ? TOKENS - start : chunk;
        cop_sequence s = {.tokens = ref->tokens + start,
                          .start = start,
                          .count = count,
                          .blocks = blocks,
                          .sample = true};
        cop_step_result r = step(device, &s, 1);
        expect_row(ref, v, &r, 0, 0, start + count - 1, what);
    }
}

static void check_chunks(const reference *ref, const variant *v)
{
    static const struct {
        uint32_t threads, block_tokens, chunks[4];
    } setups[] = {
        {1, 16, {7, 16, 100, TOKENS}}, {2, 1, {7, TOKENS}}, {3, 24, {1, 16, 100}}, {2, 512, {100}}};
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
        const uint32_t block_tokens = setups[i].block_tokens;
        cop_device *device = open_device(v, setups[i].threads, block_tokens);
        for (size_t c = 0; c < 4 && setups[i].chunks[c]; c++) {
            char what[64];
            uint32_t blocks[BLOCKS];
            size_t bytes;
            snprintf(what, sizeof what, "%u threads, blocks of %u, chunks of %u", setups[i].threads,
                     block_tokens, setups[i].chunks[c]);
            make_table(blocks, 100 * i + c);
            prefill_in_chunks(device, ref, v, blocks, 0, setups[i].chunks[c], what);
            char *kv = collect_kv(device, v, blocks, block_tokens, TOKENS, &bytes);
            assert_int_equal(bytes, ref->kv_bytes);
            if (memcmp(kv, ref->kv, bytes) != 0)
                fail_msg("%s: KV differs", what);
            free(kv);
        }
        ops->close(device);
    }
}

/* The prompt decodes and prefills next to others, which come and go; some do not sample. */
static void check_mixed_batches(const reference *ref, const variant *v)
{
    static const uint32_t sizes[] = {1, 33, 1, 64, 5, 1, 45};
    uint32_t other[TOKENS], blocks[BLOCKS], at = 0;
    make_prompt(other, TOKENS, v->geometry->vocab, 1);
    make_table(blocks, 3);
    cop_device *device = open_device(v, 2, 16);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t fresh = (uint32_t)(i % 3) * 60 + 1;
        fresh = fresh > TOKENS ? TOKENS : fresh;
        cop_sequence s[] = {
            {.tokens = other, .count = fresh, .blocks = blocks + 100, .sample = i % 2},
            {.tokens = ref->tokens + at,
             .start = at,
             .count = sizes[i],
             .blocks = blocks,
             .sample = true},
            {.tokens = other + 5,
             .count = 9,
             .blocks = blocks + 200,
             .sample = true,
             .temperature = 1,
             .top_p = 0.9f,
             .sample_seed = i},
        };
        at += sizes[i];
        cop_step_result r = step(device, s, 3);
        expect_row(ref, v, &r, 1, i % 2, at - 1, "mixed batch");
        if (i % 2 == 0) {
            assert_int_equal(r.tokens[0], COP_NO_TOKEN);
            assert_int_equal(r.digests[0], 0);
        }
        assert_true(r.tokens[2] < v->geometry->vocab);
    }
    assert_int_equal(at, TOKENS);
    ops->close(device);
}

/* A prefix of 77 tokens whose last block was copied in part, onto a block full of rubbish. */
static void check_copied_prefix(const reference *ref, const variant *v)
{
    enum { PREFIX = 77, BLOCK = 16 };
    uint32_t blocks[BLOCKS], mine[BLOCKS];
    size_t bytes;
    make_table(blocks, 4);
    memcpy(mine, blocks, sizeof mine);
    cop_device *device = open_device(v, 2, BLOCK);
    prefill_in_chunks(device, ref, v, blocks, 0, 64, "before the copy");
    memcpy(mine + PREFIX / BLOCK, blocks + 300, 50 * sizeof *mine);
    memset(ops->block_address(device, mine[PREFIX / BLOCK]), 0xff, ops->block_bytes(device));
    ops->copy_block(device, blocks[PREFIX / BLOCK], mine[PREFIX / BLOCK], PREFIX % BLOCK);
    char *kv = collect_kv(device, v, mine, BLOCK, PREFIX, &bytes);
    size_t each = bytes / stripes_of(v->geometry);
    for (size_t s = 0; s < stripes_of(v->geometry); s++)
        assert_memory_equal(kv + s * each, ref->kv + s * (each / PREFIX * TOKENS), each);
    free(kv);
    const unsigned char *token = ops->block_address(device, mine[PREFIX / BLOCK]);
    assert_int_equal(token[each / PREFIX * (PREFIX % BLOCK)], 0xff); /* and not a token more */
    prefill_in_chunks(device, ref, v, mine, PREFIX, 40, "after a copied prefix");
    ops->close(device);
}

/* Weights mapped at odd addresses are the same weights. */
static void check_mapped(const reference *ref, const variant *v)
{
    uint32_t blocks[BLOCKS];
    typed_weights mapped;
    make_table(blocks, 5);
    typed_open(&mapped, v->geometry, 5, COP_BF16);
    cop_device *device = open_with(v, typed_source(&mapped), 2, 16);
    typed_close(&mapped); /* read during open only */
    prefill_in_chunks(device, ref, v, blocks, 0, 50, "mapped weights");
    ops->close(device);
}

static void check_variant(const char *isa, bool float32)
{
    const cop_geometry *tiny;
    assert_int_equal(cop_geometry_find("tiny", &tiny, NULL), COP_OK);
    const cop_geometry *geometries[] = {tiny, &shape_wide, &shape_odd, &shape_wide, &shape_odd};
    for (int i = 0; i < 5; i++) {
        variant v = {isa, float32, .int8 = i >= 3, geometries[i]};
        reference ref;
        if (!make_reference(&ref, &v)) {
            print_message("skipped: this machine lacks %s\n", isa);
            skip();
        }
        check_chunks(&ref, &v);
        check_mixed_batches(&ref, &v);
        check_copied_prefix(&ref, &v);
        check_mapped(&ref, &v);
        free_reference(&ref);
    }
}

#define VARIANT(name, isa, float32)       \
    static void test_##name(void **state) \
    {                                     \
        check_variant(isa, float32);      \
    }
VARIANT(avx512bf16_bf16, "avx512bf16", false)
VARIANT(avx512bf16_float32, "avx512bf16", true)
VARIANT(avx2_bf16, "avx2", false)
VARIANT(avx2_float32, "avx2", true)
VARIANT(baseline_bf16, "baseline", false)
VARIANT(baseline_float32, "baseline", true)

static void test_errors_name_what_is_wrong(void **state)
{
    cop_error err;
    cop_device *device = NULL;
    const cop_device_ops *none = NULL;
    assert_int_equal(cop_device_find("cuda", &none, &err), COP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "coppice-cuda.so"));
    assert_int_equal(cop_device_find("cpx", &none, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "'cpu'"));
    assert_null(none);
    const cop_seeded_weights seeded = {.geometry = &shape_wide};
    cop_device_options options = {.geometry = &shape_wide,
                                  .weights = cop_weights_seeded(&seeded),
                                  .blocks = 4,
                                  .block_tokens = 16,
                                  .max_batch_tokens = 32,
                                  .max_sequences = 2,
                                  .threads = 1,
                                  .isa = "avx3"};
    assert_int_equal(ops->open(&device, &options, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "'avx2'"));
    options.isa = "auto";
    cop_geometry other = shape_wide;
    options.geometry = &other;
    other.head_dim = 96;
    assert_int_equal(ops->open(&device, &options, &err), COP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "head_dim 64 and 128; 'wide' has 96"));
    other.head_dim = 128;
    other.hidden = 200;
    assert_int_equal(ops->open(&device, &options, &err), COP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "multiples of 64"));
    options.geometry = &shape_wide;
    assert_int_equal(ops->open(&device, &options, &err), COP_OK);
    uint32_t tokens[64] = {0, 1, 512}, blocks[4] = {0, 1, 2, 4};
    cop_sequence s = {.tokens = tokens, .count = 3, .blocks = blocks, .sample = true};
    cop_batch batch = {.count = 1, .sequences = &s};
    assert_int_equal(ops->submit(device, &batch, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "token 512"));
    tokens[2] = 3;
    s.start = 60;
    assert_int_equal(ops->submit(device, &batch, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "block 4"));
    s.start = 62;
    assert_int_equal(ops->submit(device, &batch, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "ends at token 65"));
    s = (cop_sequence){.tokens = tokens, .count = 33, .blocks = blocks};
    assert_int_equal(ops->submit(device, &batch, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "33 tokens"));
    batch.count = 3;
    assert_int_equal(ops->submit(device, &batch, &err), COP_ERR_INVALID);
    s.count = 1; /* close waits for what is in flight */
    batch.count = 1;
    assert_int_equal(ops->submit(device, &batch, &err), COP_OK);
    ops->close(device);
    ops->close(NULL);
}

static int find_cpu(void **state)
{
    cop_error err;
    return cop_device_find("cpu", &ops, &err) == COP_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_avx512bf16_bf16),
        cmocka_unit_test(test_avx512bf16_float32),
        cmocka_unit_test(test_avx2_bf16),
        cmocka_unit_test(test_avx2_float32),
        cmocka_unit_test(test_baseline_bf16),
        cmocka_unit_test(test_baseline_float32),
        cmocka_unit_test(test_errors_name_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, find_cpu, NULL);
}
