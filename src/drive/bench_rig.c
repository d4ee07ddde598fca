#include "drive/bench_rig.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/median.h"
#include "base/rng.h"
#include "drive/setup.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cop_status check_sizes(const cop_bench_rig *rig, uint32_t more, cop_error *err)
{
    if (rig->context + more > rig->geometry->max_context)
        return cop_fail(err, COP_ERR_INVALID, "bench.tokens=%u%s: the context of '%s' ends at %u",
                        rig->context, more ? " leaves no room for one more token" : "",
                        rig->geometry->name, rig->geometry->max_context);
    if ((uint64_t)rig->sequences * rig->blocks_each > UINT32_MAX)
        return cop_fail(err, COP_ERR_INVALID, "bench.sequences=%u of %u tokens: too many blocks",
                        rig->sequences, rig->context);
    return COP_OK;
}

static void make_tokens(cop_bench_rig *rig, uint64_t seed)
{
    cop_rng rng;
    cop_rng_init(&rng, seed, 1);
    rig->tokens = cop_malloc(((size_t)rig->context + 1) * sizeof *rig->tokens);
    for (uint32_t i = 0; i <= rig->context; i++)
        rig->tokens[i] = (uint32_t)cop_rng_below(&rng, rig->geometry->vocab);
    uint32_t blocks = rig->sequences * rig->blocks_each;
    rig->blocks = cop_malloc(blocks * sizeof *rig->blocks);
    for (uint32_t i = 0; i < blocks; i++)
        rig->blocks[i] = i;
    rig->batch = cop_calloc(rig->sequences, sizeof *rig->batch);
}

cop_status cop_bench_rig_open(cop_bench_rig *rig, const cop_config *cfg, uint32_t sequences,
                              uint32_t batch_tokens, uint32_t more, uint32_t host_slots,
                              cop_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t threads =
        cfg->device_threads ? (uint32_t)cfg->device_threads : (uint32_t)(cores > 0 ? cores : 1);
    cop_device_options options;
    *rig = (cop_bench_rig){.context = (uint32_t)cfg->bench_tokens, .sequences = sequences};
    cop_status status = cop_device_find(cfg->device_kind, &rig->ops, err);
    if (status == COP_OK)
        status = cop_setup_weights(&rig->weights, cfg, err);
    if (status != COP_OK)
        return status;
    cop_setup_device(&options, cfg, rig->weights, threads);
    rig->geometry = options.geometry;
    rig->blocks_each = rig->context / options.block_tokens + 1; /* room for the token after it */
    rig->batch_tokens = batch_tokens ? batch_tokens : rig->context;
    status = check_sizes(rig, more, err);
    if (status != COP_OK)
        return status;
    options.blocks = sequences * rig->blocks_each;
    options.max_batch_tokens = rig->batch_tokens > sequences ? rig->batch_tokens : sequences;
    options.max_sequences = sequences;
    options.host_slots = host_slots;
    status = rig->ops->open(&rig->device, &options, err);
    if (status == COP_OK)
        make_tokens(rig, (uint64_t)cfg->seed);
    return status;
}

void cop_bench_rig_close(cop_bench_rig *rig)
{
    if (rig->device)
        rig->ops->close(rig->device);
    cop_weights_close(rig->weights);
    free(rig->tokens);
    free(rig->blocks);
    free(rig->batch);
}

static cop_sequence part_of(const cop_bench_rig *rig, uint32_t sequence, uint32_t start,
                            uint32_t count)
{
    return (cop_sequence){.tokens = rig->tokens + start,
                          .start = start,
                          .count = count,
                          .blocks = rig->blocks + (size_t)sequence * rig->blocks_each,
                          .sample = true};
}

static cop_status run(cop_bench_rig *rig, uint32_t sequences, int64_t *device_ns, int64_t *wall_ns,
                      cop_error *err)
{
    cop_batch batch = {.count = sequences, .sequences = rig->batch};
    cop_step_result result;
    bool done;
    int64_t began_ns = cop_clock_ns();
    cop_status status = rig->ops->submit(rig->device, &batch, err);
    if (status != COP_OK)
        return status;
    rig->ops->wait(rig->device);
    status = rig->ops->poll(rig->device, &result, &done, err);
    if (wall_ns)
        *wall_ns = cop_clock_ns() - began_ns;
    if (device_ns && status == COP_OK)
        *device_ns = result.ended_ns - result.started_ns;
    return status;
}

cop_status cop_bench_rig_step(cop_bench_rig *rig, uint32_t start, uint32_t count,
                              int64_t *device_ns, int64_t *wall_ns, cop_error *err)
{
    for (uint32_t i = 0; i < rig->sequences; i++)
        rig->batch[i] = part_of(rig, i, start, count);
    return run(rig, rig->sequences, device_ns, wall_ns, err);
}

cop_status cop_bench_rig_prefill(cop_bench_rig *rig, cop_error *err)
{
    cop_status status = COP_OK;
    for (uint32_t i = 0; i < rig->sequences; i++) {
        for (uint32_t at = 0; at < rig->context && status == COP_OK; at += rig->batch_tokens) {
            uint32_t left = rig->context - at;
            rig->batch[0] =
                part_of(rig, i, at, left < rig->batch_tokens ? left : rig->batch_tokens);
            status = run(rig, 1, NULL, NULL, err);
        }
    }
    return status;
}

cop_status cop_bench_rig_rate(cop_bench_rig *rig, cop_probe_kind kind, uint32_t rows,
                              uint32_t context, cop_probe *probe, bool *known, cop_error *err)
{
    cop_status status = rig->ops->probe(rig->device, kind, rows, context, probe, err);
    *known = status == COP_OK;
    if (status != COP_ERR_UNSUPPORTED)
        return status;
    *probe = (cop_probe){0};
    return COP_OK;
}

void cop_series_init(cop_series *all, size_t count, size_t repeats)
{
    for (size_t i = 0; i < count; i++)
        all[i] = (cop_series){.values = cop_calloc(repeats, sizeof(double))};
}

void cop_series_fini(cop_series *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(all[i].values);
}

void cop_series_add(cop_series *series, double value)
{
    series->values[series->count++] = value;
}

double cop_series_median(const cop_series *series)
{
    return series->count ? cop_median(series->values, series->count) : 0;
}
