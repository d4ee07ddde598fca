/* What this machine could do at best, measured with the threads, weights and kernels of an open CPU
 * device. */
#include "base/check.h"
#include "base/clock.h"
#include "device/cpu.h"

#include <stdatomic.h>
#include <string.h>

enum { PEAK_ROUNDS = 2000, PEAK_TASKS = 16, READ_BYTES = 1 << 20 };

typedef struct {
    cop_device *d;
    uint32_t rows;
    bool all_threads;
    atomic_uint_least64_t sink; /* uses what was computed, so that it is computed */
    cop_probe result;
} probe;

static void peak_task(void *ctx, uint32_t task, uint32_t thread)
{
    probe *p = ctx;
    atomic_fetch_add(&p->sink, (uint64_t)p->d->kernels->peak(PEAK_ROUNDS));
}

static void peak_job(void *ctx)
{
    probe *p = ctx;
    uint32_t tasks = PEAK_TASKS * (p->all_threads ? cop_pool_threads(p->d->pool) : 1);
    int64_t start = cop_clock_ns();
    if (p->all_threads)
        cop_pool_for(p->d->pool, tasks, peak_task, p);
    else
        for (uint32_t i = 0; i < tasks; i++)
            peak_task(p, i, 0);
    p->result = (cop_probe){cop_clock_ns() - start, p->d->kernels->peak_work * PEAK_ROUNDS * tasks};
}

static void read_task(void *ctx, uint32_t task, uint32_t thread)
{
    probe *p = ctx;
    const cop_device *d = p->d;
    size_t at = (size_t)task * READ_BYTES, left = d->packed_bytes - at;
    size_t bytes = left < READ_BYTES ? left / 1024 * 1024 : READ_BYTES;
    atomic_fetch_add(&p->sink, d->kernels->read((const char *)d->packed + at, bytes));
}

static void read_job(void *ctx)
{
    probe *p = ctx;
    uint32_t tasks = (uint32_t)((p->d->packed_bytes + READ_BYTES - 1) / READ_BYTES);
    int64_t start = cop_clock_ns();
    cop_pool_for(p->d->pool, tasks, read_task, p);
    p->result = (cop_probe){cop_clock_ns() - start, (double)p->d->packed_bytes};
}

static void linear_job(void *ctx)
{
    probe *p = ctx;
    cop_device *d = p->d;
    memset(d->x, 0, (size_t)p->rows * d->g.hidden * sizeof *d->x);
    int64_t start = cop_clock_ns();
    for (uint32_t i = 0; i < d->g.layers; i++) {
        const cop_layer *w = &d->layers[i];
        cop_cpu_gemm(d, &w->qkv, d->h, p->rows, COP_GEMM_STORE, d->qkv);
        cop_cpu_gemm(d, &w->o, d->mixed, p->rows, COP_GEMM_ADD, d->x);
        cop_cpu_gemm(d, &w->gate_up, d->h, p->rows, COP_GEMM_SWIGLU, d->ffn);
        cop_cpu_gemm(d, &w->down, d->ffn, p->rows, COP_GEMM_ADD, d->x);
    }
    p->result = (cop_probe){cop_clock_ns() - start,
                            2.0 * (double)cop_geometry_linear_weights(&d->g) * p->rows};
}

cop_status cop_cpu_probe(cop_device *d, cop_probe_kind kind, uint32_t rows, uint32_t context,
                         cop_probe *out, cop_error *err)
{
    static const cop_pool_job jobs[] = {[COP_PROBE_PEAK] = peak_job,
                                        [COP_PROBE_PEAK_1] = peak_job,
                                        [COP_PROBE_LINEAR] = linear_job,
                                        [COP_PROBE_READ] = read_job};
    COP_CHECK(!d->in_flight && rows <= d->max_rows);
    if (kind >= sizeof jobs / sizeof *jobs)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "the cpu device has no probe %d", (int)kind);
    probe p = {.d = d, .rows = rows, .all_threads = kind == COP_PROBE_PEAK};
    cop_pool_start(d->pool, jobs[kind], &p);
    cop_pool_wait(d->pool);
    *out = p.result;
    return COP_OK;
}
