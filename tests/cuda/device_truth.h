/* Logits of the cpu device in float32, and how far those of the CUDA device may be from them.
 *
 * As tests/oracles/transformer.py derives it for the cpu device, with the roundings of this one.
 * Rounding to 8 bits errs by anything up to 2^-8 of the power of two below a value; for values m
 * 2^e whose m are spread as 1 / m over [1, 2), as they are over many magnitudes, that is a relative
 * error of RMS 2^-8 / sqrt(3) * sqrt(E[1 / m^2]), E[1 / m^2] = 3 / (8 ln 2). On the way to a logit
 * a layer has 14 roundings in a row or side by side: normalised input, q and k twice (as products
 * and turned), v, probabilities, attention's output and what it adds; normalised input, gate, up,
 * SwiGLU's output and what it adds. One more stands before the head. Independent errors add as
 * squares, so sqrt(14 layers + 1) of one, if each reached the residual stream at full weight; a
 * factor of 2 stands for what the sum leaves out (exponentials, products of two values with
 * errors). The bound is on the RMS of the error of a row of logits relative to the RMS of the row;
 * a single logit may be off by three times as much. */
#ifndef COP_TESTS_CUDA_DEVICE_TRUTH_H
#define COP_TESTS_CUDA_DEVICE_TRUTH_H

#include "device_harness.h"

#include "base/hash.h"

enum { SEED = 5 };

/* RMS of the relative error of a rounding, and of a logit after so many in each layer. */
static inline double rounding_error(void)
{
    return 0x1p-8 / sqrt(3) * sqrt(3 / (8 * log(2)));
}

static inline double logit_error(uint32_t layers, double roundings)
{
    return 2 * rounding_error() * sqrt(roundings * layers + 1);
}

enum { ROUNDINGS = 14, ROUNDINGS_CPU = 8 };

/* Logits of every position of a prompt, one row each, by the cpu device in float32. */
typedef struct {
    const cop_geometry *g;
    cop_seeded_weights weights;
    uint32_t tokens[TOKENS];
    float *logits; /* [TOKENS][vocab] */
    double bound;  /* of the RMS error, relative */
    double worst;  /* what was found, relative to the bound */
} truth;

static inline void make_truth(truth *t, const cop_geometry *g)
{
    uint32_t blocks[BLOCKS];
    *t = (truth){.g = g, .weights = {.geometry = g, .seed = SEED}};
    t->bound = logit_error(g->layers, ROUNDINGS);
    t->logits = cop_malloc(sizeof(float) * TOKENS * g->vocab);
    make_prompt(t->tokens, g->vocab, 0);
    make_table(blocks, 0);
    cop_device_options options = options_of(&t->weights, 16);
    options.float32 = true;
    cop_device *device = open_with(&cop_device_cpu, &options);
    for (uint32_t i = 0; i < TOKENS; i++) {
        cop_sequence s = part_of(t->tokens, i, 1, blocks);
        cop_step_result r = step(&cop_device_cpu, device, &s, 1);
        memcpy(t->logits + (size_t)i * g->vocab, r.logits, g->vocab * sizeof(float));
    }
    cop_device_cpu.close(device);
}

static inline void free_truth(truth *t)
{
    print_message("%s: greatest RMS error %.2f of its bound %.3g\n", t->g->name, t->worst,
                  t->bound);
    free(t->logits);
}

static inline uint32_t greatest(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Row `row` of a result is that of this position, and the greedy token the one it says: the true
 * one, unless the two are so near that rounding may have turned them round. */
static inline void expect_row(truth *t, const cop_step_result *r, uint32_t sequence, uint32_t row,
                              uint32_t position, const char *what)
{
    const uint32_t vocab = t->g->vocab;
    const float *got = r->logits + row * r->logits_stride;
    const float *want = t->logits + (size_t)position * vocab;
    double squares = 0, errors = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        squares += (double)want[i] * want[i];
        errors += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
    }
    const double rms = sqrt(squares / vocab), allowed = t->bound * rms;
    const double error = sqrt(errors / vocab);
    if (!(error <= allowed))
        fail_msg("%s, %s: RMS error %.3g at position %u, allowed %.3g", t->g->name, what, error,
                 position, allowed);
    t->worst = fmax(t->worst, error / allowed);
    for (uint32_t i = 0; i < vocab; i++)
        expect_near(got[i], want[i], 3 * allowed, what, position, i);
    const uint32_t token = greatest(got, vocab), true_token = greatest(want, vocab);
    assert_int_equal(r->tokens[sequence], token);
    assert_true(want[true_token] - want[token] <= 2 * 3 * allowed);
    assert_true(r->digests[sequence] == cop_hash(got, vocab * sizeof *got, 0));
}

static inline void prefill(truth *t, cop_device *device, const uint32_t *blocks, uint32_t from,
                           uint32_t to, uint32_t chunk, const char *what)
{
    for (uint32_t start = from; start < to; start += chunk) {
        uint32_t count = to - start < chunk ? to - start : chunk;
        cop_sequence s = part_of(t->tokens, start, count, blocks);
        cop_step_result r = step(cuda, device, &s, 1);
        expect_row(t, &r, 0, 0, start + count - 1, what);
    }
}

#endif
