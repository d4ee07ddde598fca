/* `coppice bench prefill`, `bench decode` and `bench tier`. */
#include "base/clock.h"
#include "drive/bench.h"
#include "drive/bench_rig.h"

#include <string.h>

/* ---- prefill ------------------------------------------------------------------------------ */

/* GFLOP/s, and ns of one execution. */
enum { PEAK_1, PEAK, LINEAR, ATTENTION, WHOLE, WALL, PREFILL_PARTS };

static double rate(cop_probe p)
{
    return p.ns ? p.work / (double)p.ns : 0;
}

/* Parts that the device has no probe for stay empty. */
static cop_status measure_parts(cop_bench_rig *rig, cop_series *gflops, cop_series *ns,
                                cop_error *err)
{
    static const cop_probe_kind kinds[] = {[PEAK_1] = COP_PROBE_PEAK_1,
                                           [PEAK] = COP_PROBE_PEAK,
                                           [LINEAR] = COP_PROBE_LINEAR,
                                           [ATTENTION] = COP_PROBE_PREFILL_ATTENTION};
    cop_status status = COP_OK;
    for (int i = 0; i < WHOLE && status == COP_OK; i++) {
        cop_probe probe;
        bool known;
        status = cop_bench_rig_rate(rig, kinds[i], rig->context, 0, &probe, &known, err);
        if (status != COP_OK || !known)
            continue;
        cop_series_add(&gflops[i], rate(probe));
        cop_series_add(&ns[i], (double)probe.ns);
    }
    return status;
}

static cop_status measure_prefill(cop_bench_rig *rig, cop_series *gflops, cop_series *ns,
                                  cop_error *err)
{
    int64_t device_ns, wall_ns;
    cop_status status = measure_parts(rig, gflops, ns, err);
    if (status == COP_OK)
        status = cop_bench_rig_step(rig, 0, rig->context, &device_ns, &wall_ns, err);
    if (status != COP_OK)
        return status;
    double work = cop_geometry_work(rig->geometry, 0, rig->context);
    cop_series_add(&gflops[WHOLE], work / (double)device_ns);
    cop_series_add(&ns[WHOLE], (double)device_ns);
    cop_series_add(&ns[WALL], (double)wall_ns);
    return COP_OK;
}

static void print_prefill(const cop_bench_rig *rig, const cop_series *gflops, const cop_series *ns,
                          FILE *out)
{
    static const char *const names[] = {"peak, 1 thread", "peak", "linear layers alone",
                                        "attention alone", "whole prefill"};
    double peak = cop_series_median(&gflops[PEAK]), linear = cop_series_median(&gflops[LINEAR]);
    fprintf(out, "%s, %s: prefill of %u tokens, medians of %zu\n", rig->geometry->name,
            rig->ops->describe(rig->device), rig->context, gflops[PEAK].count);
    fprintf(out, "%-26s %10s %10s %10s %12s\n", "", "ms", "GFLOP/s", "% of peak", "% of linear");
    for (int i = 0; i <= WHOLE; i++) {
        double value = cop_series_median(&gflops[i]);
        bool whole_model = i == LINEAR || i == ATTENTION || i == WHOLE;
        if (gflops[i].count == 0)
            continue;
        fprintf(out, "%-26s ", names[i]);
        if (whole_model)
            fprintf(out, "%10.3f ", cop_series_median(&ns[i]) / 1e6);
        else
            fprintf(out, "%10s ", "");
        fprintf(out, "%10.1f %10.1f", value, 100 * value / peak);
        if (whole_model)
            fprintf(out, " %12.1f", 100 * value / linear);
        fprintf(out, "\n");
    }
    double whole = cop_series_median(&ns[WHOLE]), wall = cop_series_median(&ns[WALL]);
    fprintf(out, "%.1f tokens/s; first token known %.3f ms after the call",
            rig->context * 1e9 / whole, wall / 1e6);
    if (ns[ATTENTION].count)
        fprintf(out, ", %.2f x the sum of linear layers and attention",
                wall / (cop_series_median(&ns[LINEAR]) + cop_series_median(&ns[ATTENTION])));
    fprintf(out, "\n");
}

cop_status cop_bench_prefill(const cop_config *cfg, FILE *out, cop_error *err)
{
    cop_bench_rig rig;
    cop_series gflops[PREFILL_PARTS], ns[PREFILL_PARTS];
    cop_series_init(gflops, PREFILL_PARTS, (size_t)cfg->bench_repeats);
    cop_series_init(ns, PREFILL_PARTS, (size_t)cfg->bench_repeats);
    cop_status status = cop_bench_rig_open(&rig, cfg, 1, 0, 0, 0, err);
    if (status == COP_OK) /* warms up */
        status = cop_bench_rig_step(&rig, 0, rig.context, NULL, NULL, err);
    for (int64_t i = 0; i < cfg->bench_repeats && status == COP_OK; i++)
        status = measure_prefill(&rig, gflops, ns, err);
    if (status == COP_OK)
        print_prefill(&rig, gflops, ns, out);
    cop_series_fini(gflops, PREFILL_PARTS);
    cop_series_fini(ns, PREFILL_PARTS);
    cop_bench_rig_close(&rig);
    return status;
}

/* ---- decode ------------------------------------------------------------------------------- */

enum { READ, COPY, ATTENTION_GB_S, STEP, STEP_WALL, STEP_SHARE, DECODE_SERIES };

typedef struct {
    double weight_bytes, kv_bytes; /* that a step must read */
} decode_work;

static cop_status measure_bounds(cop_bench_rig *rig, decode_work *work, cop_series *s,
                                 cop_error *err)
{
    cop_probe read, copy, attention;
    bool known, has_copy, has_attention;
    cop_status status = cop_bench_rig_rate(rig, COP_PROBE_READ, 0, 0, &read, &known, err);
    if (status == COP_OK)
        status = cop_bench_rig_rate(rig, COP_PROBE_COPY, 0, 0, &copy, &has_copy, err);
    if (status == COP_OK)
        status = cop_bench_rig_rate(rig, COP_PROBE_DECODE_ATTENTION, rig->sequences, rig->context,
                                    &attention, &has_attention, err);
    if (status != COP_OK)
        return status;
    work->weight_bytes = read.work;
    cop_series_add(&s[READ], rate(read));
    if (has_copy)
        cop_series_add(&s[COPY], rate(copy));
    if (has_attention)
        cop_series_add(&s[ATTENTION_GB_S], rate(attention));
    return COP_OK;
}

/* The same token again and again, so that the context stays what it is. */
static cop_status measure_decode(cop_bench_rig *rig, decode_work *work, cop_series *s,
                                 cop_error *err)
{
    enum { LEAST_NS = 100 * COP_NS_PER_MS };
    int64_t device_total = 0, wall_total = 0, steps = 0;
    cop_status status = measure_bounds(rig, work, s, err);
    while (wall_total < LEAST_NS && status == COP_OK) {
        int64_t device_ns = 0, wall_ns = 0;
        status = cop_bench_rig_step(rig, rig->context, 1, &device_ns, &wall_ns, err);
        device_total += device_ns;
        wall_total += wall_ns;
        steps++;
    }
    if (status != COP_OK)
        return status;
    double step = (double)device_total / (double)steps, read = s[READ].values[s[READ].count - 1];
    cop_series_add(&s[STEP], step);
    cop_series_add(&s[STEP_WALL], (double)wall_total / (double)steps);
    cop_series_add(&s[STEP_SHARE], 100 * (work->weight_bytes + work->kv_bytes) / step / read);
    return COP_OK;
}

static void print_decode(const cop_bench_rig *rig, const decode_work *work, const cop_series *s,
                         FILE *out)
{
    double bytes = work->weight_bytes + work->kv_bytes, read = cop_series_median(&s[READ]);
    double step = cop_series_median(&s[STEP]), wall = cop_series_median(&s[STEP_WALL]);
    double attention = cop_series_median(&s[ATTENTION_GB_S]), copy = cop_series_median(&s[COPY]);
    fprintf(out, "%s, %s: decode of %u sequence%s at context %u, medians of %zu\n",
            rig->geometry->name, rig->ops->describe(rig->device), rig->sequences,
            rig->sequences == 1 ? "" : "s", rig->context, s[STEP].count);
    fprintf(out, "%-26s %10s %10s %10s\n", "", "tokens/s", "GB/s", "% of read");
    fprintf(out, "%-26s %10.1f %10.2f %10.1f\n", "reading weights and KV",
            rig->sequences * read * 1e9 / bytes, read, 100.0);
    fprintf(out, "%-26s %10.1f %10.2f %10.1f\n", "decode", rig->sequences * 1e9 / step,
            bytes / step, cop_series_median(&s[STEP_SHARE]));
    if (s[COPY].count)
        fprintf(out, "%-26s %10s %10.2f %10.1f\n", "copying memory, r + w", "", copy,
                100 * copy / read);
    if (s[ATTENTION_GB_S].count)
        fprintf(out, "%-26s %10s %10.2f %10.1f   %.1f %% of copying\n", "attention alone", "",
                attention, 100 * attention / read, copy > 0 ? 100 * attention / copy : 0);
    fprintf(out,
            "a step: %.3f ms on the device, %.3f ms for the caller; host time not hidden %.2f %%\n",
            step / 1e6, wall / 1e6, 100 * (wall - step) / step);
}

cop_status cop_bench_decode(const cop_config *cfg, FILE *out, cop_error *err)
{
    enum { CHUNK = 2048 };
    cop_bench_rig rig;
    cop_series s[DECODE_SERIES];
    decode_work work = {0};
    uint32_t chunk = (uint32_t)(cfg->bench_tokens < CHUNK ? cfg->bench_tokens : CHUNK);
    cop_series_init(s, DECODE_SERIES, (size_t)cfg->bench_repeats);
    cop_status status =
        cop_bench_rig_open(&rig, cfg, (uint32_t)cfg->bench_sequences, chunk, 1, 0, err);
    if (status == COP_OK)
        status = cop_bench_rig_prefill(&rig, err);
    if (status == COP_OK) /* warms up */
        status = cop_bench_rig_step(&rig, rig.context, 1, NULL, NULL, err);
    if (status == COP_OK)
        work.kv_bytes = (double)rig.ops->block_bytes(rig.device) / (double)cfg->cache_block_tokens *
                        rig.context * rig.sequences;
    for (int64_t i = 0; i < cfg->bench_repeats && status == COP_OK; i++)
        status = measure_decode(&rig, &work, s, err);
    if (status == COP_OK)
        print_decode(&rig, &work, s, out);
    cop_series_fini(s, DECODE_SERIES);
    cop_bench_rig_close(&rig);
    return status;
}

/* ---- host tier ---------------------------------------------------------------------------- */

enum { OUT, IN, OUT_BOUND, IN_BOUND, TIER_SERIES };

typedef struct {
    uint32_t ids[256], count; /* blocks and their slots */
} tier_blocks;

static double moves_gb_s(const cop_bench_rig *rig, const tier_blocks *b, bool out)
{
    int64_t began_ns = cop_clock_ns();
    uint64_t ticket = out ? rig->ops->move_out(rig->device, b->ids, b->ids, b->count)
                          : rig->ops->move_in(rig->device, b->ids, b->ids, b->count);
    while (!rig->ops->moved(rig->device, ticket))
        continue;
    double bytes = (double)rig->ops->block_bytes(rig->device) * b->count;
    return bytes / (double)(cop_clock_ns() - began_ns);
}

static cop_status measure_tier(cop_bench_rig *rig, const tier_blocks *b, cop_series *s,
                               cop_error *err)
{
    static const cop_probe_kind bounds[] = {COP_PROBE_HOST_OUT, COP_PROBE_HOST_IN};
    cop_status status = COP_OK;
    for (int way = OUT; way <= IN && status == COP_OK; way++) {
        cop_probe probe;
        bool known;
        status = cop_bench_rig_rate(rig, bounds[way], 0, 0, &probe, &known, err);
        if (status == COP_OK && known)
            cop_series_add(&s[OUT_BOUND + way], rate(probe));
        cop_series_add(&s[way], moves_gb_s(rig, b, way == OUT));
    }
    return status;
}

static void print_tier(const cop_bench_rig *rig, const tier_blocks *b, const cop_series *s,
                       FILE *out)
{
    static const char *const names[] = {"blocks to the host", "blocks from the host"};
    fprintf(out, "%s, %s: %u blocks of %zu bytes, medians of %zu\n", rig->geometry->name,
            rig->ops->describe(rig->device), b->count, rig->ops->block_bytes(rig->device),
            s[OUT].count);
    fprintf(out, "%-26s %10s %18s %10s\n", "", "GB/s", "one large copy", "% of it");
    for (int way = OUT; way <= IN; way++) {
        double value = cop_series_median(&s[way]), bound = cop_series_median(&s[OUT_BOUND + way]);
        fprintf(out, "%-26s %10.2f ", names[way], value);
        if (bound > 0)
            fprintf(out, "%18.2f %10.1f\n", bound, 100 * value / bound);
        else
            fprintf(out, "%18s\n", "not known");
    }
}

cop_status cop_bench_tier(const cop_config *cfg, FILE *out, cop_error *err)
{
    cop_bench_rig rig;
    cop_series s[TIER_SERIES];
    tier_blocks b = {.count = 256};
    cop_config sized = *cfg;
    sized.bench_tokens = b.count * cfg->cache_block_tokens - 1;
    cop_series_init(s, TIER_SERIES, (size_t)cfg->bench_repeats);
    for (uint32_t i = 0; i < b.count; i++)
        b.ids[i] = i;
    cop_status status = cop_bench_rig_open(&rig, &sized, 1, 64, 0, b.count, err);
    if (status == COP_OK)
        status = cop_bench_rig_prefill(&rig, err); /* real KV, and pages that are there */
    if (status == COP_OK)
        moves_gb_s(&rig, &b, true); /* warms up */
    for (int64_t i = 0; i < cfg->bench_repeats && status == COP_OK; i++)
        status = measure_tier(&rig, &b, s, err);
    if (status == COP_OK)
        print_tier(&rig, &b, s, out);
    cop_series_fini(s, TIER_SERIES);
    cop_bench_rig_close(&rig);
    return status;
}
