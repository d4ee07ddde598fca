/* From a row of logits to a token. Greedy takes the lowest id of the greatest logit. Otherwise a
 * token is drawn from softmax(logits / temperature), cut to the nucleus: the most probable tokens
 * whose probabilities first add up to top_p, the lower id first among equals (Holtzman et al.).
 * Sums go in the order of ids, so a draw is a function of (logits, seed, position). */
#include "base/hash.h"
#include "base/request.h"
#include "base/rng.h"
#include "device/cpu.h"

#include <math.h>
#include <string.h>

static uint32_t greatest(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Order of floats as order of integers. */
static uint32_t sortable(float x)
{
    uint32_t u;
    x += 0.0f; /* the two zeros are equal */
    memcpy(&u, &x, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

typedef struct {
    uint32_t key, equal; /* in: logits above `key`, and the first `equal` tokens that have it */
    double inside;       /* their weight */
} nucleus;

/* Adds up, for the logits whose key agrees with `prefix` under `mask`, the weights in each of the
 * 256 buckets of the next byte; returns the bucket in which the sum from the top reaches `limit`.
 * Rounding may leave `limit` a hair beyond the last one: then that one. */
static uint32_t select_byte(const float *logits, const double *weights, uint32_t n, uint32_t prefix,
                            uint32_t mask, int shift, double limit, double *above)
{
    double bucket[256] = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = sortable(logits[i]);
        if ((key & mask) == prefix)
            bucket[(key >> shift) & 255] += weights[i];
    }
    uint32_t chosen = 255;
    double before = *above, sum = *above;
    for (int b = 255; b >= 0 && sum < limit; b--) {
        if (bucket[b] == 0)
            continue;
        chosen = (uint32_t)b;
        before = sum;
        sum += bucket[b];
    }
    *above = before;
    return chosen;
}

/* Radix select, a byte at a time from the top: linear in n, where sorting a vocabulary is not. */
static nucleus find_nucleus(const float *logits, const double *weights, uint32_t n, double limit)
{
    nucleus cut = {0};
    uint32_t mask = 0;
    double above = 0, each = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        cut.key |= select_byte(logits, weights, n, cut.key, mask, shift, limit, &above) << shift;
        mask |= 255u << shift;
    }
    for (uint32_t i = 0; i < n && each == 0; i++)
        if (sortable(logits[i]) == cut.key)
            each = weights[i];
    cut.equal = (uint32_t)fmax(1, ceil((limit - above) / each));
    cut.inside = above + cut.equal * each;
    return cut;
}

/* The token at which the running weight of the nucleus passes u, in order of ids. */
static uint32_t walk(const float *logits, const double *weights, uint32_t n, nucleus cut, double u)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = sortable(logits[i]);
        if (key < cut.key || (key == cut.key && cut.equal == 0))
            continue;
        cut.equal -= key == cut.key;
        last = i;
        u -= weights[i];
        if (u < 0)
            return i;
    }
    return last;
}

uint32_t cop_sample(const float *logits, uint32_t n, float temperature, float top_p, uint64_t seed,
                    uint32_t position, double *weights)
{
    uint32_t best = greatest(logits, n);
    if (temperature <= 0)
        return best;
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        weights[i] = exp(((double)logits[i] - logits[best]) / temperature);
        total += weights[i];
    }
    nucleus cut = {.equal = n, .inside = total};
    if (top_p < 1)
        cut = find_nucleus(logits, weights, n, top_p * total);
    uint64_t bits = cop_splitmix64(cop_splitmix64(seed) ^ position);
    return walk(logits, weights, n, cut, (double)(bits >> 11) * 0x1p-53 * cut.inside);
}

static void sample_task(void *ctx, uint32_t i, uint32_t thread)
{
    cop_device *d = ctx;
    const uint32_t index = d->sampled_sequence[i], vocab = d->g.vocab;
    const cop_sequence *s = &d->batch.sequences[index];
    const float *logits = d->logits + (size_t)i * d->padded_vocab;
    d->result.tokens[index] = cop_sample(logits, vocab, s->temperature, s->top_p, s->sample_seed,
                                         s->start + s->count, d->scratch[thread].weights);
    if (d->options.logits_digest)
        d->result.digests[index] = cop_hash(logits, vocab * sizeof *logits, 0);
}

void cop_cpu_sample(cop_device *d)
{
    for (uint32_t i = 0; i < d->batch.count; i++) {
        d->result.tokens[i] = COP_NO_TOKEN;
        d->result.digests[i] = 0;
    }
    d->result.logits = d->logits;
    d->result.logits_stride = d->padded_vocab;
    cop_pool_for(d->pool, d->sampled, sample_task, d);
}
