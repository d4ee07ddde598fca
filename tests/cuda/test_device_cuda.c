/* The CUDA device beside the cpu device in float32, from the same seed. How far they may be
 * apart says device_truth.h. */
#include "device_truth.h"

#include "cuda/plugin.h"
#include "device/cpu.h" /* cop_sample */

#include "../shapes.h"
#include "../typed_weights.h"

/* Llama: neither biases nor norms of q and k, heads of 64 in groups of 4. */
static const cop_geometry shape_llama = {
    .name = "llama",
    .layers = 3,
    .hidden = 256,
    .ffn = 448,
    .q_heads = 4,
    .kv_heads = 1,
    .head_dim = 64,
    .vocab = 320,
    .max_context = 2048,
    .rope_theta = 5e5,
    .rms_epsilon = 1e-5f,
    .rope_scaling = {
        .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_context = 64}};
/* Qwen2: biases, tied. */
static const cop_geometry shape_qwen2 = {.name = "qwen2",
                                         .layers = 2,
                                         .hidden = 192,
                                         .ffn = 256,
                                         .q_heads = 3,
                                         .kv_heads = 1,
                                         .head_dim = 64,
                                         .vocab = 511,
                                         .max_context = 2048,
                                         .rope_theta = 1e6,
                                         .rms_epsilon = 1e-6f,
                                         .qkv_bias = true,
                                         .tied_embeddings = true};

static const cop_geometry *const shapes[] = {&shape_wide, &shape_odd, &shape_llama, &shape_qwen2};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Whole, in chunks around the tile, and token by token (which are decode steps, of growing
 * contexts, most of them graphs). */
static void test_chunks(void **state)
{
    static const struct {
        uint32_t block_tokens, chunk, to;
    } setups[] = {{16, TOKENS, TOKENS}, {16, 64, TOKENS}, {1, 131, TOKENS},
                  {24, 33, TOKENS},     {16, 1, 40},      {512, 100, TOKENS}};
    for (int i = 0; i < SHAPES; i++) {
        truth t;
        make_truth(&t, shapes[i]);
        for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
            char what[64];
            uint32_t blocks[BLOCKS];
            make_table(blocks, k);
            snprintf(what, sizeof what, "blocks of %u, chunks of %u", setups[k].block_tokens,
                     setups[k].chunk);
            cop_device_options options = options_of(&t.weights, setups[k].block_tokens);
            options.blocks = setups[k].block_tokens == 512 ? 8 : BLOCKS;
            for (uint32_t b = 0; b < 8 && options.blocks == 8; b++)
                blocks[b] = 7 - b;
            cop_device *device = open_with(cuda, &options);
            prefill(&t, device, blocks, 0, setups[k].to, setups[k].chunk, what);
            cuda->close(device);
        }
        free_truth(&t);
    }
}

/* The prompt prefills and decodes beside others, which come and go; some do not sample, one draws.
 * Results are in the order of the batch, whatever that of the kernels is. */
static void test_mixed_batches(void **state)
{
    static const uint32_t sizes[] = {33, 1, 64, 1, 1, 5, 45};
    for (int i = 0; i < SHAPES; i++) {
        truth t;
        uint32_t other[TOKENS], blocks[BLOCKS], at = 0;
        make_truth(&t, shapes[i]);
        make_prompt(other, t.g->vocab, 1);
        make_table(blocks, 3);
        double *weights = cop_malloc(t.g->vocab * sizeof *weights);
        const cop_device_options options = options_of(&t.weights, 16);
        cop_device *device = open_with(cuda, &options);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            const uint32_t fresh = (uint32_t)(k % 3) * 60 + 1;
            cop_sequence s[] = {
                part_of(other, 0, fresh, blocks + 100),
                part_of(t.tokens, at, sizes[k], blocks),
                part_of(other, 0, 9, blocks + 200),
                part_of(other + 20, 0, 1, blocks + 300),
            };
            s[0].sample = k % 2;
            s[2].temperature = 1;
            s[2].top_p = 0.9f;
            s[2].sample_seed = k;
            at += sizes[k];
            cop_step_result r = step(cuda, device, s, 4);
            expect_row(&t, &r, 1, k % 2, at - 1, "mixed batch");
            if (k % 2 == 0) {
                assert_int_equal(r.tokens[0], COP_NO_TOKEN);
                assert_int_equal(r.digests[0], 0);
            }
            const float *row = r.logits + (k % 2 + 1) * r.logits_stride;
            assert_int_equal(r.tokens[2], cop_sample(row, t.g->vocab, 1, 0.9f, k, 9, weights));
            row += r.logits_stride;
            assert_int_equal(r.tokens[3], greatest(row, t.g->vocab));
            assert_true(r.digests[3] == cop_hash(row, t.g->vocab * sizeof *row, 0));
        }
        assert_int_equal(at, TOKENS);
        cuda->close(device);
        free(weights);
        free_truth(&t);
    }
}

/* The same decode step launched plainly, captured, and replayed: the same bits; of more and fewer
 * sequences, whose graphs have padding. And steps that decode give what prefilling gives. */
static void test_graphs_replay(void **state)
{
    enum { PREFIX = 70 };
    truth t;
    uint32_t blocks[BLOCKS];
    make_truth(&t, &shape_odd);
    make_table(blocks, 5);
    const cop_device_options options = options_of(&t.weights, 16);
    cop_device *device = open_with(cuda, &options);
    for (uint32_t n = 0; n < MAX_SEQUENCES; n++)
        prefill(&t, device, blocks + 12 * n, 0, PREFIX + n, PREFIX + n, "before graphs");
    const uint32_t stride = (t.g->vocab + 63) / 64 * 64;
    float *first = cop_malloc(MAX_SEQUENCES * stride * sizeof *first);
    for (uint32_t count = MAX_SEQUENCES; count > 0; count--) {
        cop_sequence s[MAX_SEQUENCES];
        for (uint32_t n = 0; n < count; n++)
            s[n] = part_of(t.tokens, PREFIX + n, 1, blocks + 12 * n);
        for (int again = 0; again < 3; again++) {
            cop_step_result r = step(cuda, device, s, count);
            assert_int_equal(r.logits_stride, stride);
            for (uint32_t n = 0; n < count; n++)
                expect_row(&t, &r, n, n, PREFIX + n, "replay");
            if (again == 0)
                memcpy(first, r.logits, count * stride * sizeof *first);
            for (uint32_t n = 0; n < count; n++)
                assert_memory_equal(first + n * stride, r.logits + n * stride,
                                    t.g->vocab * sizeof *first);
        }
    }
    free(first);
    cuda->close(device);
    free_truth(&t);
}

/* deterministic: whatever the chunks, the batch, the cached prefix and the blocks, the same bits.
 * */
static void expect_same(const cop_step_result *r, uint32_t row, const float *want, uint32_t vocab,
                        const char *what)
{
    const float *got = r->logits + row * r->logits_stride;
    for (uint32_t i = 0; i < vocab; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: logit %u is %a, want %a", what, i, got[i], want[i]);
}

static void test_deterministic(void **state)
{
    enum { LENGTH = 140 };
    static const uint32_t chunks[] = {LENGTH, 64, 17, 1};
    for (int i = 0; i < SHAPES; i++) {
        truth t;
        uint32_t blocks[BLOCKS], other[TOKENS];
        make_truth(&t, shapes[i]);
        make_table(blocks, 6);
        make_prompt(other, t.g->vocab, 2);
        cop_device_options options = options_of(&t.weights, 16);
        options.deterministic = true;
        cop_device *device = open_with(cuda, &options);
        float *want = cop_calloc((size_t)LENGTH * t.g->vocab, sizeof *want);
        for (uint32_t p = 100; p < LENGTH; p++) { /* each from nothing */
            cop_sequence s = part_of(t.tokens, 0, p + 1, blocks);
            cop_step_result r = step(cuda, device, &s, 1);
            memcpy(want + (size_t)p * t.g->vocab, r.logits, t.g->vocab * sizeof *want);
            expect_row(&t, &r, 0, 0, p, "deterministic");
        }
        for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++)
            for (uint32_t start = chunks[k] == 1 ? 100 : 0, count; start < LENGTH; start += count) {
                count = LENGTH - start < chunks[k] ? LENGTH - start : chunks[k];
                cop_sequence s[] = {part_of(other, 0, 1 + start % 50, blocks + 50),
                                    part_of(t.tokens, start, count, blocks + 100),
                                    part_of(other, 7, 1, blocks + 50)};
                if (chunks[k] == 1) /* after a prefix that another sequence has computed */
                    s[1].blocks = blocks;
                s[2].start = start % 50 > 7 ? 7 : 0; /* one that decodes, in some of the steps */
                cop_step_result r = step(cuda, device, s, 3);
                if (start + count > 100)
                    expect_same(&r, 1, want + (size_t)(start + count - 1) * t.g->vocab, t.g->vocab,
                                "deterministic");
            }
        for (uint32_t p = 101; p < 106; p++) { /* only decoding: graphs, with padding */
            cop_sequence s[5];
            for (uint32_t n = 0; n < 5; n++)
                s[n] = part_of(t.tokens, p + n, 1, blocks);
            cop_step_result r = step(cuda, device, s, p % 2 ? 5 : 1);
            for (uint32_t n = 0; n < (p % 2 ? 5 : 1); n++)
                expect_same(&r, n, want + (size_t)(p + n) * t.g->vocab, t.g->vocab,
                            "deterministic graph");
        }
        free(want);
        cuda->close(device);
        free_truth(&t);
    }
}

/* BF16 from a file is the same as from the seed; F16 and F32 are rounded as the cpu device does.
 * Two devices are compared, so both may be off. */
static void test_typed_weights(void **state)
{
    const cop_geometry *g = &shape_odd;
    uint32_t tokens[TOKENS], blocks[BLOCKS];
    make_prompt(tokens, g->vocab, 0);
    make_table(blocks, 0);
    const cop_sequence s = part_of(tokens, 0, TOKENS, blocks);
    const cop_seeded_weights weights = {.geometry = g, .seed = SEED};
    for (cop_dtype dtype = COP_BF16; dtype <= COP_F32; dtype++) {
        typed_weights typed;
        typed_open(&typed, g, SEED, dtype);
        cop_device_options options = options_of(&weights, 16);
        cop_device *seeded = open_with(cuda, &options);
        options.weights = typed_source(&typed);
        cop_device *device = open_with(cuda, &options);
        cop_device *cpu = open_with(&cop_device_cpu, &options);
        typed_close(&typed); /* read during open only */
        cop_step_result r = step(cuda, device, &s, 1);
        cop_step_result of_seed = step(cuda, seeded, &s, 1);
        cop_step_result of_cpu = step(&cop_device_cpu, cpu, &s, 1);
        double squares = 0, errors = 0, from_seed = 0;
        for (uint32_t i = 0; i < g->vocab; i++) {
            squares += pow(of_cpu.logits[i], 2);
            errors += pow((double)r.logits[i] - of_cpu.logits[i], 2);
            from_seed += pow((double)r.logits[i] - of_seed.logits[i], 2);
        }
        assert_true(sqrt(errors / squares) <=
                    logit_error(g->layers, ROUNDINGS) + logit_error(g->layers, ROUNDINGS_CPU));
        if (dtype == COP_BF16)
            assert_true(r.digests[0] == of_seed.digests[0]);
        else
            assert_true(from_seed > 0);
        cuda->close(device);
        cuda->close(seeded);
        cop_device_cpu.close(cpu);
    }
}

/* blocks 0: a share of what is free. */
static void test_pool_by_free_memory(void **state)
{
    size_t before, left, all;
    const cop_seeded_weights weights = {.geometry = &shape_wide, .seed = SEED};
    cop_device_options options = options_of(&weights, 512);
    options.blocks = 0;
    options.memory_fraction = 0.01;
    options.host_slots = 0;
    options.logits_digest = false;
    CUDA(cudaMemGetInfo(&before, &all));
    cop_device *device = open_with(cuda, &options);
    CUDA(cudaMemGetInfo(&left, &all));
    const double pool = (double)cuda->blocks(device) * (double)cuda->block_bytes(device);
    assert_true(pool <= 0.01 * (double)before);
    assert_true(pool >= 0.009 * (double)left - (double)cuda->block_bytes(device));
    uint32_t tokens[TOKENS], blocks[] = {cuda->blocks(device) - 1};
    make_prompt(tokens, shape_wide.vocab, 0);
    const cop_sequence s = part_of(tokens, 0, TOKENS, blocks);
    cop_step_result r = step(cuda, device, &s, 1);
    assert_true(r.tokens[0] < shape_wide.vocab);
    assert_null(r.logits);
    assert_int_equal(r.digests[0], 0);
    cuda->close(device);
}

static void test_probes(void **state)
{
    const cop_geometry *g = &shape_odd;
    const cop_seeded_weights weights = {.geometry = g, .seed = SEED};
    const cop_device_options options = options_of(&weights, 16);
    cop_device *device = open_with(cuda, &options);
    cop_probe p;
    cop_error err;
    const double linear = 2.0 * (double)cop_geometry_linear_weights(g) * 100;
    const double pool = (double)cuda->block_bytes(device) * BLOCKS;
    assert_int_equal(cuda->probe(device, COP_PROBE_LINEAR, 100, 0, &p, &err), COP_OK);
    assert_true(p.work == linear && p.ns >= 0);
    assert_int_equal(cuda->probe(device, COP_PROBE_COPY, 1, 0, &p, &err), COP_OK);
    assert_true(p.work == pool);
    assert_int_equal(cuda->probe(device, COP_PROBE_HOST_OUT, 1, 0, &p, &err), COP_OK);
    assert_true(p.work == pool);
    assert_int_equal(cuda->probe(device, COP_PROBE_HOST_IN, 1, 0, &p, &err), COP_OK);
    assert_true(p.work == pool);
    assert_int_equal(cuda->probe(device, COP_PROBE_READ, 1, 0, &p, &err), COP_OK);
    assert_true(p.work >= 2.0 * (double)cop_geometry_linear_weights(g));
    assert_int_equal(cuda->probe(device, COP_PROBE_PREFILL_ATTENTION, 3, 10, &p, &err), COP_OK);
    assert_true(p.work == 4.0 * (11 + 12 + 13) * g->q_heads * g->head_dim * g->layers);
    assert_int_equal(cuda->probe(device, COP_PROBE_DECODE_ATTENTION, 5, 100, &p, &err), COP_OK);
    assert_true(p.work == 5.0 * 100 * (double)cop_geometry_kv_bytes(g, 2));
    assert_int_equal(cuda->probe(device, COP_PROBE_DECODE_ATTENTION, 5, 4097, &p, &err),
                     COP_ERR_INVALID);
    assert_int_equal(cuda->probe(device, COP_PROBE_PEAK_1, 1, 0, &p, &err), COP_ERR_UNSUPPORTED);
    cuda->close(device);
    cop_device_options small = options;
    small.blocks = 1; /* 24 KiB: three matrices of 64 x 64 are 24 KiB as well */
    small.max_batch_tokens = 16;
    device = open_with(cuda, &small);
    assert_int_equal(cuda->probe(device, COP_PROBE_PEAK, 1, 0, &p, &err), COP_OK);
    assert_true(p.work == 2.0 * 64 * 64 * 64);
    cuda->close(device);
}

static void test_refused_options(void **state)
{
    cop_error err;
    cop_device *device = NULL;
    const cop_seeded_weights weights = {.geometry = &shape_wide, .seed = SEED};
    const cop_device_options good = options_of(&weights, 16);
    cop_device_options o = good;
    o.float32 = true;
    assert_int_equal(cuda->open(&device, &o, &err), COP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "device.precision float32"));
    o = good;
    o.int8_weights = true;
    assert_int_equal(cuda->open(&device, &o, &err), COP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "model.weights int8"));
    o = good;
    o.index = 99;
    assert_int_equal(cuda->open(&device, &o, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "device.index 99: this host has "));
    cop_geometry other = shape_wide;
    o = good;
    o.geometry = &other;
    other.head_dim = 96;
    assert_int_equal(cuda->open(&device, &o, &err), COP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "head_dim 64 and 128; 'wide' has 96"));
    other.head_dim = 128;
    other.hidden = 200;
    assert_int_equal(cuda->open(&device, &o, &err), COP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "multiples of 64"));
    o = good;
    o.blocks = 1u << 30;
    assert_int_equal(cuda->open(&device, &o, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "cache.capacity_blocks"));
    assert_null(device);
    cuda->close(NULL);
}

static void test_refused_batches(void **state)
{
    cop_error err;
    const cop_seeded_weights weights = {.geometry = &shape_wide, .seed = SEED};
    cop_device_options options = options_of(&weights, 16);
    options.blocks = 4;
    options.max_batch_tokens = 32;
    options.max_sequences = 2;
    cop_device *device = open_with(cuda, &options);
    assert_int_equal(cuda->blocks(device), 4);
    assert_non_null(strstr(cuda->describe(device), "cuda "));
    assert_non_null(strstr(cuda->describe(device), ", bf16"));
    assert_int_equal(strlen(cuda->identity(device)), 40);
    assert_int_equal(strncmp(cuda->identity(device), "GPU-", 4), 0);
    uint32_t tokens[64] = {0, 1, 512}, blocks[4] = {0, 1, 2, 4};
    cop_sequence s = {.tokens = tokens, .count = 3, .blocks = blocks, .sample = true};
    cop_batch batch = {.count = 1, .sequences = &s};
    assert_int_equal(cuda->submit(device, &batch, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "token 512"));
    tokens[2] = 3;
    s.start = 60;
    assert_int_equal(cuda->submit(device, &batch, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "block 4"));
    s.start = 62;
    assert_int_equal(cuda->submit(device, &batch, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "ends at token 65"));
    s = (cop_sequence){.tokens = tokens, .count = 33, .blocks = blocks};
    assert_int_equal(cuda->submit(device, &batch, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "33 tokens"));
    s.count = 0;
    assert_int_equal(cuda->submit(device, &batch, &err), COP_ERR_INVALID);
    batch.count = 3;
    assert_int_equal(cuda->submit(device, &batch, &err), COP_ERR_INVALID);
    s.count = 5; /* refusals leave the device as it was; close waits for what is in flight */
    batch.count = 1;
    assert_int_equal(cuda->submit(device, &batch, &err), COP_OK);
    cuda->close(device);
}

int main(void)
{
    harness_device_or_skip();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),          cmocka_unit_test(test_mixed_batches),
        cmocka_unit_test(test_graphs_replay),   cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_typed_weights),   cmocka_unit_test(test_pool_by_free_memory),
        cmocka_unit_test(test_probes),          cmocka_unit_test(test_refused_options),
        cmocka_unit_test(test_refused_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
