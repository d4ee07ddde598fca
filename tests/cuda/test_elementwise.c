/* Kernels that work on rows one by one, beside float64. Bounds count roundings, u = 2^-24 each, and
 * end with one to BF16; what is only moved or added once is compared by its bits. Each launch has
 * room for more rows than it holds: those keep the poison. */
#include "harness.h"

enum { SPARE = 3 }; /* rows of padding */

static const float epsilon = 1e-6f;

/* Lengths of rows: those of models, edges of how the kernels cut rows up, odd ones. */
static const uint32_t lengths[] = {1,    7,    64,   100,  896,   1000,  2048,  4096,
                                   4104, 5120, 8192, 8200, 16384, 16392, 20001, 0};

typedef struct {
    cop_cuda_shape shape;
    test_batch batch;
    uint32_t rows, room; /* of the batch, with and without padding */
} rows_case;

/* One sequence of `rows` tokens. Those of `sampled` rows: as many sequences of two tokens. */
static rows_case make_rows(cop_cuda_shape shape, uint32_t rows, cop_rng *rng)
{
    rows_case c = {.shape = shape, .rows = rows, .room = rows + SPARE};
    c.shape.vocab = 50;
    c.shape.block_tokens = c.shape.block_tokens ? c.shape.block_tokens : 16;
    c.shape.rms_epsilon = epsilon;
    const test_room room = {c.room, 2, 1, rows + 20};
    const test_sequence sequence = {.start = between(rng, 0, 9), .count = rows};
    c.batch = make_batch(&c.shape, &sequence, 1, room, rng);
    return c;
}

static rows_case make_sampled(cop_cuda_shape shape, uint32_t sampled, cop_rng *rng)
{
    test_sequence sequence[8];
    rows_case c = {.shape = shape, .rows = 2 * sampled, .room = 2 * sampled + SPARE};
    c.shape.vocab = 50;
    c.shape.block_tokens = 16;
    c.shape.rms_epsilon = epsilon;
    for (uint32_t i = 0; i < sampled; i++)
        sequence[i] = (test_sequence){.count = 1 + i % 3, .sample = true};
    const test_room room = {c.room, sampled, sampled + SPARE, 2 * sampled};
    c.batch = make_batch(&c.shape, sequence, sampled, room, rng);
    return c;
}

/* Rows of different sizes, the first of zeros. */
static float *random_floats(uint32_t rows, uint32_t columns, cop_rng *rng)
{
    float *x = harness_host((size_t)rows * columns * sizeof *x);
    for (uint32_t r = 0; r < rows; r++) {
        const double size = r == 0 ? 0 : exp(uniform(rng, 6));
        for (uint32_t i = 0; i < columns; i++)
            x[(size_t)r * columns + i] = (float)(size * cop_rng_normal(rng));
    }
    return x;
}

static uint16_t *random_bf16(size_t count, double limit, cop_rng *rng)
{
    uint16_t *x = harness_host(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = bf16_of(uniform(rng, limit));
    return x;
}

static float *random_gain(uint32_t columns, cop_rng *rng)
{
    float *gain = harness_host(columns * sizeof *gain);
    for (uint32_t i = 0; i < columns; i++)
        gain[i] = uniform(rng, 2);
    return gain;
}

/* Rounding to BF16 of a value that is off by `error` already. */
static double rounded(double value, double error)
{
    return error + bf16_half_ulp(fabs(value) + error);
}

/* Roundings of x * factor * gain, where a sum of squares has `additions` in a row: those and the
 * square, one over n and the product with it, epsilon, all halved by the root; the root to 2 units
 * in the last place, 4 u; two products. */
static double norm_roundings(uint32_t additions)
{
    return (additions + 4) / 2.0 + 4 + 2;
}

static double factor_of(const float *x, uint32_t n)
{
    double squares = 0;
    for (uint32_t i = 0; i < n; i++)
        squares += (double)x[i] * x[i];
    return 1 / sqrt(squares / n + epsilon);
}

/* A thread adds up to 32 squares (or hidden / 512, rounded up to a chunk); warps and blocks 10. */
static void expect_norm(const uint16_t *got, const float *x, const float *gain, uint32_t hidden,
                        size_t row, const char *what)
{
    const double factor = factor_of(x, hidden);
    const double roundings = norm_roundings(32 + hidden / 512 + 10);
    for (uint32_t i = 0; i < hidden; i++) {
        double want = x[i] * factor * gain[i], error = roundings * unit_float * fabs(want);
        expect_near(bf16_value(got[i]), want, rounded(want, error), what, row, i);
    }
}

static void test_embed(void **state)
{
    cop_rng rng = harness_rng(1);
    for (int l = 0; lengths[l]; l++) {
        const uint32_t hidden = lengths[l];
        rows_case c = make_rows((cop_cuda_shape){.hidden = hidden}, between(&rng, 1, 4), &rng);
        const size_t size = (size_t)c.shape.vocab * hidden;
        const uint16_t *table = random_bf16(size, 1, &rng);
        float *x = device_alloc((size_t)c.room * hidden * sizeof *x);
        CUDA(cop_cuda_embed(&c.shape, &c.batch.device, c.room, device_upload(table, 2 * size), x,
                            harness_stream()));
        const float *got = device_download(x, (size_t)c.room * hidden * sizeof *x);
        for (uint32_t r = 0; r < c.rows; r++)
            for (uint32_t i = 0; i < hidden; i++)
                expect_near(got[(size_t)r * hidden + i],
                            bf16_value(table[(size_t)c.batch.host.token[r] * hidden + i]), 0,
                            "embedding", r, i);
        expect_poison(got + (size_t)c.rows * hidden, SPARE * hidden * sizeof *x, "padding of x");
        device_free_all();
    }
}

static void check_rmsnorm(uint32_t hidden, cop_rng *rng)
{
    rows_case c = make_rows((cop_cuda_shape){.hidden = hidden}, between(rng, 1, 4), rng);
    const size_t size = (size_t)c.room * hidden;
    const float *x = random_floats(c.room, hidden, rng), *gain = random_gain(hidden, rng);
    uint16_t *h = device_alloc(size * sizeof *h);
    CUDA(cop_cuda_rmsnorm(&c.shape, &c.batch.device, c.room, device_upload(x, size * sizeof *x),
                          device_upload(gain, hidden * sizeof *gain), h, harness_stream()));
    const uint16_t *got = device_download(h, size * sizeof *h);
    for (uint32_t r = 0; r < c.rows; r++)
        expect_norm(got + (size_t)r * hidden, x + (size_t)r * hidden, gain, hidden, r, "rmsnorm");
    expect_poison(got + (size_t)c.rows * hidden, SPARE * hidden * sizeof *h, "padding of h");
    device_free_all();
}

static void test_rmsnorm(void **state)
{
    cop_rng rng = harness_rng(2);
    for (int l = 0; lengths[l]; l++)
        check_rmsnorm(lengths[l], &rng);
    for (int i = 0; i < 4; i++)
        check_rmsnorm(between(&rng, 1, 9000), &rng);
}

/* What stays in x is the float32 sum, to the bit; the norm is that of the sum. */
static void check_add_rmsnorm(uint32_t hidden, cop_rng *rng)
{
    rows_case c = make_rows((cop_cuda_shape){.hidden = hidden}, between(rng, 1, 4), rng);
    const size_t size = (size_t)c.room * hidden, live = (size_t)c.rows * hidden;
    float *x = random_floats(c.room, hidden, rng);
    const float *gain = random_gain(hidden, rng);
    const uint16_t *delta = random_bf16(size, 3, rng);
    float *residual = device_upload(x, size * sizeof *x);
    uint16_t *h = device_alloc(size * sizeof *h);
    CUDA(cop_cuda_add_rmsnorm(&c.shape, &c.batch.device, c.room, residual,
                              device_upload(delta, size * sizeof *delta),
                              device_upload(gain, hidden * sizeof *gain), h, harness_stream()));
    for (size_t i = 0; i < live; i++) /* padding keeps x as it was */
        x[i] += (float)bf16_value(delta[i]);
    expect_bits(device_download(residual, size * sizeof *x), x, size * sizeof *x, sizeof *x, "x");
    const uint16_t *got = device_download(h, size * sizeof *h);
    for (uint32_t r = 0; r < c.rows; r++)
        expect_norm(got + (size_t)r * hidden, x + (size_t)r * hidden, gain, hidden, r,
                    "add_rmsnorm");
    expect_poison(got + live, SPARE * hidden * sizeof *h, "padding of h");
    device_free_all();
}

static void test_add_rmsnorm(void **state)
{
    cop_rng rng = harness_rng(3);
    for (int l = 0; lengths[l]; l++)
        check_add_rmsnorm(lengths[l], &rng);
    for (int i = 0; i < 4; i++)
        check_add_rmsnorm(between(&rng, 1, 9000), &rng);
}

static void check_last_rows(uint32_t hidden, cop_rng *rng)
{
    rows_case c = make_sampled((cop_cuda_shape){.hidden = hidden}, between(rng, 1, 4), rng);
    const uint32_t sampled = c.batch.sampled;
    const size_t size = (size_t)c.room * hidden, kept = (size_t)(sampled + SPARE) * hidden;
    float *x = random_floats(c.room, hidden, rng);
    const float *gain = random_gain(hidden, rng);
    const uint16_t *delta = random_bf16(size, 3, rng);
    float *residual = device_upload(x, size * sizeof *x);
    uint16_t *out = device_alloc(kept * sizeof *out);
    CUDA(cop_cuda_last_rows(&c.shape, &c.batch.device, sampled + SPARE, residual,
                            device_upload(delta, size * sizeof *delta),
                            device_upload(gain, hidden * sizeof *gain), out, harness_stream()));
    expect_bits(device_download(residual, size * sizeof *x), x, size * sizeof *x, sizeof *x, "x");
    for (size_t i = 0; i < size; i++)
        x[i] += (float)bf16_value(delta[i]);
    const uint16_t *got = device_download(out, kept * sizeof *out);
    for (uint32_t i = 0; i < sampled; i++)
        expect_norm(got + (size_t)i * hidden, x + (size_t)c.batch.host.draw[i].row * hidden, gain,
                    hidden, i, "last_rows");
    expect_poison(got + (size_t)sampled * hidden, SPARE * hidden * sizeof *out, "padding of out");
    device_free_all();
}

static void test_last_rows(void **state)
{
    cop_rng rng = harness_rng(4);
    for (int l = 0; lengths[l]; l++)
        check_last_rows(lengths[l], &rng);
}

/* exp(-g): the exponent by two roundings, 2 |g| u of the result, the power to 2 units in the last
 * place, 4 u; the sum; the quotient to 2 units; the product with up. Where the divisor is beyond
 * 2^126 the quotient may be 0. */
static void expect_swiglu(uint16_t got, double gate, double up, size_t row, size_t column)
{
    const double want = gate / (1 + exp(-gate)) * up;
    const double error =
        (2 * fabs(gate) + 4 + 1 + 4 + 1) * unit_float * fabs(want) + fabs(gate * up) * 0x1p-126;
    expect_near(bf16_value(got), want, rounded(want, error), "swiglu", row, column);
}

static void check_swiglu(uint32_t ffn, double limit, cop_rng *rng)
{
    rows_case c = make_rows((cop_cuda_shape){.ffn = ffn}, between(rng, 1, 3), rng);
    const size_t size = (size_t)c.room * ffn;
    const uint16_t *in = random_bf16(2 * size, limit, rng);
    uint16_t *out = device_alloc(size * sizeof *out);
    CUDA(cop_cuda_swiglu(&c.shape, &c.batch.device, c.room,
                         device_upload(in, 2 * size * sizeof *in), out, harness_stream()));
    const uint16_t *got = device_download(out, size * sizeof *out);
    for (uint32_t r = 0; r < c.rows; r++)
        for (uint32_t i = 0; i < ffn; i++)
            expect_swiglu(got[(size_t)r * ffn + i], bf16_value(in[(size_t)r * 2 * ffn + i]),
                          bf16_value(in[(size_t)r * 2 * ffn + ffn + i]), r, i);
    expect_poison(got + (size_t)c.rows * ffn, SPARE * ffn * sizeof *out, "padding of out");
    device_free_all();
}

static void test_swiglu(void **state)
{
    cop_rng rng = harness_rng(5);
    for (int l = 0; lengths[l]; l++)
        check_swiglu(lengths[l], 8, &rng);
    check_swiglu(4864, 200, &rng); /* gates that overflow the power */
    check_swiglu(between(&rng, 1, 9000), 8, &rng);
}

/* ---- place_qkv ---- */

enum { LAYERS = 3, CONTEXT = 64 };

typedef struct {
    rows_case rows;
    uint32_t heads, dim; /* heads: of q, k and v */
    uint16_t *qkv;
    const float *norm[2], *cosine, *sine; /* norm of q and of k; NULL */
    const uint16_t *q, *pool;             /* what came out */
    uint32_t blocks;
} placing;

static float *angles(double (*function)(double), uint32_t half)
{
    float *table = harness_host((size_t)CONTEXT * half * sizeof *table);
    for (uint32_t p = 0; p < CONTEXT; p++)
        for (uint32_t i = 0; i < half; i++)
            table[p * half + i] = (float)function(p * pow(10000, -(double)i / half));
    return table;
}

static const float *gain_upload(const float *gain, uint32_t n)
{
    return gain ? device_upload(gain, n * sizeof *gain) : NULL;
}

static void run_placing(placing *p, uint32_t layer)
{
    cop_cuda_shape *shape = &p->rows.shape;
    const size_t table = (size_t)CONTEXT * p->dim / 2 * sizeof(float);
    const size_t q_bytes = (size_t)p->rows.room * shape->q_heads * p->dim * sizeof *p->q;
    const size_t pool_bytes = pool_elements(shape, p->blocks) * sizeof *p->pool;
    shape->cosine = device_upload(p->cosine, table);
    shape->sine = device_upload(p->sine, table);
    shape->pool = device_alloc(pool_bytes);
    uint16_t *q = device_alloc(q_bytes);
    const uint16_t *qkv =
        device_upload(p->qkv, (size_t)p->rows.room * p->heads * p->dim * sizeof *qkv);
    CUDA(cop_cuda_place_qkv(shape, &p->rows.batch.device, p->rows.room, layer, qkv,
                            gain_upload(p->norm[0], p->dim), gain_upload(p->norm[1], p->dim), q,
                            harness_stream()));
    p->q = device_download(q, q_bytes);
    p->pool = device_download(shape->pool, pool_bytes);
}

/* The norm's roundings are of a and b: 16 squares and 3 exchanges. RoPE has two more of each
 * product and one of the sum. */
static void expect_turned(const placing *p, const uint16_t *got, const uint16_t *in,
                          const float *gain, uint32_t position, size_t row, const char *what)
{
    const uint32_t half = p->dim / 2;
    float x[128];
    for (uint32_t i = 0; i < p->dim; i++)
        x[i] = (float)bf16_value(in[i]);
    const double factor = gain ? factor_of(x, p->dim) : 1;
    const double roundings = (gain ? norm_roundings(16 + 3) : 0) + 2;
    for (uint32_t i = 0; i < half; i++) {
        const double a = x[i] * factor * (gain ? gain[i] : 1);
        const double b = x[half + i] * factor * (gain ? gain[half + i] : 1);
        const double c = p->cosine[position * half + i], s = p->sine[position * half + i];
        const double low = a * c - b * s, high = b * c + a * s;
        const double low_error = roundings * unit_float * (fabs(a * c) + fabs(b * s));
        const double high_error = roundings * unit_float * (fabs(b * c) + fabs(a * s));
        expect_near(bf16_value(got[i]), low, rounded(low, low_error), what, row, i);
        expect_near(bf16_value(got[half + i]), high, rounded(high, high_error), what, row,
                    half + i);
    }
}

/* Then forgets what a row had in the pool, so that the rest has to be poison. */
static void expect_row(placing *p, uint32_t layer, uint32_t row)
{
    const cop_cuda_shape *shape = &p->rows.shape;
    const uint32_t position = p->rows.batch.host.position[row];
    const uint32_t slot = p->rows.batch.host.slot[row], bytes = p->dim * sizeof(uint16_t);
    const uint16_t *in = p->qkv + (size_t)row * p->heads * p->dim;
    const uint16_t *q = p->q + (size_t)row * shape->q_heads * p->dim;
    for (uint32_t h = 0; h < shape->q_heads; h++, in += p->dim, q += p->dim)
        expect_turned(p, q, in, p->norm[0], position, row, "q");
    for (uint32_t h = 0; h < shape->kv_heads; h++, in += p->dim) {
        uint16_t *k = (uint16_t *)p->pool + pool_index(shape, slot, layer, 0, h);
        expect_turned(p, k, in, p->norm[1], position, row, "k");
        memset(k, POISON, bytes);
    }
    for (uint32_t h = 0; h < shape->kv_heads; h++, in += p->dim) {
        uint16_t *v = (uint16_t *)p->pool + pool_index(shape, slot, layer, 1, h);
        expect_bits(v, in, bytes, sizeof *v, "v");
        memset(v, POISON, bytes);
    }
}

static placing make_placing(cop_cuda_shape shape, uint32_t rows, cop_rng *rng)
{
    placing p = {.heads = shape.q_heads + 2 * shape.kv_heads, .dim = shape.head_dim};
    shape.layers = LAYERS;
    p.rows = make_rows(shape, rows, rng);
    p.blocks = rows + 20;
    p.qkv = random_bf16((size_t)p.rows.room * p.heads * p.dim, 4, rng);
    p.cosine = angles(cos, p.dim / 2);
    p.sine = angles(sin, p.dim / 2);
    return p;
}

static void check_placing(cop_cuda_shape shape, int norms, cop_rng *rng)
{
    placing p = make_placing(shape, between(rng, 1, 6), rng);
    const uint32_t layer = between(rng, 0, LAYERS - 1);
    p.norm[0] = norms & 1 ? random_gain(p.dim, rng) : NULL;
    p.norm[1] = norms & 2 ? random_gain(p.dim, rng) : NULL;
    run_placing(&p, layer);
    for (uint32_t r = 0; r < p.rows.rows; r++)
        expect_row(&p, layer, r);
    const size_t row_bytes = (size_t)shape.q_heads * p.dim * sizeof *p.q;
    expect_poison((const char *)p.q + p.rows.rows * row_bytes, SPARE * row_bytes, "padding of q");
    expect_poison(p.pool, pool_elements(&p.rows.shape, p.blocks) * sizeof *p.pool,
                  "the rest of the pool");
    device_free_all();
}

static void test_place_qkv(void **state)
{
    static const uint32_t heads[][2] = {{14, 2}, {32, 8}, {1, 1}, {3, 1}, {40, 40}};
    cop_rng rng = harness_rng(6);
    for (int h = 0; h < 5; h++)
        for (uint32_t dim = 64; dim <= 128; dim += 64)
            for (int norms = 0; norms < 4; norms++)
                check_placing((cop_cuda_shape){.q_heads = heads[h][0],
                                               .kv_heads = heads[h][1],
                                               .head_dim = dim,
                                               .block_tokens = between(&rng, 1, 20)},
                              norms, &rng);
}

static void test_wrong_head_dim(void **state)
{
    cop_cuda_shape shape = {.q_heads = 1, .kv_heads = 1, .head_dim = 96, .block_tokens = 1};
    cop_cuda_batch batch = {0};
    assert_int_equal(cop_cuda_place_qkv(&shape, &batch, 1, 0, NULL, NULL, NULL, NULL, NULL),
                     cudaErrorInvalidValue);
}

/* ---- copy_block ---- */

static void check_copy(cop_cuda_shape shape, uint32_t src, uint32_t dst, uint32_t tokens,
                       cop_rng *rng)
{
    enum { BLOCKS = 4 };
    const size_t elements = pool_elements(&shape, BLOCKS), bytes = elements * sizeof(uint16_t);
    uint16_t *want = harness_host(bytes);
    for (size_t i = 0; i < elements; i++)
        want[i] = (uint16_t)cop_rng_u64(rng);
    shape.pool = device_upload(want, bytes);
    CUDA(cop_cuda_copy_block(&shape, src, dst, tokens, harness_stream()));
    for (uint32_t layer = 0; layer < shape.layers; layer++)
        for (uint32_t part = 0; part < 2; part++)
            for (uint32_t head = 0; head < shape.kv_heads; head++)
                memmove(want + pool_index(&shape, dst * shape.block_tokens, layer, part, head),
                        want + pool_index(&shape, src * shape.block_tokens, layer, part, head),
                        tokens * shape.head_dim * sizeof *want);
    expect_bits(device_download(shape.pool, bytes), want, bytes, sizeof *want, "pool");
    device_free_all();
}

static void test_copy_block(void **state)
{
    cop_rng rng = harness_rng(7);
    for (int i = 0; i < 12; i++) {
        const cop_cuda_shape shape = {.layers = between(&rng, 1, 4),
                                      .kv_heads = between(&rng, 1, 3),
                                      .head_dim = i % 2 ? 64 : 128,
                                      .block_tokens = between(&rng, 1, 90)};
        const uint32_t src = between(&rng, 0, 3), dst = (src + between(&rng, 1, 3)) % 4;
        check_copy(shape, src, dst, between(&rng, 1, shape.block_tokens), &rng);
        check_copy(shape, src, dst, shape.block_tokens, &rng);
    }
    const cop_cuda_shape shape = {.layers = 2, .kv_heads = 1, .head_dim = 64, .block_tokens = 16};
    check_copy(shape, 0, 3, 0, &rng);
    check_copy(shape, 2, 2, 16, &rng);
}

/* ---- a row's bits are its own: alone, or among others, or with room for more ---- */

static void check_norm_alone(uint32_t hidden, cop_rng *rng)
{
    enum { ROWS = 5 };
    const cop_cuda_shape shape = {.hidden = hidden};
    rows_case all = make_rows(shape, ROWS, rng), one = make_rows(shape, 1, rng);
    const size_t size = (size_t)all.room * hidden, row = (size_t)hidden * sizeof(uint16_t);
    float *x = device_upload(random_floats(all.room, hidden, rng), size * sizeof *x);
    const uint16_t *delta = device_upload(random_bf16(size, 3, rng), size * sizeof *delta);
    const float *gain = device_upload(random_gain(hidden, rng), hidden * sizeof *gain);
    uint16_t *together = device_alloc(ROWS * row), *alone = device_alloc(ROWS * row);
    for (uint32_t r = 0; r < ROWS; r++) {
        const size_t at = (size_t)r * hidden;
        float *copy = device_alloc(hidden * sizeof *copy);
        CUDA(cudaMemcpy(copy, x + at, hidden * sizeof *copy, cudaMemcpyDeviceToDevice));
        CUDA(cudaDeviceSynchronize());
        CUDA(cop_cuda_add_rmsnorm(&one.shape, &one.batch.device, 1, copy, delta + at, gain,
                                  alone + at, harness_stream()));
    }
    CUDA(cop_cuda_add_rmsnorm(&all.shape, &all.batch.device, ROWS, x, delta, gain, together,
                              harness_stream()));
    expect_bits(device_download(alone, ROWS * row), device_download(together, ROWS * row),
                ROWS * row, 2, "a row alone");
    device_free_all();
}

static void test_norm_alone(void **state)
{
    cop_rng rng = harness_rng(8);
    for (int l = 0; lengths[l]; l++)
        check_norm_alone(lengths[l], &rng);
}

/* The batch of one has another block table and other padding. */
static void check_place_alone(const placing *all, uint32_t r, uint32_t layer, cop_rng *rng)
{
    const cop_cuda_shape *shape = &all->rows.shape;
    const size_t row = (size_t)all->heads * all->dim, head = all->dim * sizeof *all->q;
    const test_sequence sequence = {.start = all->rows.batch.host.position[r], .count = 1};
    placing one = *all;
    one.rows.room = 1 + SPARE;
    one.rows.batch =
        make_batch(shape, &sequence, 1, (test_room){1 + SPARE, 1, 1, all->blocks}, rng);
    one.qkv = harness_host((1 + SPARE) * row * sizeof *one.qkv);
    memcpy(one.qkv, all->qkv + r * row, row * sizeof *one.qkv);
    run_placing(&one, layer);
    expect_bits(one.q, all->q + (size_t)r * shape->q_heads * all->dim, shape->q_heads * head, 2,
                "q alone");
    for (uint32_t h = 0; h < shape->kv_heads; h++)
        expect_bits(one.pool + pool_index(shape, one.rows.batch.host.slot[0], layer, 0, h),
                    all->pool + pool_index(shape, all->rows.batch.host.slot[r], layer, 0, h), head,
                    2, "k alone");
}

static void test_place_alone(void **state)
{
    enum { ROWS = 5, LAYER = 1 };
    cop_rng rng = harness_rng(9);
    for (uint32_t dim = 64; dim <= 128; dim += 64) {
        const cop_cuda_shape shape = {
            .q_heads = 14, .kv_heads = 2, .head_dim = dim, .block_tokens = 16};
        placing all = make_placing(shape, ROWS, &rng);
        all.norm[0] = all.norm[1] = random_gain(dim, &rng);
        run_placing(&all, LAYER);
        for (uint32_t r = 0; r < ROWS; r++)
            check_place_alone(&all, r, LAYER, &rng);
        device_free_all();
    }
}

int main(void)
{
    harness_device_or_skip();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),          cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_add_rmsnorm),    cmocka_unit_test(test_last_rows),
        cmocka_unit_test(test_swiglu),         cmocka_unit_test(test_place_qkv),
        cmocka_unit_test(test_wrong_head_dim), cmocka_unit_test(test_copy_block),
        cmocka_unit_test(test_norm_alone),     cmocka_unit_test(test_place_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
