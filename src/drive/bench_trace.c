/* Trace reading, one core: every line scanned and checked, against reading the same bytes alone
 * (counting newlines with memchr, which must look at each). All from the page cache, in 10^6 bytes
 * a second; see bench_rate.h. */
#include "base/alloc.h"
#include "base/clock.h"
#include "drive/bench.h"
#include "drive/bench_rate.h"
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
} reading;

static cop_status pass_bytes(void *subject, cop_error *err)
{
    reading *s = subject;
    const char *p = s->text, *end = s->text + s->bytes;
    s->lines = end[-1] != '\n'; /* the last one may have no newline */
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
        s->lines++;
        p++;
    }
    return COP_OK;
}

static cop_status keep_counts(reading *s, cop_status status, cop_mooncake *trace)
{
    if (status != COP_OK)
        return status;
    s->requests = trace->row_count;
    s->ids = trace->id_count;
    cop_mooncake_fini(trace);
    return COP_OK;
}

static cop_status pass_memory(void *subject, cop_error *err)
{
    reading *s = subject;
    cop_mooncake trace;
    cop_status status =
        cop_mooncake_parse(&trace, s->path, s->text, s->bytes, s->limit, s->skip_bad_lines, err);
    return keep_counts(s, status, &trace);
}

static cop_status pass_file(void *subject, cop_error *err)
{
    reading *s = subject;
    cop_mooncake trace;
    cop_status status = cop_mooncake_read(&trace, s->path, s->limit, s->skip_bad_lines, err);
    return keep_counts(s, status, &trace);
}

/* The part of the file that the reader consumes (all of it, without a limit). */
static cop_status load(reading *s, cop_error *err)
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
        cop_bench_pass run;
    } passes[] = {{"bytes alone (memchr)", pass_bytes},
                  {"scan and check, memory", pass_memory},
                  {"scan and check, file", pass_file}};
    enum { PASSES = sizeof passes / sizeof *passes };
    reading s = {.path = cfg->workload_path,
                 .limit = (uint64_t)cfg->workload_limit,
                 .skip_bad_lines = cfg->workload_skip_bad_lines};
    double mb_s[PASSES];
    cop_status status = load(&s, err);
    const cop_bench_rate_options options = {s.bytes, (size_t)cfg->bench_repeats, repetition_ns};
    for (int i = 0; i < PASSES && status == COP_OK; i++)
        status = cop_bench_rate(&options, passes[i].run, &s, &mb_s[i], err);
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
