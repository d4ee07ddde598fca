/* `coppice bench prefill` and `bench decode`. Each repetition measures the bound and the work one
 * after the other, so that a noisy neighbour hits both; the share printed is the median of the
 * shares of the repetitions. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/median.h"
#include "base/rng.h"
#include "drive/bench.h"
#include "drive/setup.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const cop_device_ops *ops;
    cop_device *device;
    cop_weights *weights;
    const cop_geometry *geometry; /* of the weights */
    uint32_t prompt, capacity;    /* tokens of the prompt; tokens that the table holds */
    uint32_t *tokens, *blocks;
    double weight_bytes;
} bench;

/* A figure over the repetitions. */
typedef struct {
    double *values;
    size_t count;
} series;

static double median(series *s)
{
    return cop_median(s->values, s->count);
}

static void series_add(series *s, double value)
{
    s->values[s->count++] = value;
}

static void series_init(series *all, size_t count, size_t repeats)
{
    for (size_t i = 0; i < count; i++)
        all[i] = (series){.values = cop_calloc(repeats, sizeof(double))};
}

static void series_fini(series *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(all[i].values);
}

static void bench_close(bench *b)
{
    if (b->device)
        b->ops->close(b->device);
    cop_weights_close(b->weights);
    free(b->tokens);
    free(b->blocks);
}

static cop_status bench_open(bench *b, const cop_config *cfg, cop_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t threads =
        cfg->device_threads ? (uint32_t)cfg->device_threads : (uint32_t)(cores > 0 ? cores : 1);
    cop_device_options options;
    *b = (bench){.prompt = (uint32_t)cfg->bench_tokens};
    cop_status status = cop_device_find(cfg->device_kind, &b->ops, err);
    if (status == COP_OK)
        status = cop_setup_weights(&b->weights, cfg, err);
    if (status != COP_OK)
        return status;
    cop_setup_device(&options, cfg, b->weights, threads);
    if (b->prompt >= options.geometry->max_context)
        return cop_fail(err, COP_ERR_INVALID,
                        "bench.tokens=%u leaves no room for one more token: the context of '%s' "
                        "ends at %u",
                        b->prompt, options.geometry->name, options.geometry->max_context);
    options.blocks = b->prompt / options.block_tokens + 1; /* room for the token after it */
    options.max_batch_tokens = b->prompt;
    options.max_sequences = 1;
    status = b->ops->open(&b->device, &options, err);
    if (status != COP_OK)
        return status;
    b->geometry = options.geometry;
    b->capacity = options.blocks * options.block_tokens;
    b->tokens = cop_calloc(b->capacity, sizeof *b->tokens);
    b->blocks = cop_calloc(options.blocks, sizeof *b->blocks);
    cop_rng rng;
    cop_rng_init(&rng, (uint64_t)cfg->seed, 1);
    for (uint32_t i = 0; i < b->capacity; i++)
        b->tokens[i] = (uint32_t)cop_rng_below(&rng, b->geometry->vocab);
    for (uint32_t i = 0; i < options.blocks; i++)
        b->blocks[i] = i;
    return COP_OK;
}

/* Tokens [start, start + count); *ns is what the compute took. */
static cop_status bench_step(bench *b, uint32_t start, uint32_t count, int64_t *ns, cop_error *err)
{
    cop_sequence s = {.tokens = b->tokens + start,
                      .start = start,
                      .count = count,
                      .blocks = b->blocks,
                      .sample = true};
    cop_batch batch = {.count = 1, .sequences = &s};
    cop_step_result result;
    cop_status status = b->ops->submit(b->device, &batch, err);
    if (status != COP_OK)
        return status;
    bool done;
    b->ops->wait(b->device);
    status = b->ops->poll(b->device, &result, &done, err);
    *ns = status == COP_OK ? result.ended_ns - result.started_ns : 0;
    return status;
}

static cop_status probe(const bench *b, cop_probe_kind kind, cop_probe *out, cop_error *err)
{
    return b->ops->probe(b->device, kind, b->prompt, 0, out, err);
}

enum { PEAK_1, PEAK, LINEAR, LINEAR_SHARE, WHOLE, WHOLE_SHARE, PREFILL_SERIES };

static cop_status measure_prefill(bench *b, series *s, cop_error *err)
{
    cop_probe one, all, linear;
    int64_t ns;
    cop_status status = probe(b, COP_PROBE_PEAK_1, &one, err);
    if (status == COP_OK)
        status = probe(b, COP_PROBE_PEAK, &all, err);
    if (status == COP_OK)
        status = probe(b, COP_PROBE_LINEAR, &linear, err);
    if (status == COP_OK)
        status = bench_step(b, 0, b->prompt, &ns, err);
    if (status != COP_OK)
        return status;
    double peak = all.work / (double)all.ns, lin = linear.work / (double)linear.ns;
    double whole = cop_geometry_work(b->geometry, 0, b->prompt) / (double)ns;
    series_add(&s[PEAK_1], one.work / (double)one.ns);
    series_add(&s[PEAK], peak);
    series_add(&s[LINEAR], lin);
    series_add(&s[LINEAR_SHARE], 100 * lin / peak);
    series_add(&s[WHOLE], whole);
    series_add(&s[WHOLE_SHARE], 100 * whole / peak);
    return COP_OK;
}

static void print_prefill(bench *b, series *s, FILE *out)
{
    double linear_work = 2.0 * (double)cop_geometry_linear_weights(b->geometry);
    double linear = median(&s[LINEAR]), whole = median(&s[WHOLE]), peak = median(&s[PEAK]);
    fprintf(out, "%s, %s: prefill of %u tokens, medians of %zu\n", b->geometry->name,
            b->ops->describe(b->device), b->prompt, s[PEAK].count);
    fprintf(out, "%-26s %10s %10s %10s\n", "", "tokens/s", "GFLOP/s", "% of peak");
    fprintf(out, "%-26s %10s %10.1f\n", "peak, 1 thread", "", median(&s[PEAK_1]));
    fprintf(out, "%-26s %10.1f %10.1f %10.1f\n", "peak, all threads", peak * 1e9 / linear_work,
            peak, 100.0);
    fprintf(out, "%-26s %10.1f %10.1f %10.1f\n", "linear layers alone", linear * 1e9 / linear_work,
            linear, median(&s[LINEAR_SHARE]));
    fprintf(out, "%-26s %10.1f %10.1f %10.1f\n", "whole prefill",
            b->prompt * whole * 1e9 / cop_geometry_work(b->geometry, 0, b->prompt), whole,
            median(&s[WHOLE_SHARE]));
}

cop_status cop_bench_prefill(const cop_config *cfg, FILE *out, cop_error *err)
{
    bench b;
    series s[PREFILL_SERIES];
    int64_t warm_up;
    series_init(s, PREFILL_SERIES, (size_t)cfg->bench_repeats);
    cop_status status = bench_open(&b, cfg, err);
    if (status == COP_OK)
        status = bench_step(&b, 0, b.prompt, &warm_up, err);
    for (int64_t i = 0; i < cfg->bench_repeats && status == COP_OK; i++)
        status = measure_prefill(&b, s, err);
    if (status == COP_OK)
        print_prefill(&b, s, out);
    series_fini(s, PREFILL_SERIES);
    bench_close(&b);
    return status;
}

enum { READ, STEP, STEP_SHARE, DECODE_SERIES };

/* The same token again and again, so that the context stays what it is. */
static cop_status measure_decode(bench *b, series *s, cop_error *err)
{
    enum { LEAST_NS = 100 * COP_NS_PER_MS };
    cop_probe read;
    cop_status status = probe(b, COP_PROBE_READ, &read, err);
    if (status != COP_OK)
        return status;
    double bandwidth = read.work / (double)read.ns;
    int64_t total = 0, steps = 0;
    while (total < LEAST_NS) {
        int64_t ns;
        status = bench_step(b, b->prompt, 1, &ns, err);
        if (status != COP_OK)
            return status;
        total += ns;
        steps++;
    }
    double step = (double)total / (double)steps;
    b->weight_bytes = read.work;
    series_add(&s[READ], bandwidth);
    series_add(&s[STEP], step);
    series_add(&s[STEP_SHARE], 100 * read.work / step / bandwidth);
    return COP_OK;
}

static void print_decode(bench *b, series *s, FILE *out)
{
    double step = median(&s[STEP]), read = median(&s[READ]), weight_bytes = b->weight_bytes;
    fprintf(out, "%s, %s: decode of 1 sequence at context %u, medians of %zu\n", b->geometry->name,
            b->ops->describe(b->device), b->prompt, s[STEP].count);
    fprintf(out, "%-26s %10s %10s %10s\n", "", "tokens/s", "GB/s", "% of read");
    fprintf(out, "%-26s %10.1f %10.2f %10.1f\n", "reading the weights", read * 1e9 / weight_bytes,
            read, 100.0);
    fprintf(out, "%-26s %10.1f %10.2f %10.1f\n", "decode", 1e9 / step, weight_bytes / step,
            median(&s[STEP_SHARE]));
}

cop_status cop_bench_decode(const cop_config *cfg, FILE *out, cop_error *err)
{
    bench b;
    series s[DECODE_SERIES];
    int64_t warm_up;
    series_init(s, DECODE_SERIES, (size_t)cfg->bench_repeats);
    cop_status status = bench_open(&b, cfg, err);
    if (status == COP_OK)
        status = bench_step(&b, 0, b.prompt, &warm_up, err);
    for (int64_t i = 0; i < cfg->bench_repeats && status == COP_OK; i++)
        status = measure_decode(&b, s, err);
    if (status == COP_OK)
        print_decode(&b, s, out);
    series_fini(s, DECODE_SERIES);
    bench_close(&b);
    return status;
}
