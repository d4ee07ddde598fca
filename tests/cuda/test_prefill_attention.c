/* Prefill attention beside a softmax in float64, beside results known exactly, and beside itself:
 * the bits of a row depend on its query and its context alone. What lies in the pool outside of the
 * sequences is NaN, and so is every other layer. */
#include "harness.h"

enum { QUERY, KEY, VALUE, MAX_SEQUENCES = 6, LAYERS = 2 };

/* What the tensors hold, as a function of whose they are: so that the same sequence can be computed
 * in pieces, alone or among others. `id` names a sequence in every batch. */
typedef struct problem problem;
typedef double (*content)(const problem *p, int what, uint32_t id, uint32_t position, uint32_t head,
                          uint32_t d);
struct problem {
    cop_cuda_shape shape;
    uint32_t layer;
    content value;
    double sharpness; /* of queries: a larger one lets fewer keys matter */
    uint64_t seed;
};

/* A batch and what came out of it. */
typedef struct {
    test_sequence sequences[MAX_SEQUENCES];
    uint32_t ids[MAX_SEQUENCES], count;
    uint32_t padding_tiles; /* many: the kernel takes its wide form */
    test_batch batch;
    uint16_t *pool, *q, *out; /* host memory */
} trial;

static uint64_t mixed(const problem *p, int what, uint32_t id, uint32_t position, uint32_t head,
                      uint32_t d)
{
    uint64_t index = ((((uint64_t)what * 64 + id) * 65536 + position) * 64 + head) * 256 + d;
    return cop_splitmix64(p->seed ^ cop_splitmix64(index));
}

static double random_content(const problem *p, int what, uint32_t id, uint32_t position,
                             uint32_t head, uint32_t d)
{
    double x = (double)(mixed(p, what, id, position, head, d) >> 11) * 0x1p-52 - 1;
    return what == QUERY ? x * p->sharpness : x;
}

static void fill_rows(const problem *p, int what, uint32_t id, uint32_t position, uint32_t head,
                      uint16_t *row)
{
    for (uint32_t d = 0; d < p->shape.head_dim; d++)
        row[d] = bf16_of((float)p->value(p, what, id, position, head, d));
}

static void fill_trial(const problem *p, trial *t)
{
    const cop_cuda_shape *s = &p->shape;
    for (uint32_t i = 0; i < t->count; i++) {
        const cop_cuda_sequence *sequence = &t->batch.host.sequence[i];
        const uint32_t end = t->sequences[i].start + t->sequences[i].count;
        for (uint32_t at = 0; sequence->count > 0 && at < end; at++) {
            const uint32_t slot = slot_of(s, &t->batch, i, at);
            for (uint32_t h = 0; h < s->kv_heads; h++) {
                fill_rows(p, KEY, t->ids[i], at, h, t->pool + pool_index(s, slot, p->layer, 0, h));
                fill_rows(p, VALUE, t->ids[i], at, h,
                          t->pool + pool_index(s, slot, p->layer, 1, h));
            }
        }
        for (uint32_t k = 0; k < sequence->count; k++)
            for (uint32_t h = 0; h < s->q_heads; h++)
                fill_rows(p, QUERY, t->ids[i], sequence->start + k, h,
                          t->q +
                              ((size_t)(sequence->first_row + k) * s->q_heads + h) * s->head_dim);
    }
}

/* The tiles of the batch with padding among them, in random order. */
static cop_cuda_tile *make_tiles(const trial *t, uint32_t padding_sequence, uint32_t *count,
                                 cop_rng *rng)
{
    cop_cuda_tile *tiles = cop_malloc((t->batch.rows + t->padding_tiles + 1) * sizeof *tiles);
    *count = 0;
    for (uint32_t i = 0; i < t->count; i++)
        for (uint32_t query = 0; query < t->sequences[i].count; query += COP_QUERY_TILE)
            tiles[(*count)++] = (cop_cuda_tile){i, query};
    for (uint32_t i = 0; i < t->padding_tiles; i++) /* of padding, or beyond a sequence's end */
        tiles[(*count)++] = i % 2 == 0 ? (cop_cuda_tile){padding_sequence, 0}
                                       : (cop_cuda_tile){0, t->sequences[0].count + i / 2};
    for (uint32_t i = *count; i > 1; i--) {
        uint32_t j = (uint32_t)cop_rng_below(rng, i);
        cop_cuda_tile held = tiles[i - 1];
        tiles[i - 1] = tiles[j];
        tiles[j] = held;
    }
    return tiles;
}

/* Computes t->sequences; fills in what the trial holds beside them. */
static void attend(const problem *p, trial *t, cop_rng *rng)
{
    cop_cuda_shape shape = p->shape;
    test_room room = {.rows = 5, .sequences = t->count + 1, .sampled = 1, .pool_blocks = 3};
    for (uint32_t i = 0; i < t->count; i++) {
        room.rows += t->sequences[i].count;
        room.pool_blocks +=
            (t->sequences[i].start + t->sequences[i].count) / shape.block_tokens + 1;
    }
    t->batch = make_batch(&shape, t->sequences, t->count, room, rng);
    const size_t pool_bytes = pool_elements(&shape, room.pool_blocks) * 2;
    const size_t row_bytes = (size_t)shape.q_heads * shape.head_dim * 2;
    t->pool = harness_host(pool_bytes);
    t->q = harness_host(room.rows * row_bytes);
    fill_trial(p, t);
    shape.pool = device_upload(t->pool, pool_bytes);
    const uint16_t *q = device_upload(t->q, room.rows * row_bytes);
    uint16_t *out = device_alloc(room.rows * row_bytes);

    uint32_t count;
    cop_cuda_tile *host_tiles = make_tiles(t, t->count, &count, rng);
    const cop_cuda_tile *tiles = device_upload(host_tiles, count * sizeof *tiles);
    free(host_tiles);
    CUDA(cop_cuda_prefill_attention(&shape, &t->batch.device, tiles, count, p->layer, q, out,
                                    harness_stream()));
    t->out = device_download(out, room.rows * row_bytes);
    expect_poison((char *)t->out + t->batch.rows * row_bytes,
                  (room.rows - t->batch.rows) * row_bytes, "rows beyond the batch");
}

/* Row of the trial's out (or q) of a token and a query head. */
static const uint16_t *row_of(const problem *p, const trial *t, const uint16_t *rows,
                              uint32_t sequence, uint32_t token, uint32_t head)
{
    const size_t row = t->batch.host.sequence[sequence].first_row + token;
    return rows + (row * p->shape.q_heads + head) * p->shape.head_dim;
}

static const uint16_t *cached(const problem *p, const trial *t, uint32_t sequence,
                              uint32_t position, uint32_t part, uint32_t q_head)
{
    const uint32_t kv_head = q_head / (p->shape.q_heads / p->shape.kv_heads);
    const uint32_t slot = slot_of(&p->shape, &t->batch, sequence, position);
    return t->pool + pool_index(&p->shape, slot, p->layer, part, kv_head);
}

/* ---- beside float64 ---- */

/* The true row and, for each of its elements, how far the kernel may be from it.
 *
 * With weights p (their sum 1), A = sum p |v|, u = 2^-8 the part by which BF16 rounds, and scores
 * x = s / sqrt(head_dim) in nats, the kernel has
 *     scores      sums of head_dim exact products in float32, perhaps cut off, not rounded: off by
 *                 (head_dim + 4) 2^-23 R, R the largest sum |q k| / sqrt(head_dim) over the keys.
 *                 The 4 are the scale, the product with it, the largest score taken off, and the
 *                 differences of largest scores: each is a rounding of something within R.
 *     weights     2^x to 2 ulp, 2^-22; one more such factor for every later tile, and its product
 *                 with the sum and with the output: 2^-21 for each tile, amply.
 *     sums        one float32 addition for each key, cut off: 2^-23 each, for output and weights.
 * Together e, the part by which a weight may be off, in the output and in the sum it is divided by.
 * The weights that meet V are rounded to BF16, those that are summed are not: u more for the
 * former. So the quotient is off by (e + u) A + e |out|, with 2^-22 |out| for the division;
 * products of such small terms are covered by 2 % on top. Then it is rounded to BF16: half an ulp.
 * Weights below 2^-126 are zero: less than 2^-100 for any sum here. */
typedef struct {
    double *weight, *out, *weighed; /* [keys], [head_dim], [head_dim]: A */
    double part;                    /* e */
} truth;

static void find_truth(const problem *p, const trial *t, uint32_t sequence, uint32_t token,
                       uint32_t head, truth *w)
{
    const uint32_t dim = p->shape.head_dim, keys = t->sequences[sequence].start + token + 1;
    const uint16_t *q = row_of(p, t, t->q, sequence, token, head);
    double top = -INFINITY, sum = 0, reach = 0;
    for (uint32_t j = 0; j < keys; j++) {
        const uint16_t *k = cached(p, t, sequence, j, 0, head);
        double score = 0, size = 0;
        for (uint32_t d = 0; d < dim; d++) {
            score += bf16_value(q[d]) * bf16_value(k[d]);
            size += fabs(bf16_value(q[d]) * bf16_value(k[d]));
        }
        w->weight[j] = score / sqrt(dim);
        top = fmax(top, w->weight[j]);
        reach = fmax(reach, size / sqrt(dim));
    }
    for (uint32_t j = 0; j < keys; j++)
        sum += w->weight[j] = exp(w->weight[j] - top);
    memset(w->out, 0, dim * sizeof *w->out);
    memset(w->weighed, 0, dim * sizeof *w->weighed);
    for (uint32_t j = 0; j < keys; j++) {
        const uint16_t *v = cached(p, t, sequence, j, 1, head);
        for (uint32_t d = 0; d < dim; d++) {
            w->out[d] += w->weight[j] / sum * bf16_value(v[d]);
            w->weighed[d] += w->weight[j] / sum * fabs(bf16_value(v[d]));
        }
    }
    w->part = (dim + 4) * 0x1p-23 * reach + (keys / 64 + 1) * 0x1p-21 + keys * 0x1p-23;
}

static void expect_truth(const problem *p, const trial *t)
{
    static double weight[65536], out[128], weighed[128];
    truth w = {.weight = weight, .out = out, .weighed = weighed};
    for (uint32_t i = 0; i < t->count; i++)
        for (uint32_t k = 0; k < t->sequences[i].count; k++)
            for (uint32_t h = 0; h < p->shape.q_heads; h++) {
                find_truth(p, t, i, k, h, &w);
                const uint16_t *got = row_of(p, t, t->out, i, k, h);
                for (uint32_t d = 0; d < p->shape.head_dim; d++) {
                    double off = 1.02 * ((w.part + unit_bf16) * weighed[d] +
                                         (w.part + 0x1p-22) * fabs(out[d]));
                    off += bf16_half_ulp(fabs(out[d]) + off) + 0x1p-100;
                    expect_near(bf16_value(got[d]), out[d], off, "out",
                                t->batch.host.sequence[i].first_row + k, h * 1000 + d);
                }
            }
}

/* Eight rounds in a row have every form of the kernel: both head_dims, 16 and 32 rows a warp, and
 * block sizes whose keys are found in runs and one by one. */
static problem make_problem(uint32_t round, uint32_t kv_heads, uint32_t group, content value,
                            cop_rng *rng)
{
    static const uint32_t runs[] = {16, 32, 8, 128}, singles[] = {7, 1, 24, 3};
    return (problem){
        .shape = {.layers = LAYERS,
                  .vocab = 100,
                  .q_heads = kv_heads * group,
                  .kv_heads = kv_heads,
                  .head_dim = round % 2 == 0 ? 128 : 64,
                  .block_tokens = (round / 4 % 2 == 0 ? runs : singles)[round / 8 % 4]},
        .layer = round % LAYERS,
        .value = value,
        .sharpness = 1,
        .seed = cop_rng_u64(rng)};
}

/* Tiles of padding that bring about the narrow or the wide form. */
static uint32_t padding_of(uint32_t round)
{
    return round / 2 % 2 == 0 ? 3 : 130;
}

static void test_random_batches(void **state)
{
    (void)state;
    cop_rng rng = harness_rng(1);
    for (uint32_t round = 0; round < 16; round++) {
        problem p =
            make_problem(round, between(&rng, 1, 2), 1 + round * 3 % 8, random_content, &rng);
        p.sharpness = round % 3 == 0 ? 1 : round % 3 == 1 ? 4 : 30;
        trial t = {.count = between(&rng, 1, 4), .padding_tiles = padding_of(round)};
        for (uint32_t i = 0; i < t.count; i++) {
            t.ids[i] = i;
            const uint32_t start = between(&rng, 0, i == 2 ? 1000 : 200);
            t.sequences[i].start = round % 2 == 0 ? start - start % p.shape.block_tokens : start;
            t.sequences[i].count = i == 1 ? 0 : between(&rng, 1, i == 0 ? 150 : 30);
        }
        attend(&p, &t, &rng);
        expect_truth(&p, &t);
        device_free_all();
    }
}

/* ---- beside what is known exactly ---- */

/* All scores 0, so every key that is seen weighs the same. Key j has its one value in column
 * j % head_dim, and j / head_dim + 1 tells it from the others there: the columns of an output are
 * small whole numbers over the number of keys, rounded once to float32 and once to BF16. */
static double counting_content(const problem *p, int what, uint32_t id, uint32_t position,
                               uint32_t head, uint32_t d)
{
    if (what == QUERY)
        return 0;
    if (what == KEY)
        return random_content(p, what, id, position, head, d);
    return d == position % p->shape.head_dim ? position / p->shape.head_dim + 1 : 0;
}

static void expect_counts(const problem *p, const trial *t)
{
    const uint32_t dim = p->shape.head_dim;
    for (uint32_t i = 0; i < t->count; i++)
        for (uint32_t k = 0; k < t->sequences[i].count; k++)
            for (uint32_t h = 0; h < p->shape.q_heads; h++) {
                const uint32_t keys = t->sequences[i].start + k + 1;
                uint16_t want[128];
                for (uint32_t d = 0; d < dim; d++) {
                    uint32_t sum = 0;
                    for (uint32_t j = d; j < keys; j += dim)
                        sum += j / dim + 1;
                    want[d] = bf16_of((float)sum * (1.0f / (float)keys));
                }
                expect_bits(row_of(p, t, t->out, i, k, h), want, dim * 2, 2, "counts of keys");
            }
}

static void test_every_key_counts_once(void **state)
{
    (void)state;
    cop_rng rng = harness_rng(2);
    for (uint32_t round = 0; round < 16; round++) {
        problem p = make_problem(round, 1, 1 + round % 4, counting_content, &rng);
        /* A start on, before and behind the border of a key tile and of a block. */
        const uint32_t starts[] = {0, 63, 64, 65, 127, 128, 113, 112};
        const uint32_t first = (round + round / 8 * 3) % 8;
        trial t = {.count = 2, .ids = {0, 1}, .padding_tiles = padding_of(round)};
        t.sequences[0] = (test_sequence){.start = starts[first], .count = 130};
        t.sequences[1] = (test_sequence){.start = starts[7 - first], .count = 1 + round};
        attend(&p, &t, &rng);
        expect_counts(&p, &t);
        device_free_all();
    }
}

/* Keys are vectors of +-1, and a query is 16 times the key of one position that it may see. The
 * scores of the others lie far below: the output is that position's value, to the bit. */
static uint32_t needle_of(const problem *p, uint32_t id, uint32_t position, uint32_t q_head)
{
    return (uint32_t)(mixed(p, QUERY, id, position, q_head, 0) % (position + 1));
}

static double needle_content(const problem *p, int what, uint32_t id, uint32_t position,
                             uint32_t head, uint32_t d)
{
    if (what == QUERY) {
        const uint32_t kv_head = head / (p->shape.q_heads / p->shape.kv_heads);
        return 16 * needle_content(p, KEY, id, needle_of(p, id, position, head), kv_head, d);
    }
    const uint64_t bits = mixed(p, what, id, position, head, d);
    return what == KEY ? (double)(bits % 2) * 2 - 1 : 1 + (double)(bits % 128) / 128;
}

static void test_queries_find_their_keys(void **state)
{
    (void)state;
    cop_rng rng = harness_rng(3);
    for (uint32_t round = 0; round < 8; round++) {
        problem p = make_problem(round, 2, 1 + round % 3, needle_content, &rng);
        trial t = {.count = 3, .ids = {4, 5, 6}, .padding_tiles = padding_of(round)};
        t.sequences[0] = (test_sequence){.start = between(&rng, 0, 200), .count = 140};
        t.sequences[1] = (test_sequence){.start = 0, .count = between(&rng, 1, 90)};
        t.sequences[2] = (test_sequence){.start = between(&rng, 0, 300), .count = 1};
        attend(&p, &t, &rng);
        for (uint32_t i = 0; i < t.count; i++)
            for (uint32_t k = 0; k < t.sequences[i].count; k++)
                for (uint32_t h = 0; h < p.shape.q_heads; h++) {
                    const uint32_t at = needle_of(&p, t.ids[i], t.sequences[i].start + k, h);
                    expect_bits(row_of(&p, &t, t.out, i, k, h), cached(&p, &t, i, at, 1, h),
                                p.shape.head_dim * 2, 2, "the value looked for");
                }
        device_free_all();
    }
}

/* ---- beside itself ---- */

/* The rows of a sequence in one trial are those of the same sequence, `skip` tokens later, in
 * another. */
static void expect_same_rows(const problem *p, const trial *a, uint32_t of_a, uint32_t skip,
                             const uint16_t *whole, const char *what)
{
    const size_t row = (size_t)p->shape.q_heads * p->shape.head_dim;
    expect_bits(row_of(p, a, a->out, of_a, 0, 0), whole + skip * row,
                a->sequences[of_a].count * row * 2, 2, what);
}

static uint16_t *whole_sequence(const problem *p, uint32_t id, uint32_t tokens, cop_rng *rng)
{
    const size_t bytes = (size_t)tokens * p->shape.q_heads * p->shape.head_dim * 2;
    trial t = {.count = 1, .ids = {id}, .sequences = {{.count = tokens}}};
    attend(p, &t, rng);
    uint16_t *rows = cop_malloc(bytes);
    memcpy(rows, row_of(p, &t, t.out, 0, 0, 0), bytes);
    device_free_all();
    return rows;
}

static void test_bits_do_not_depend_on_chunks(void **state)
{
    (void)state;
    enum { TOKENS = 150 };
    static const uint32_t chunks[] = {100, 64, 17, 16, 1};
    cop_rng rng = harness_rng(4);
    for (uint32_t round = 0; round < 8; round++) {
        problem p = make_problem(round, 1, 1 + round % 5, random_content, &rng);
        p.sharpness = 4;
        uint16_t *whole = whole_sequence(&p, 0, TOKENS, &rng);
        for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++)
            for (uint32_t start = 0; start < TOKENS; start += chunks[c]) {
                const uint32_t left = TOKENS - start;
                trial t = {.count = 1, .padding_tiles = padding_of(round + 2 * start)};
                t.sequences[0] =
                    (test_sequence){.start = start, .count = left < chunks[c] ? left : chunks[c]};
                attend(&p, &t, &rng);
                expect_same_rows(&p, &t, 0, start, whole, "a chunk beside the whole sequence");
                device_free_all();
            }
        free(whole);
    }
}

static void test_bits_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    static const uint32_t tokens[] = {150, 33, 1, 90};
    cop_rng rng = harness_rng(5);
    for (uint32_t round = 0; round < 8; round++) {
        problem p = make_problem(round, 1 + round % 3, 1 + round / 2, random_content, &rng);
        p.sharpness = 2;
        uint16_t *whole[4];
        for (uint32_t i = 0; i < 4; i++)
            whole[i] = whole_sequence(&p, i, tokens[i], &rng);
        /* The same together in another order, some from the middle on, with padding between. */
        trial t = {.count = 6, .ids = {2, 0, 0, 3, 9, 1}, .padding_tiles = padding_of(round)};
        const uint32_t ids[] = {2, 0, 0, 3, 9, 1}, starts[] = {0, 70, 0, 5, 11, 0};
        for (uint32_t i = 0; i < t.count; i++) {
            t.sequences[i].start = starts[i];
            t.sequences[i].count = ids[i] == 9 ? 20 : tokens[ids[i]] - starts[i];
        }
        t.sequences[2].count = 0;
        attend(&p, &t, &rng);
        for (uint32_t i = 0; i < t.count; i++)
            if (ids[i] != 9 && t.sequences[i].count > 0)
                expect_same_rows(&p, &t, i, starts[i], whole[ids[i]], "in a batch beside alone");
        for (uint32_t i = 0; i < 4; i++)
            free(whole[i]);
        device_free_all();
    }
}

/* ---- what it refuses ---- */

static void test_refusals(void **state)
{
    (void)state;
    cop_rng rng = harness_rng(6);
    problem p = make_problem(0, 1, 1, random_content, &rng);
    const cop_cuda_batch none = {0};
    p.shape.head_dim = 96;
    assert_int_equal(
        cop_cuda_prefill_attention(&p.shape, &none, NULL, 1, 0, NULL, NULL, harness_stream()),
        cudaErrorInvalidValue);
    p = make_problem(0, 2, 1, random_content, &rng);
    p.shape.q_heads = 3; /* of 2 kv heads */
    assert_int_equal(
        cop_cuda_prefill_attention(&p.shape, &none, NULL, 1, 0, NULL, NULL, harness_stream()),
        cudaErrorInvalidValue);
    assert_int_equal(
        cop_cuda_prefill_attention(&p.shape, &none, NULL, 0, 0, NULL, NULL, harness_stream()),
        cudaSuccess);
}

int main(void)
{
    harness_device_or_skip();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_batches),
        cmocka_unit_test(test_every_key_counts_once),
        cmocka_unit_test(test_queries_find_their_keys),
        cmocka_unit_test(test_bits_do_not_depend_on_chunks),
        cmocka_unit_test(test_bits_do_not_depend_on_the_batch),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
