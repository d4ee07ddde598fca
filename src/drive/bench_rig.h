/* What the benches of the device share: a device with some sequences of random tokens, engine steps
 * on them, and figures over repetitions. Each repetition measures the bound and the work one after
 * the other, so that a noisy neighbour hits both; the share printed is the median of the shares. */
#ifndef COP_DRIVE_BENCH_RIG_H
#define COP_DRIVE_BENCH_RIG_H

#include "config/config.h"
#include "device/device.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const cop_device_ops *ops;
    cop_device *device;
    cop_weights *weights;
    const cop_geometry *geometry; /* of the weights */
    uint32_t context, sequences;  /* bench.tokens of each sequence; how many of them */
    uint32_t batch_tokens;        /* of one step at the most */
    uint32_t blocks_each;         /* of a sequence: its context and one token more */
    uint32_t *tokens;             /* u32[context + 1]: the same for all */
    uint32_t *blocks;             /* u32[sequences][blocks_each] */
    cop_sequence *batch;          /* [sequences] */
} cop_bench_rig;

/* batch_tokens 0: a whole context. more: tokens to be computed after it, 0 or 1. host_slots: for
 * moves. */
cop_status cop_bench_rig_open(cop_bench_rig *rig, const cop_config *cfg, uint32_t sequences,
                              uint32_t batch_tokens, uint32_t more, uint32_t host_slots,
                              cop_error *err);
void cop_bench_rig_close(cop_bench_rig *rig);

/* Tokens [start, start + count) of every sequence in one step. device_ns: what the device computed;
 * wall_ns: from before submit to after poll. Either may be NULL. */
cop_status cop_bench_rig_step(cop_bench_rig *rig, uint32_t start, uint32_t count,
                              int64_t *device_ns, int64_t *wall_ns, cop_error *err);
/* The whole context of every sequence, a sequence after the other, in steps of batch_tokens. */
cop_status cop_bench_rig_prefill(cop_bench_rig *rig, cop_error *err);

/* A probe's work per ns; *known is false, and *rate 0, where the device has no such probe. */
cop_status cop_bench_rig_rate(cop_bench_rig *rig, cop_probe_kind kind, uint32_t rows,
                              uint32_t context, cop_probe *probe, bool *known, cop_error *err);

/* A figure over the repetitions. */
typedef struct {
    double *values;
    size_t count;
} cop_series;

void cop_series_init(cop_series *all, size_t count, size_t repeats);
void cop_series_fini(cop_series *all, size_t count);
void cop_series_add(cop_series *series, double value);
double cop_series_median(const cop_series *series); /* 0: nothing was added */

#endif
