#include "drive/bench_rate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/median.h"

#include <stdlib.h>

static cop_status fastest_pass(cop_bench_pass pass, void *subject, int64_t repetition_ns,
                               int64_t *fastest_ns, cop_error *err)
{
    int64_t start_ns = cop_clock_ns(), begin_ns, end_ns = start_ns;
    *fastest_ns = INT64_MAX;
    do {
        begin_ns = end_ns;
        cop_status status = pass(subject, err);
        if (status != COP_OK)
            return status;
        end_ns = cop_clock_ns();
        *fastest_ns = end_ns - begin_ns < *fastest_ns ? end_ns - begin_ns : *fastest_ns;
    } while (end_ns - start_ns < repetition_ns);
    *fastest_ns = *fastest_ns ? *fastest_ns : 1;
    return COP_OK;
}

cop_status cop_bench_rate(const cop_bench_rate_options *options, cop_bench_pass pass, void *subject,
                          double *mb_s, cop_error *err)
{
    COP_CHECK(options->repeats >= 1);
    double *rates = cop_malloc(options->repeats * sizeof *rates);
    cop_status status = COP_OK;
    for (size_t i = 0; i < options->repeats && status == COP_OK; i++) {
        int64_t fastest_ns = 1;
        status = fastest_pass(pass, subject, options->repetition_ns, &fastest_ns, err);
        rates[i] = (double)options->bytes * 1e3 / (double)fastest_ns;
    }
    if (status == COP_OK)
        *mb_s = cop_median(rates, options->repeats);
    free(rates);
    return status;
}
