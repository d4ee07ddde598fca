/* Seeded random numbers: xoshiro256** (Blackman and Vigna), seeded through splitmix64.
 * State is a field of whoever draws, one stream per subsystem, so that two subsystems never
 * disturb each other's sequence. Streams of one seed differ by `stream`. */
#ifndef COP_BASE_RNG_H
#define COP_BASE_RNG_H

#include <stdint.h>

typedef struct {
    uint64_t s[4];
} cop_rng;

void cop_rng_init(cop_rng *rng, uint64_t seed, uint64_t stream);
uint64_t cop_rng_u64(cop_rng *rng);
uint64_t cop_rng_below(cop_rng *rng, uint64_t n); /* uniform in [0, n), n >= 1, unbiased */
double cop_rng_double(cop_rng *rng);              /* uniform in [0, 1) */
double cop_rng_exponential(cop_rng *rng, double mean);
double cop_rng_normal(cop_rng *rng);                            /* mean 0, variance 1 */
double cop_rng_gamma(cop_rng *rng, double shape, double scale); /* shape > 0 (Marsaglia, Tsang) */

uint64_t cop_splitmix64(uint64_t x); /* the finaliser alone: a good 64-bit mixing function */

#endif
