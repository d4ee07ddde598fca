/* Histogram of non-negative integers with a relative error under 3.2 % (32 linear steps in each
 * power of two, as HdrHistogram does). Constant memory, no allocation: for live p50/p99. */
#ifndef COP_BASE_HISTOGRAM_H
#define COP_BASE_HISTOGRAM_H

#include <stdint.h>

enum { COP_HISTOGRAM_STEPS = 32, COP_HISTOGRAM_BUCKETS = COP_HISTOGRAM_STEPS * 60 };

typedef struct {
    uint64_t count, sum, max;
    uint64_t buckets[COP_HISTOGRAM_BUCKETS];
} cop_histogram; /* zero-initialise */

void cop_histogram_add(cop_histogram *h, uint64_t value);

/* Smallest value of the bucket that holds quantile q in [0, 1]; 0 if empty. */
uint64_t cop_histogram_quantile(const cop_histogram *h, double q);

#endif
