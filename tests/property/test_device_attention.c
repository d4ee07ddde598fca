/* Attention over paged KV beside a plain softmax in double: random batches, block sizes, chunks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "device/cpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ROUNDS = 1 }; /* ten times as slow */
#else
enum { ROUNDS = 3 };
#endif
enum { SEQUENCES = 3, MAX_CONTEXT = 300, ROWS = 300, LAYER = 1 };

static const uint64_t seed = 77;

static float uniform(cop_rng *rng, double limit)
{
    return (float)((cop_rng_double(rng) * 2 - 1) * limit);
}

static double element(const void *p, size_t i, size_t bytes)
{
    return bytes == 2 ? cop_bf16_to_float(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

static cop_device *open_device(const cop_geometry *g, const char *isa, bool float32,
                               uint32_t block_tokens, uint32_t threads)
{
    cop_device *d;
    cop_error err;
    cop_seeded_weights seeded = {.geometry = g, .seed = 1};
    cop_device_options options = {
        .geometry = g,
        .weights = cop_weights_seeded(&seeded),
        .blocks = SEQUENCES * (MAX_CONTEXT / block_tokens + 1),
        .block_tokens = block_tokens,
        .max_batch_tokens = ROWS,
        .max_sequences = SEQUENCES,
        .threads = threads,
        .float32 = float32,
        .isa = isa,
    };
    cop_status status = cop_device_cpu.open(&d, &options, &err);
    if (status == COP_ERR_UNSUPPORTED) {
        print_message("%s\n", err.text);
        return NULL;
    }
    assert_int_equal(status, COP_OK);
    return d;
}

/* q and every block random; unused tokens of blocks too, so that reading one shows. */
static void fill(cop_device *d, cop_rng *rng)
{
    float row[64];
    const size_t q = (size_t)d->max_rows * d->q_size;
    for (size_t i = 0; i < q; i += 64) {
        for (int j = 0; j < 64; j++)
            row[j] = uniform(rng, 4);
        d->kernels->store_act(row, d->q + i * d->kernels->act_bytes, 64);
    }
    const size_t kv = d->options.blocks * d->block_bytes / d->kernels->panel_bytes;
    for (size_t i = 0; i < kv; i += 64) {
        for (int j = 0; j < 64; j++)
            row[j] = uniform(rng, 1);
        d->kernels->store_kv(row, d->kv + i * d->kernels->panel_bytes, 64);
    }
}

static const char *kv_of(const cop_device *d, const cop_sequence *s, uint32_t token, uint32_t head,
                         int value)
{
    const uint32_t bt = d->options.block_tokens, heads = d->g.kv_heads;
    size_t index = ((size_t)LAYER * 2 + (size_t)value) * heads + head;
    return d->kv + s->blocks[token / bt] * d->block_bytes + index * d->stripe_bytes +
           token % bt * d->g.head_dim * d->kernels->panel_bytes;
}

/* out[head_dim] of one row and one query head; returns the greatest |v|. */
static double plain_attention(const cop_device *d, const cop_sequence *s, uint32_t row,
                              uint32_t position, uint32_t head, double *out)
{
    const uint32_t dim = d->g.head_dim, kv_head = head / d->group;
    const size_t slot = ((size_t)kv_head * d->max_rows + row) * d->group + head % d->group;
    const char *q = d->q + slot * dim * d->kernels->act_bytes;
    double score[MAX_CONTEXT], top = -1e300, total = 0, greatest = 0;
    memset(out, 0, dim * sizeof *out);
    for (uint32_t t = 0; t <= position; t++) {
        const char *k = kv_of(d, s, t, kv_head, 0);
        score[t] = 0;
        for (uint32_t i = 0; i < dim; i++)
            score[t] +=
                element(q, i, d->kernels->act_bytes) * element(k, i, d->kernels->panel_bytes);
        score[t] /= sqrt(dim);
        top = fmax(top, score[t]);
    }
    for (uint32_t t = 0; t <= position; t++)
        total += score[t] = exp(score[t] - top);
    for (uint32_t t = 0; t <= position; t++) {
        const char *v = kv_of(d, s, t, kv_head, 1);
        for (uint32_t i = 0; i < dim; i++) {
            double x = element(v, i, d->kernels->panel_bytes);
            out[i] += score[t] / total * x;
            greatest = fmax(greatest, fabs(x));
        }
    }
    return greatest;
}

/* BF16: probabilities are rounded (relative 2^-9, so 2^-9 of the greatest |v| in all), and so is
 * the result. float32: scores up to 12 rounded at 2^-24, then e^x and the sums. */
static void expect_attention(const cop_device *d)
{
    const size_t act = d->kernels->act_bytes;
    const double unit = d->options.float32 ? 1e-5 : 0x1p-8 + 1e-5;
    double want[128];
    for (uint32_t i = 0; i < d->batch.count; i++) {
        const cop_sequence *s = &d->batch.sequences[i];
        for (uint32_t t = 0; t < s->count; t++)
            for (uint32_t h = 0; h < d->g.q_heads; h++) {
                uint32_t row = d->first_row[i] + t;
                double v = plain_attention(d, s, row, s->start + t, h, want);
                const char *got = d->mixed + ((size_t)row * d->q_size + h * d->g.head_dim) * act;
                for (uint32_t j = 0; j < d->g.head_dim; j++)
                    assert_true(fabs(element(got, j, act) - want[j]) <= unit * v);
            }
    }
}

static void attention_job(void *ctx)
{
    cop_cpu_lay_out(ctx);
    cop_cpu_attention(ctx, LAYER);
}

static void check_batch(cop_device *d, cop_rng *rng)
{
    static uint32_t tokens[ROWS]; /* not looked at */
    uint32_t *blocks = cop_malloc(d->options.blocks * sizeof *blocks);
    const uint32_t each = d->options.blocks / SEQUENCES;
    cop_sequence s[SEQUENCES];
    for (uint32_t i = 0; i < d->options.blocks; i++)
        blocks[i] = d->options.blocks - 1 - i;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        uint32_t count = i == 0 ? 1 : 1 + (uint32_t)cop_rng_below(rng, 100);
        s[i] = (cop_sequence){.tokens = tokens,
                              .count = count,
                              .blocks = blocks + i * each,
                              .start = (uint32_t)cop_rng_below(rng, MAX_CONTEXT - count)};
    }
    d->batch = (cop_batch){SEQUENCES, s};
    cop_pool_start(d->pool, attention_job, d);
    cop_pool_wait(d->pool);
    expect_attention(d);
    free(blocks);
}

static void check_variant(const char *isa, bool float32)
{
    static const uint32_t block_tokens[] = {1, 16, 24, 512};
    cop_geometry g = {.name = "one",
                      .layers = 2,
                      .hidden = 64,
                      .ffn = 64,
                      .q_heads = 6,
                      .kv_heads = 2,
                      .vocab = 64,
                      .max_context = MAX_CONTEXT,
                      .rope_theta = 1e4f};
    print_message("seed %llu\n", (unsigned long long)seed);
    cop_rng rng;
    cop_rng_init(&rng, seed, 0);
    for (g.head_dim = 64; g.head_dim <= 128; g.head_dim += 64)
        for (uint32_t i = 0; i < 4; i++) {
            cop_device *d = open_device(&g, isa, float32, block_tokens[i], 1 + i % 3);
            if (!d)
                skip();
            fill(d, &rng);
            for (int round = 0; round < ROUNDS; round++)
                check_batch(d, &rng);
            cop_device_cpu.close(d);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_avx512bf16_bf16), cmocka_unit_test(test_avx512bf16_float32),
        cmocka_unit_test(test_avx2_bf16),       cmocka_unit_test(test_avx2_float32),
        cmocka_unit_test(test_baseline_bf16),   cmocka_unit_test(test_baseline_float32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
