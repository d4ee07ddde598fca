/* Trace reading, one core: every line scanned and checked, against reading the same bytes alone
 * (counting newlines with memchr, which must look at each). All from the page cache, in 10^6 bytes
 * a second. A repetition makes passes for 50 ms and keeps its fastest, so that what else the
 * machine does weighs little; the median of bench.repeats such repetitions is printed. */
#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/median.h"
#include "drive/bench.h"
#include "workload/mooncake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const int64_t repetition_ns = 50 * COP_NS_PER_MS;

typedef struct {
    const char *path;
    char *text;
    size_t bytes;
    uint64_t limit;
    bool skip_bad_lines;
    size_t lines, requests, ids; /* set by the passes */
} subject;

typedef cop_status (*pass)(subject *s, cop_error *err);

static cop_status pass_bytes(subject *s, cop_error *err)
{
    const char *p = s->text, *end = s->text + s->bytes;
    s->lines = end[-1] != '\n'; /* the last one may have no newline */
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        s->lines++;
        p++;
    }
    return COP_OK;
}

static cop_status keep_counts(subject *s, cop_status status, cop_mooncake *trace)
{
    if (status != COP_OK)
        return status;
    s->requests = trace->row_count;
    s->ids = trace->id_count;
    cop_mooncake_fini(trace);
    return COP_OK;
}

static cop_status pass_memory(subject *s, cop_error *err)
{
    cop_mooncake trace;
    cop_status status =
        cop_mooncake_parse(&trace, s->path, s->text, s->bytes, s->limit, s->skip_bad_lines, err);
    return keep_counts(s, status, &trace);
}

static cop_status pass_file(subject *s, cop_error *err)
{
    cop_mooncake trace;
    cop_status status = cop_mooncake_read(&trace, s->path, s->limit, s->skip_bad_lines, err);
    return keep_counts(s, status, &trace);
}

/* One repetition: ns of its fastest pass. */
static cop_status repeat(subject *s, pass run, int64_t *fastest_ns, cop_error *err)
{
    int64_t start_ns = cop_clock_ns(), begin_ns = start_ns, end_ns = start_ns;
    *fastest_ns = INT64_MAX;
    do {
        begin_ns = end_ns;
        cop_status status = run(s, err);
        if (status != COP_OK)
            return status;
        end_ns = cop_clock_ns();
        *fastest_ns = end_ns - begin_ns < *fastest_ns ? end_ns - begin_ns : *fastest_ns;
    } while (end_ns - start_ns < repetition_ns);
    *fastest_ns = *fastest_ns ? *fastest_ns : 1;
    return COP_OK;
}

/* MB/s of `run` over the subject's bytes: the median repetition. */
static cop_status measure(subject *s, pass run, size_t repeats, double *mb_s, cop_error *err)
{
    COP_CHECK(repeats >= 1);
    double *rates = cop_malloc(repeats * sizeof *rates);
    cop_status status = COP_OK;
    for (size_t i = 0; i < repeats && status == COP_OK; i++) {
        int64_t fastest_ns = 1;
        status = repeat(s, run, &fastest_ns, err);
        rates[i] = (double)s->bytes * 1e3 / (double)fastest_ns;
    }
    if (status == COP_OK)
        *mb_s = cop_median(rates, repeats);
    free(rates);
    return status;
}

/* The part of the file that the reader consumes (all of it, without a limit). */
static cop_status load(subject *s, cop_error *err)
{
    cop_mooncake trace;
    cop_status status = cop_mooncake_read(&trace, s->path, s->limit, s->skip_bad_lines, err);
    if (status != COP_OK)
        return status;
    s->bytes = trace.bytes;
    cop_mooncake_fini(&trace);
    FILE *file = fopen(s->path, "rb");
    if (!file)
        return cop_fail(err, COP_ERR_IO, "%s: %s", s->path, strerror(errno));
    void *text;
    status = cop_alloc_large(&text, s->bytes, "the text of a trace", err);
    if (status == COP_OK) {
        s->text = text;
        if (fread(text, 1, s->bytes, file) != s->bytes)
            status = cop_fail(err, COP_ERR_IO, "%s: cannot be read a second time", s->path);
    }
    fclose(file);
    return status;
}

cop_status cop_bench_trace(const cop_config *cfg, FILE *out, cop_error *err)
{
    static const struct {
        const char *name;
        pass run;
    } passes[] = {{"bytes alone (memchr)", pass_bytes},
                  {"scan and check, memory", pass_memory},
                  {"scan and check, file", pass_file}};
    enum { PASSES = sizeof passes / sizeof *passes };
    subject s = {.path = cfg->workload_path,
                 .limit = (uint64_t)cfg->workload_limit,
                 .skip_bad_lines = cfg->workload_skip_bad_lines};
    double mb_s[PASSES];
    cop_status status = load(&s, err);
    for (int i = 0; i < PASSES && status == COP_OK; i++)
        status = measure(&s, passes[i].run, (size_t)cfg->bench_repeats, &mb_s[i], err);
    if (status == COP_OK) {
        fprintf(out, "%s: %zu bytes, %zu lines, %zu requests, %zu block ids; median of %lld\n",
                s.path, s.bytes, s.lines, s.requests, s.ids, (long long)cfg->bench_repeats);
        fprintf(out, "%-24s %10s %12s %10s\n", "", "MB/s", "requests/s", "of bound");
        for (int i = 0; i < PASSES; i++)
            fprintf(out, "%-24s %10.0f %12.3g %10.3f\n", passes[i].name, mb_s[i],
                    mb_s[i] * 1e6 / (double)s.bytes * (double)s.requests, mb_s[i] / mb_s[0]);
    }
    cop_free_large(s.text, s.bytes);
    return status;
}
