/* Sampling on the device, beside the cpu device's and beside a slow one that sorts.
 *
 * Where two of them differ, it has to be because the draw, or top_p, falls within rounding of a
 * boundary between two tokens: weights are in units of 2^-44 of the greatest, so a running sum of n
 * of them is off by n 2^-45 at most, and the total is 1 or more. Such rows are counted; there may
 * be next to none. */
#include "harness.h"

#include "device/cpu.h"

#include <float.h>

enum { SPARE = 2, MAX_ROWS = 128, MAX_VOCAB = 1 << 18 };

/* Draws for some rows of one vocabulary. */
typedef struct {
    cop_cuda_shape shape;
    uint32_t rows;
    size_t stride;
    float *logits; /* [rows + SPARE][stride]: beyond the vocabulary greater than any logit */
    cop_cuda_draw draw[MAX_ROWS + SPARE];
} sample_case;

static sample_case make_case(uint32_t vocab, uint32_t rows)
{
    sample_case c = {.shape = {.vocab = vocab}, .rows = rows, .stride = vocab + vocab % 7 + 1};
    assert_true(rows <= MAX_ROWS);
    c.logits = harness_host((rows + SPARE) * c.stride * sizeof *c.logits);
    for (size_t i = 0; i < (rows + SPARE) * c.stride; i++)
        c.logits[i] = INFINITY;
    for (uint32_t i = 0; i < rows + SPARE; i++)
        c.draw[i] = (cop_cuda_draw){.temperature = 1, .top_p = 1, .position = i, .seed = 7};
    return c;
}

static float *row_of(const sample_case *c, uint32_t row)
{
    return c->logits + row * c->stride;
}

/* The launch is for SPARE rows more than the batch has: their tokens stay. */
static const uint32_t *sample(const sample_case *c)
{
    const uint32_t counts[3] = {c->rows, c->rows, c->rows}, launched = c->rows + SPARE;
    const cop_cuda_batch batch = {.counts = device_upload(counts, sizeof counts),
                                  .draw = device_upload(c->draw, launched * sizeof *c->draw)};
    const size_t bytes = launched * c->stride * sizeof *c->logits;
    uint32_t *tokens = device_alloc(launched * sizeof *tokens);
    void *scratch = device_alloc(cop_cuda_sample_scratch(&c->shape, launched));
    CUDA(cop_cuda_sample(&c->shape, &batch, launched, device_upload(c->logits, bytes), c->stride,
                         tokens, scratch, harness_stream()));
    const uint32_t *got = device_download(tokens, launched * sizeof *tokens);
    expect_poison(got + c->rows, SPARE * sizeof *got, "token of padding");
    for (uint32_t i = 0; i < c->rows; i++)
        assert_in_range(got[i], 0, c->shape.vocab - 1);
    return got;
}

static void expect_tokens(const sample_case *c, uint32_t want)
{
    const uint32_t *got = sample(c);
    for (uint32_t i = 0; i < c->rows; i++)
        if (got[i] != want)
            fail_msg("row %u: token %u, should be %u", i, got[i], want);
    device_free_all();
}

/* ---- the slow one ---- */

static const float *sort_logits;

static int by_logit(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (sort_logits[x] != sort_logits[y])
        return sort_logits[x] > sort_logits[y] ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* A token, and how near to another outcome the draw was, in parts of the greatest weight. */
typedef struct {
    uint32_t token;
    double margin;
} outcome;

static outcome sort_and_sample(const float *logits, uint32_t n, const cop_cuda_draw *draw)
{
    static uint32_t order[MAX_VOCAB];
    static double weight[MAX_VOCAB];
    static bool inside[MAX_VOCAB];
    double total = 0, kept = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    sort_logits = logits;
    qsort(order, n, sizeof *order, by_logit);
    for (uint32_t i = n; i-- > 0;) /* small ones first */
        total += weight[order[i]] =
            exp(((double)logits[order[i]] - logits[order[0]]) / draw->temperature);
    outcome o = {.margin = INFINITY};
    const double limit = draw->top_p < 1 ? draw->top_p * total : INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        inside[order[i]] = i == 0 || kept < limit;
        o.margin = fmin(o.margin, fabs(kept - limit));
        kept += inside[order[i]] ? weight[order[i]] : 0;
    }
    uint64_t bits = cop_splitmix64(cop_splitmix64(draw->seed) ^ draw->position);
    const double u = (double)(bits >> 11) * 0x1p-53 * kept;
    bool found = false;
    for (uint32_t i = 0; i < n; i++) {
        if (!inside[i])
            continue;
        sum += weight[i];
        o.margin = fmin(o.margin, fabs(sum - u));
        if (!found)
            o.token = i;
        found |= sum > u;
    }
    return o;
}

/* Every row beside both; returns how many differ, within rounding. Ends with the case. */
static int compare(const sample_case *c, const uint32_t *got)
{
    static double weights[MAX_VOCAB];
    const uint32_t n = c->shape.vocab;
    int differ = 0;
    for (uint32_t i = 0; i < c->rows; i++) {
        const cop_cuda_draw *d = &c->draw[i];
        outcome slow = sort_and_sample(row_of(c, i), n, d);
        uint32_t cpu =
            cop_sample(row_of(c, i), n, d->temperature, d->top_p, d->seed, d->position, weights);
        if (got[i] == slow.token && got[i] == cpu)
            continue;
        differ++;
        if (slow.margin > (n + 1) * 0x1p-44)
            fail_msg("row %u of %u tokens: %u here, %u by sorting, %u on the cpu device; "
                     "temperature %g, top_p %g, the draw is %.3g from a boundary",
                     i, n, got[i], slow.token, cpu, (double)d->temperature, (double)d->top_p,
                     slow.margin);
    }
    device_free_all();
    return differ;
}

/* ---- greedy ---- */

static void test_greedy_takes_the_lowest_of_the_greatest(void **state)
{
    cop_rng rng = harness_rng(1);
    static const uint32_t vocabularies[] = {1, 2, 31, 33, 1000, 1024, 1025, 5003, 151936};
    for (int v = 0; v < 9; v++) {
        const uint32_t n = vocabularies[v];
        sample_case c = make_case(n, 3);
        uint32_t want[3];
        for (uint32_t r = 0; r < c.rows; r++) {
            float *row = row_of(&c, r);
            for (uint32_t i = 0; i < n; i++) /* few values: many are equal */
                row[i] = (float)between(&rng, 0, 300) - 400;
            uint32_t low = between(&rng, 0, n - 1), high = between(&rng, low, n - 1);
            row[low] = row[high] = r == 1 ? -0.0f : 0.0f;
            row[high] = r == 2 ? 0.0f : row[high];
            row[low] = r == 2 ? -0.0f : row[low]; /* the two zeros are equal */
            want[r] = low;
            c.draw[r].temperature = r == 0 ? 0 : r == 1 ? -1.0f : NAN;
        }
        const uint32_t *got = sample(&c);
        for (uint32_t r = 0; r < c.rows; r++)
            assert_int_equal(got[r], want[r]);
        device_free_all();
    }
}

static void test_nan_and_infinity(void **state)
{
    for (int greedy = 0; greedy < 2; greedy++)
        for (int top_p = 0; top_p < 2; top_p++) {
            sample_case c = make_case(300, 5);
            for (uint32_t r = 0; r < c.rows; r++) {
                c.draw[r].temperature = greedy ? 0 : 1;
                c.draw[r].top_p = top_p ? 0.9f : 1;
                for (uint32_t i = 0; i < 300; i++)
                    row_of(&c, r)[i] = i % 3 ? -INFINITY : r % 2 ? NAN : -NAN;
                row_of(&c, r)[17] = r < 2 ? 3 : r < 4 ? INFINITY : -FLT_MAX;
                row_of(&c, r)[16] = r < 4 ? -FLT_MAX : -INFINITY;
            }
            expect_tokens(&c, 17);
        }
    sample_case c = make_case(40, 2); /* nothing to choose by: any token, greedy the first */
    for (uint32_t i = 0; i < 40; i++) {
        row_of(&c, 0)[i] = NAN;
        row_of(&c, 1)[i] = -INFINITY;
    }
    sample(&c);
    device_free_all();
    c = make_case(40, 1);
    for (uint32_t i = 0; i < 40; i++)
        row_of(&c, 0)[i] = NAN;
    c.draw[0].temperature = 0;
    expect_tokens(&c, 0);
}

/* ---- drawn ---- */

/* Rows as models give them, flat ones, and ones of few values, so that ties are common. */
static void fill_row(float *row, uint32_t n, cop_rng *rng)
{
    const uint32_t kind = between(rng, 0, 3);
    const double spread = kind == 1 ? 0.01 : 3, mean = uniform(rng, 20);
    for (uint32_t i = 0; i < n; i++) {
        double x = mean + spread * cop_rng_normal(rng);
        row[i] = (float)(kind == 2 ? floor(x) : x);
    }
    if (kind == 3) /* a model that is sure */
        row[between(rng, 0, n - 1)] += 25;
}

static void randomise(sample_case *c, cop_rng *rng)
{
    static const float temperatures[] = {1, 1, 0.7f, 0.3f, 1.5f, 5, 0.01f};
    static const float shares[] = {1, 0.95f, 0.9f, 0.8f, 0.5f, 0.1f, 0.999f};
    for (uint32_t r = 0; r < c->rows; r++) {
        fill_row(row_of(c, r), c->shape.vocab, rng);
        c->draw[r] = (cop_cuda_draw){.temperature = temperatures[between(rng, 0, 6)],
                                     .top_p = shares[between(rng, 0, 6)],
                                     .position = (uint32_t)cop_rng_u64(rng),
                                     .seed = cop_rng_u64(rng)};
    }
}

static void test_same_tokens_as_the_cpu_device(void **state)
{
    cop_rng rng = harness_rng(2);
    int rows = 0, differ = 0;
    for (int i = 0; i < 24; i++) {
        sample_case c = make_case(between(&rng, 1, i % 2 ? 4000 : 100), 32);
        randomise(&c, &rng);
        differ += compare(&c, sample(&c));
        rows += 32;
    }
    print_message("%d of %d rows differ within rounding\n", differ, rows);
    assert_true(differ <= 2); /* see the head of this file: of 768, none is to be expected */
}

static void test_large_vocabularies(void **state)
{
    static const uint32_t vocabularies[] = {32000, 128256, 151936, MAX_VOCAB};
    cop_rng rng = harness_rng(3);
    int differ = 0;
    for (int v = 0; v < 4; v++) {
        sample_case c = make_case(vocabularies[v], 3);
        randomise(&c, &rng);
        differ += compare(&c, sample(&c));
    }
    assert_true(differ <= 1);
}

/* Logits that are all equal have equal shares, of which an even part is exact: the nucleus is the
 * first ids. All draws together fill it. */
static void test_ties_at_the_cut_go_by_id(void **state)
{
    enum { N = 64 };
    for (uint32_t kept = 1; kept <= N; kept *= 2) {
        sample_case c = make_case(N, MAX_ROWS);
        uint32_t greatest = 0;
        for (uint32_t r = 0; r < c.rows; r++) {
            for (uint32_t i = 0; i < N; i++)
                row_of(&c, r)[i] = r % 2 ? -0.0f : 5.5f;
            c.draw[r].top_p = (float)kept / N;
        }
        const uint32_t *got = sample(&c);
        for (uint32_t r = 0; r < c.rows; r++)
            greatest = got[r] > greatest ? got[r] : greatest;
        assert_in_range(greatest, kept - 1 - kept / 8, kept - 1);
        assert_true(compare(&c, got) == 0);
    }
}

static void test_edges_of_top_p(void **state)
{
    static const float shares[] = {0, -1, 1e-30f, FLT_MIN, 0.05f};
    sample_case c = make_case(50, 64);
    for (uint32_t r = 0; r < c.rows; r++) {
        for (uint32_t i = 0; i < 50; i++)
            row_of(&c, r)[i] = i == 20 || i == 30 ? 2 : 1; /* 0.0509 each */
        c.draw[r].top_p = shares[r % 5];
    }
    const uint32_t *got = sample(&c);
    for (uint32_t r = 0; r < c.rows; r++)
        assert_int_equal(got[r], 20); /* one token is always inside: of two equals the first */
    device_free_all();
    c = make_case(50, 64);
    for (uint32_t r = 0; r < c.rows; r++) { /* all of it: a cut at 1 or beyond is none */
        for (uint32_t i = 0; i < 50; i++)
            row_of(&c, r)[i] = (float)i / 10;
        c.draw[r].top_p = r % 2 ? 1 : r % 4 ? 3 : 0x1.fffffep-1f;
    }
    assert_true(compare(&c, sample(&c)) == 0);
}

/* 2221265 / 3204608 is ln 2 and 5e-14, so that weights are 1, 1/2 and 1/2 to their last place: half
 * of all is the first to the unit, and nothing more gets in. */
static void test_top_p_on_a_boundary(void **state)
{
    sample_case c = make_case(3, 40);
    for (uint32_t r = 0; r < c.rows; r++) {
        row_of(&c, r)[0] = row_of(&c, r)[2] = -2221265;
        row_of(&c, r)[1] = 0;
        c.draw[r].temperature = 3204608;
        c.draw[r].top_p = 0.5f;
    }
    expect_tokens(&c, 1);
}

static void test_extreme_temperatures(void **state)
{
    static const float cold[] = {1e-30f, FLT_TRUE_MIN, 0.001f}, hot[] = {1e30f, FLT_MAX, INFINITY};
    sample_case c = make_case(2000, 60);
    cop_rng rng = harness_rng(4);
    for (uint32_t r = 0; r < c.rows; r++) {
        fill_row(row_of(&c, r), 2000, &rng);
        row_of(&c, r)[1234] = 1000;
        c.draw[r].temperature = cold[r % 3];
        c.draw[r].top_p = r % 2 ? 1 : 0.9f;
    }
    expect_tokens(&c, 1234);
    c = make_case(2000, 60);
    int upper = 0;
    for (uint32_t r = 0; r < c.rows; r++) {
        for (uint32_t i = 0; i < 2000; i++)
            row_of(&c, r)[i] = i < 1000 ? 1e4f : -1e4f;
        row_of(&c, r)[1999] = -INFINITY;
        c.draw[r].temperature = hot[r % 3];
    }
    const uint32_t *got = sample(&c);
    for (uint32_t r = 0; r < c.rows; r++) {
        assert_int_not_equal(got[r], 1999);
        upper += got[r] >= 1000;
    }
    assert_in_range(upper, 10, 50); /* of 60: uniform, 30 +- 4 */
    device_free_all();
}

/* Chi-squared over many draws, ties at the cut included. */
static void check_distribution(float temperature, float top_p)
{
    enum { N = 64, LAUNCHES = 8 };
    int seen[N] = {0}, kinds = 0;
    double p[N] = {0}, kept = 0, total = 0, sum = 0, chi = 0;
    uint32_t order[N];
    float logits[N];
    for (uint32_t i = 0; i < N; i++) {
        order[i] = i;
        logits[i] = (float)(i * 37 % 16) / 4 - 2; /* every value four times */
        total += exp(logits[i] / (double)temperature);
    }
    sort_logits = logits;
    qsort(order, N, sizeof *order, by_logit);
    for (int i = 0; i < N && sum < top_p * total; i++) {
        sum += p[order[i]] = exp(logits[order[i]] / (double)temperature);
        kept = sum;
    }
    for (uint32_t launch = 0; launch < LAUNCHES; launch++) {
        sample_case c = make_case(N, MAX_ROWS);
        for (uint32_t r = 0; r < c.rows; r++) {
            memcpy(row_of(&c, r), logits, sizeof logits);
            c.draw[r] = (cop_cuda_draw){.temperature = temperature,
                                        .top_p = top_p,
                                        .position = launch * MAX_ROWS + r,
                                        .seed = 3};
        }
        const uint32_t *got = sample(&c);
        for (uint32_t r = 0; r < c.rows; r++)
            seen[got[r]]++;
        device_free_all();
    }
    for (int i = 0; i < N; i++) {
        double expected = p[i] / kept * LAUNCHES * MAX_ROWS;
        if (expected == 0)
            assert_int_equal(seen[i], 0);
        else
            chi += (seen[i] - expected) * (seen[i] - expected) / expected;
        kinds += expected > 0;
    }
    assert_true(chi < kinds - 1 + 5 * sqrt(2.0 * (kinds - 1)) + 5);
}

static void test_draws_follow_the_nucleus(void **state)
{
    check_distribution(1, 1);
    check_distribution(0.5f, 0.9f);
    check_distribution(1, 0.43f);
}

static void test_bad_arguments(void **state)
{
    cop_cuda_batch batch = {0};
    cop_cuda_shape shape = {.vocab = 0};
    assert_int_equal(cop_cuda_sample(&shape, &batch, 0, NULL, 0, NULL, NULL, NULL), cudaSuccess);
    assert_int_equal(cop_cuda_sample(&shape, &batch, 1, NULL, 0, NULL, NULL, NULL),
                     cudaErrorInvalidValue);
    shape.vocab = 1 << 20;
    assert_int_equal(cop_cuda_sample(&shape, &batch, 1, NULL, 1 << 20, NULL, NULL, NULL),
                     cudaErrorInvalidValue);
}

int main(void)
{
    harness_device_or_skip();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_lowest_of_the_greatest),
        cmocka_unit_test(test_nan_and_infinity),
        cmocka_unit_test(test_same_tokens_as_the_cpu_device),
        cmocka_unit_test(test_large_vocabularies),
        cmocka_unit_test(test_ties_at_the_cut_go_by_id),
        cmocka_unit_test(test_edges_of_top_p),
        cmocka_unit_test(test_top_p_on_a_boundary),
        cmocka_unit_test(test_extreme_temperatures),
        cmocka_unit_test(test_draws_follow_the_nucleus),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
