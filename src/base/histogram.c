#include "base/histogram.h"

/* Values under 32 have a bucket each. Above, octave o >= 1 covers [32 << (o-1), 64 << (o-1)) and a
 * bucket holds the values that share their leading one and the five bits after it. */
static uint32_t bucket_of(uint64_t v)
{
    if (v < COP_HISTOGRAM_STEPS)
        return (uint32_t)v;
    uint32_t shift = 58 - (uint32_t)__builtin_clzll(v);
    return (shift + 1) * COP_HISTOGRAM_STEPS + (uint32_t)(v >> shift) - COP_HISTOGRAM_STEPS;
}

static uint64_t value_of(uint32_t bucket)
{
    uint32_t octave = bucket / COP_HISTOGRAM_STEPS, step = bucket % COP_HISTOGRAM_STEPS;
    return octave == 0 ? step : (uint64_t)(step + COP_HISTOGRAM_STEPS) << (octave - 1);
}

void cop_histogram_add(cop_histogram *h, uint64_t value)
{
    h->count++;
    h->sum += value;
    if (value > h->max)
        h->max = value;
    h->buckets[bucket_of(value)]++;
}

uint64_t cop_histogram_quantile(const cop_histogram *h, double q)
{
    uint64_t rank = (uint64_t)(q * (double)h->count), seen = 0;
    if (rank >= h->count)
        return h->max;
    for (uint32_t i = 0; i < COP_HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > rank)
            return value_of(i);
    }
    return h->max;
}
