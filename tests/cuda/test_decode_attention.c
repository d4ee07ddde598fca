/* Attention of single tokens over paged KV, beside float64. What lies in the pool outside of the
 * contexts and of the layer is NaN, and so are scratch and output before a launch.
 *
 * The bound of an output. Weights w_i = p_i (1 + e_i), p_i the true probabilities, move the mean
 *
 *     out = sum p_i v_i   by   sum p_i e_i (v_i - out) / (1 + sum p_i e_i),
 *
 * since sum p_i (v_i - out) = 0. With u = 2^-24, |e_i| is at most
 *
 *     2^-8      p_i is rounded to BF16, for the sum of weights too
 *     ln 2 * scale * (dim * 2 u * sum |q k| + 4 u |s_i|)
 *               the score in powers of 2: dim additions in the tensor core, which may cut where
 *               others round (2 u each), and the products with the scale
 *     rescales * (4 u + ln 2 * 2 u * greatest |s|)
 *               2^x to 2 ulp, x a rounded difference: once for the weight itself, then at each new
 *               maximum of its warp, once where warps meet and once where parts do.
 *
 * The sums over keys, of values and of weights, round or cut once a key and once a rescale: 2 * 2 u
 * sum p_i |v_i| each. Weights below 2^-126 of the greatest are lost. Last, the rounding to BF16. */
#include "harness.h"

#include <float.h>

enum { ROUND = 64, MAX_SEQUENCES = 8, MAX_CONTEXT = 700 }; /* ROUND: keys of a block at a time */

typedef struct {
    cop_cuda_shape shape;
    test_batch batch;
    test_room room;
    uint32_t layer, first, sequences, splits; /* those of the launch */
    uint16_t *pool, *q;                       /* in host memory */
    uint16_t *device_q, *device_out;
    size_t out_elements;
    cop_rng *rng;
} decode_case;

static cop_cuda_shape shape_of(uint32_t kv_heads, uint32_t group, uint32_t head_dim,
                               uint32_t block_tokens)
{
    return (cop_cuda_shape){.layers = 2,
                            .vocab = 10,
                            .q_heads = kv_heads * group,
                            .kv_heads = kv_heads,
                            .head_dim = head_dim,
                            .block_tokens = block_tokens};
}

/* Keys and values of all contexts; a query of `spread` gives scores of about that size. */
static void fill_pool(decode_case *c, uint32_t blocks, double spread)
{
    const cop_cuda_shape *s = &c->shape;
    c->pool = harness_host(pool_elements(s, blocks) * sizeof *c->pool);
    for (uint32_t i = 0; i < c->batch.sequences; i++) {
        const cop_cuda_sequence *sequence = &c->batch.host.sequence[i];
        uint32_t context = sequence->count ? sequence->start + sequence->count : 0;
        for (uint32_t p = 0; p < context; p++)
            for (uint32_t part = 0; part < 2 * s->kv_heads; part++) {
                uint32_t slot = slot_of(s, &c->batch, i, p), value = part / s->kv_heads;
                uint16_t *row = c->pool + pool_index(s, slot, c->layer, value, part % s->kv_heads);
                for (uint32_t d = 0; d < s->head_dim; d++)
                    row[d] = bf16_of((float)cop_rng_normal(c->rng));
            }
    }
    for (uint32_t i = 0; i < c->batch.rows * s->q_heads * s->head_dim; i++)
        c->q[i] = bf16_of((float)(spread * cop_rng_normal(c->rng)));
}

/* A case with data, ready for launch(). */
static decode_case make_case(cop_cuda_shape shape, const test_sequence *sequences, uint32_t count,
                             double spread, cop_rng *rng)
{
    decode_case c = {.shape = shape, .layer = 1, .sequences = count, .splits = 1, .rng = rng};
    uint32_t blocks = 3, rows = 2;
    for (uint32_t i = 0; i < count; i++) {
        blocks += (sequences[i].start + sequences[i].count) / shape.block_tokens + 1;
        rows += sequences[i].count;
    }
    c.room = (test_room){rows, count + 2, 1, blocks};
    c.batch = make_batch(&c.shape, sequences, count, c.room, rng);
    c.out_elements = (size_t)rows * shape.q_heads * shape.head_dim;
    c.q = harness_host(c.out_elements * sizeof *c.q);
    fill_pool(&c, blocks, spread);
    c.shape.pool = device_upload(c.pool, pool_elements(&shape, blocks) * sizeof *c.pool);
    c.device_q = device_upload(c.q, c.out_elements * sizeof *c.q);
    return c;
}

/* Scratch and output are poisoned anew. */
static uint16_t *launch(decode_case *c)
{
    float *partial = device_alloc(cop_cuda_decode_scratch(&c->shape, c->sequences, c->splits));
    c->device_out = device_alloc(c->out_elements * sizeof *c->device_out);
    CUDA(cop_cuda_decode_attention(&c->shape, &c->batch.device, c->first, c->sequences, c->splits,
                                   c->layer, c->device_q, c->device_out, partial,
                                   harness_stream()));
    return device_download(c->device_out, c->out_elements * sizeof *c->device_out);
}

/* ---- float64 ---- */

typedef struct {
    double score[MAX_CONTEXT],
        error[MAX_CONTEXT]; /* in powers of 2; |e_i| of the head of this file */
    double greatest;        /* |score| */
} scores;

static const uint16_t *key_of(const decode_case *c, uint32_t sequence, uint32_t position,
                              uint32_t part, uint32_t kv_head)
{
    return c->pool + pool_index(&c->shape, slot_of(&c->shape, &c->batch, sequence, position),
                                c->layer, part, kv_head);
}

/* Softmax of one head: score becomes the probability. */
static scores probabilities(const decode_case *c, uint32_t sequence, uint32_t context,
                            const uint16_t *q, uint32_t kv_head)
{
    scores s = {.greatest = 0};
    const uint32_t dim = c->shape.head_dim;
    const double scale = 1 / (sqrt(dim) * log(2)), u = unit_float;
    double max = -INFINITY, sum = 0;
    for (uint32_t p = 0; p < context; p++) {
        const uint16_t *k = key_of(c, sequence, p, 0, kv_head);
        double product = 0, size = 0;
        for (uint32_t d = 0; d < dim; d++) {
            double term = bf16_value(q[d]) * bf16_value(k[d]);
            product += term;
            size += fabs(term);
        }
        s.score[p] = product * scale;
        s.error[p] = log(2) * (scale * dim * 2 * u * size + 4 * u * fabs(s.score[p]));
        s.greatest = fmax(s.greatest, fabs(s.score[p]));
        max = fmax(max, s.score[p]);
    }
    const double rescales = context / ROUND + 4;
    for (uint32_t p = 0; p < context; p++) {
        s.score[p] = exp2(s.score[p] - max);
        sum += s.score[p];
        s.error[p] += unit_bf16 + rescales * (4 * u + log(2) * 2 * u * s.greatest);
        s.error[p] *= 1 + unit_bf16; /* products of the above */
    }
    for (uint32_t p = 0; p < context; p++)
        s.score[p] /= sum;
    return s;
}

static void expect_head(const decode_case *c, uint32_t sequence, uint32_t context, uint32_t head,
                        const uint16_t *got)
{
    const uint32_t dim = c->shape.head_dim;
    const uint32_t kv_head = head / (c->shape.q_heads / c->shape.kv_heads);
    const size_t row = (size_t)c->batch.host.sequence[sequence].first_row * c->shape.q_heads + head;
    const scores s = probabilities(c, sequence, context, c->q + row * dim, kv_head);
    const double additions = context + context / ROUND + 4;
    for (uint32_t d = 0; d < dim; d++) {
        double want = 0, size = 0, error = 0, shift = 0, lost = 0;
        for (uint32_t p = 0; p < context; p++) {
            double v = bf16_value(key_of(c, sequence, p, 1, kv_head)[d]);
            want += s.score[p] * v;
            size += s.score[p] * fabs(v);
            lost += 0x1p-126 * fabs(v);
        }
        for (uint32_t p = 0; p < context; p++) {
            double v = bf16_value(key_of(c, sequence, p, 1, kv_head)[d]);
            error += s.score[p] * s.error[p] * fabs(v - want);
            shift += s.score[p] * s.error[p];
        }
        error = error / (1 - shift) + 4 * additions * unit_float * size + lost;
        expect_near(bf16_value(got[row * dim + d]), want, error + bf16_half_ulp(fabs(want) + error),
                    "attention", row, d);
    }
}

/* All rows: those of single tokens of the launch are right, the others untouched. */
static void expect_right(const decode_case *c, const uint16_t *got)
{
    const size_t row = (size_t)c->shape.q_heads * c->shape.head_dim;
    uint32_t rows = 0;
    for (uint32_t i = 0; i < c->batch.sequences; i++) {
        const cop_cuda_sequence *s = &c->batch.host.sequence[i];
        bool mine = i >= c->first && i < c->first + c->sequences && s->count == 1;
        for (uint32_t head = 0; mine && head < c->shape.q_heads; head++)
            expect_head(c, i, s->start + 1, head, got);
        if (!mine)
            expect_poison(got + rows * row, s->count * row * sizeof *got, "row of another");
        rows += s->count;
    }
    expect_poison(got + rows * row, (c->room.rows - rows) * row * sizeof *got, "padding");
}

/* ---- tests ---- */

/* Contexts at the edges of tiles, rounds and blocks, for each number of splits. */
static void test_edges(void **state)
{
    static const uint32_t contexts[] = {1,  2,  15,  16,  17,  31,  32,  33,  63,
                                        64, 65, 127, 128, 129, 255, 257, 512, 641};
    static const uint32_t splits[] = {1, 2, 4, 8};
    cop_rng rng = harness_rng(1);
    for (uint32_t i = 0; i < sizeof contexts / sizeof *contexts; i += 3) {
        test_sequence sequences[3];
        for (uint32_t j = 0; j < 3; j++)
            sequences[j] = (test_sequence){.start = contexts[i + j] - 1, .count = 1};
        for (uint32_t dim = 64; dim <= 128; dim *= 2) {
            decode_case c = make_case(shape_of(1, 3, dim, 16), sequences, 3, 2, &rng);
            for (int j = 0; j < 4; j++) {
                c.splits = splits[j];
                expect_right(&c, launch(&c));
            }
            device_free_all();
        }
    }
}

/* Single tokens, prompts and padding in any order; the launch covers some of them. */
static void check_random(cop_rng *rng)
{
    static const uint32_t groups[] = {1, 2, 3, 4, 5, 7, 8, 9, 14, 16, 17, 33};
    static const uint32_t tokens[] = {16, 16, 16, 1, 3, 8, 24, 32, 100};
    test_sequence sequences[MAX_SEQUENCES] = {0};
    const uint32_t count = between(rng, 1, MAX_SEQUENCES);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t kind = between(rng, 0, 5); /* 0: padding, 1: a prompt */
        sequences[i].start = between(rng, 0, between(rng, 0, 2) ? 40 : 350);
        sequences[i].count = kind == 0 ? 0 : kind == 1 ? between(rng, 2, 4) : 1;
    }
    cop_cuda_shape shape = shape_of(between(rng, 1, 3), groups[between(rng, 0, 11)],
                                    between(rng, 0, 1) ? 64 : 128, tokens[between(rng, 0, 8)]);
    decode_case c = make_case(shape, sequences, count, exp(uniform(rng, 3)), rng);
    c.first = between(rng, 0, count - 1);
    c.sequences = between(rng, 0, count - c.first);
    c.splits = between(rng, 0, 3) ? 1u << between(rng, 0, 3) : between(rng, 1, 9);
    expect_right(&c, launch(&c));
    device_free_all();
}

static void test_random_batches(void **state)
{
    cop_rng rng = harness_rng(2);
    for (int i = 0; i < 150; i++)
        check_random(&rng);
}

/* Weights add up to exactly 1: values that are all the same come back as they are. */
static void test_equal_values_come_back(void **state)
{
    cop_rng rng = harness_rng(3);
    for (uint32_t splits = 1; splits <= 8; splits *= 2) {
        const test_sequence sequence = {.start = 400, .count = 1};
        decode_case c = make_case(shape_of(2, 4, 128, 16), &sequence, 1, 3, &rng);
        for (uint32_t p = 0; p <= 400; p++)
            for (uint32_t head = 0; head < 2; head++)
                memcpy((uint16_t *)key_of(&c, 0, p, 1, head), key_of(&c, 0, 0, 1, head),
                       128 * sizeof *c.pool);
        c.shape.pool =
            device_upload(c.pool, pool_elements(&c.shape, c.room.pool_blocks) * sizeof *c.pool);
        c.splits = splits;
        const uint16_t *got = launch(&c);
        for (uint32_t head = 0; head < 8; head++)
            expect_bits(got + head * 128, key_of(&c, 0, 0, 1, head / 4), 128 * sizeof *got,
                        sizeof *got, "value");
        device_free_all();
    }
}

/* The bits of a row depend on its query, its context and the splits alone: not on its neighbours,
 * on where its blocks lie, or on what the rest of its last block holds. */
static void test_rows_do_not_depend_on_their_batch(void **state)
{
    cop_rng rng = harness_rng(4);
    for (int i = 0; i < 4; i++) {
        const uint32_t dim = i % 2 ? 64 : 128, kept = between(&rng, 0, 2), position = 333;
        test_sequence sequences[4] = {{.start = 5}, {.start = 90}, {.start = 600}, {.start = 1}};
        for (int j = 0; j < 4; j++)
            sequences[j].count = 1;
        sequences[kept].start = position;
        decode_case many = make_case(shape_of(2, 4, dim, 16), sequences, 4, 1, &rng);
        decode_case one = make_case(shape_of(2, 4, dim, 16), &sequences[kept], 1, 1, &rng);
        for (uint32_t p = 0; p <= position; p++)
            for (uint32_t part = 0; part < 4; part++)
                memcpy((uint16_t *)key_of(&one, 0, p, part / 2, part % 2),
                       key_of(&many, kept, p, part / 2, part % 2), dim * sizeof *one.pool);
        one.shape.pool = device_upload(one.pool, pool_elements(&one.shape, one.room.pool_blocks) *
                                                     sizeof *one.pool);
        const size_t row = 8 * dim * sizeof *one.q;
        one.device_q = device_upload(many.q + kept * 8 * dim, row);
        many.splits = one.splits = 1u << i;
        const uint16_t *among = launch(&many), *alone = launch(&one);
        expect_bits(alone, among + kept * 8 * dim, row, sizeof *alone, "row");
        device_free_all();
    }
}

/* What a step copies before it launches its graph. */
static void refill(decode_case *c, const decode_case *from)
{
    const cop_cuda_batch *to = &c->batch.device, *host = &from->batch.host;
    CUDA(cudaMemcpyAsync((void *)to->counts, host->counts, 3 * sizeof *host->counts,
                         cudaMemcpyHostToDevice, harness_stream()));
    CUDA(cudaMemcpyAsync((void *)to->sequence, host->sequence,
                         from->room.sequences * sizeof *host->sequence, cudaMemcpyHostToDevice,
                         harness_stream()));
    CUDA(cudaMemcpyAsync((void *)to->blocks, host->blocks,
                         from->room.pool_blocks * sizeof *host->blocks, cudaMemcpyHostToDevice,
                         harness_stream()));
    CUDA(cudaMemcpyAsync(c->shape.pool, from->pool,
                         pool_elements(&c->shape, from->room.pool_blocks) * sizeof *from->pool,
                         cudaMemcpyHostToDevice, harness_stream()));
    CUDA(cudaMemcpyAsync(c->device_q, from->q, from->out_elements * sizeof *from->q,
                         cudaMemcpyHostToDevice, harness_stream()));
    CUDA(cudaMemsetAsync(c->device_out, POISON, c->out_elements * sizeof *c->device_out,
                         harness_stream()));
}

/* A graph is captured for a batch and then serves others, shorter and with other contexts. */
static void test_graph_serves_changed_contexts(void **state)
{
    cop_rng rng = harness_rng(5);
    const test_sequence first[5] = {{.start = 300, .count = 1},
                                    {.start = 200, .count = 1},
                                    {.start = 100, .count = 1},
                                    {.start = 30, .count = 1},
                                    {.start = 0, .count = 1}};
    const test_sequence others[2][5] = {{{.start = 9, .count = 1},
                                         {.count = 0},
                                         {.start = 250, .count = 1},
                                         {.start = 16, .count = 1}},
                                        {{.start = 310, .count = 1}}};
    decode_case c = make_case(shape_of(2, 4, 128, 16), first, 5, 1, &rng);
    c.splits = 4;
    const uint16_t *got = launch(&c); /* and device_out, which the graph writes to */
    expect_right(&c, got);
    float *partial = device_alloc(cop_cuda_decode_scratch(&c.shape, 5, 4));
    cudaGraph_t graph;
    cudaGraphExec_t run;
    CUDA(cudaStreamBeginCapture(harness_stream(), cudaStreamCaptureModeThreadLocal));
    CUDA(cop_cuda_decode_attention(&c.shape, &c.batch.device, 0, 5, 4, c.layer, c.device_q,
                                   c.device_out, partial, harness_stream()));
    CUDA(cudaStreamEndCapture(harness_stream(), &graph));
    CUDA(cudaGraphInstantiate(&run, graph, 0));
    for (int i = 0; i < 2; i++) {
        decode_case other = make_case(c.shape, others[i], i == 0 ? 4 : 1, 1, &rng);
        other.sequences = 5;
        refill(&c, &other);
        CUDA(cudaGraphLaunch(run, harness_stream()));
        expect_right(&other, device_download(c.device_out, other.out_elements * sizeof *got));
    }
    CUDA(cudaGraphExecDestroy(run));
    CUDA(cudaGraphDestroy(graph));
    device_free_all();
}

static void test_splits(void **state)
{
    cop_rng rng = harness_rng(6);
    for (int i = 0; i < 2000; i++) {
        cop_cuda_shape shape = shape_of(between(&rng, 1, 16), between(&rng, 1, 40), 128, 16);
        uint32_t sequences = between(&rng, 1, 300), context = between(&rng, 1, 200000);
        uint32_t processors = between(&rng, 1, 200);
        uint32_t splits = cop_cuda_decode_splits(&shape, sequences, context, processors);
        uint32_t twice = cop_cuda_decode_splits(&shape, 2 * sequences, context, processors);
        assert_true(splits >= 1 && (splits & (splits - 1)) == 0);
        assert_true(splits == 1 || context / splits >= 256);
        assert_true(twice <= splits);
    }
    cop_cuda_shape llama = shape_of(8, 4, 128, 16);
    assert_int_equal(cop_cuda_decode_splits(&llama, 32, 8192, 132), 4);  /* 1,024 blocks */
    assert_int_equal(cop_cuda_decode_splits(&llama, 256, 8192, 132), 1); /* 2,048 */
    assert_int_equal(cop_cuda_decode_splits(&llama, 1, 8192, 132), 32);  /* 256 keys each */
    assert_int_equal(cop_cuda_decode_splits(&llama, 1, 511, 132), 1);
}

static void test_bad_arguments(void **state)
{
    cop_cuda_batch batch = {0};
    cop_cuda_shape shape = shape_of(1, 1, 128, 16);
    assert_int_equal(cop_cuda_decode_attention(&shape, &batch, 0, 0, 1, 0, NULL, NULL, NULL, NULL),
                     cudaSuccess); /* nothing to do */
    assert_int_equal(cop_cuda_decode_attention(&shape, &batch, 0, 1, 0, 0, NULL, NULL, NULL, NULL),
                     cudaErrorInvalidValue);
    shape.head_dim = 96;
    assert_int_equal(cop_cuda_decode_attention(&shape, &batch, 0, 1, 1, 0, NULL, NULL, NULL, NULL),
                     cudaErrorInvalidValue);
}

int main(void)
{
    harness_device_or_skip();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_random_batches),
        cmocka_unit_test(test_equal_values_come_back),
        cmocka_unit_test(test_rows_do_not_depend_on_their_batch),
        cmocka_unit_test(test_graph_serves_changed_contexts),
        cmocka_unit_test(test_splits),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
