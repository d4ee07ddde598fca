#include "base/rng.h"

#include <math.h>

uint64_t cop_splitmix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void cop_rng_init(cop_rng *rng, uint64_t seed, uint64_t stream)
{
    uint64_t x = cop_splitmix64(seed) ^ cop_splitmix64(~stream);
    for (int i = 0; i < 4; i++)
        rng->s[i] = cop_splitmix64(x + (uint64_t)i * 0x9e3779b97f4a7c15u);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t cop_rng_u64(cop_rng *rng)
{
    uint64_t *s = rng->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t cop_rng_below(cop_rng *rng, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do
        x = cop_rng_u64(rng);
    while (x >= limit);
    return x % n;
}

double cop_rng_double(cop_rng *rng)
{
    return (double)(cop_rng_u64(rng) >> 11) * 0x1p-53;
}

double cop_rng_exponential(cop_rng *rng, double mean)
{
    return -mean * log1p(-cop_rng_double(rng));
}

double cop_rng_normal(cop_rng *rng)
{
    double u = 1.0 - cop_rng_double(rng), v = cop_rng_double(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

double cop_rng_gamma(cop_rng *rng, double shape, double scale)
{
    if (shape < 1.0) {
        double u = 1.0 - cop_rng_double(rng);
        return cop_rng_gamma(rng, shape + 1.0, scale) * pow(u, 1.0 / shape);
    }
    double d = shape - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = cop_rng_normal(rng), v = 1.0 + c * x;
        if (v <= 0.0)
            continue;
        v = v * v * v;
        double u = 1.0 - cop_rng_double(rng);
        if (log(u) < 0.5 * x * x + d * (1.0 - v + log(v)))
            return d * v * scale;
    }
}
