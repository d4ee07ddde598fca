/* How fast a pass over some bytes is, for the benches of readers: a repetition makes passes for
 * `repetition_ns` and keeps its fastest, so that what else the machine does weighs little; the
 * median of the repetitions is the result. */
#ifndef COP_DRIVE_BENCH_RATE_H
#define COP_DRIVE_BENCH_RATE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef cop_status (*cop_bench_pass)(void *subject, cop_error *err);

typedef struct {
    size_t bytes, repeats; /* bytes of one pass; repeats >= 1 */
    int64_t repetition_ns;
} cop_bench_rate_options;

/* *mb_s: 10^6 bytes a second. The error of a pass ends it. */
cop_status cop_bench_rate(const cop_bench_rate_options *options, cop_bench_pass pass, void *subject,
                          double *mb_s, cop_error *err);

#endif
