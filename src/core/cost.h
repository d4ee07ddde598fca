/* The cost model: how long an engine step and a transfer take. Linear, fitted from measurements.
 *
 *     step     = step_ns + per_token_ns * tokens + per_pair_ns * pairs
 *     transfer = link_alpha_ns + link_beta_ns * bytes
 *
 * tokens: computed in the step; pairs: attended (query, key) pairs, sum over the computed tokens of
 * their positions + 1, so that deep tokens cost more. Times in ns. A worker's `speed` (observed
 * over predicted step time, an exponential mean) follows contention that the probe did not see. */
#ifndef COP_CORE_COST_H
#define COP_CORE_COST_H

#include <stdint.h>

typedef struct {
    double step_ns, per_token_ns, per_pair_ns;
    double link_alpha_ns, link_beta_ns;
    double block_bytes;
    uint32_t block_tokens, chunk_tokens;
} cop_cost;

/* Pairs attended by `count` tokens that follow `start` tokens. */
double cop_cost_pairs(uint64_t start, uint64_t count);

/* Prefill of a prompt of `prompt` tokens of which `cached` are held: P(L, m) of the literature. */
double cop_cost_prefill_ns(const cop_cost *cost, uint64_t prompt, uint64_t cached);

double cop_cost_transfer_ns(const cop_cost *cost, uint64_t blocks);

/* Least squares of (tokens, pairs) -> ns over n >= 3 samples, all coefficients >= 0 (a coefficient
 * that comes out negative is fixed at 0 and the others are fitted again). */
void cop_cost_fit(cop_cost *cost, const double *tokens, const double *pairs, const double *ns,
                  uint32_t n);

#endif
