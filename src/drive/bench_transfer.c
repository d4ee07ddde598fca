#include "drive/bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/link.h"
#include "base/median.h"
#include "device/device.h"
#include "drive/launch.h"
#include "drive/mover.h"
#include "drive/setup.h"

#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_BLOCKS = 256,
    POLLS_BEFORE_YIELD = 100, /* ranks may outnumber cores */
};

typedef struct {
    cop_bus *bus;
    int rank, size, repeats;
    FILE *out;
} bench;

/* Bytes in one nanosecond are GB in one second. */
static double gb_s(double bytes, double ns)
{
    return ns > 0 ? bytes / ns : 0;
}

/* ---- messages --------------------------------------------------------------------------- */

/* Polls until a message has come (`wanted`), or until ours are gone. */
static void poll_until(cop_bus *bus, bool wanted)
{
    int from;
    const void *message;
    size_t bytes;
    for (int i = 1; wanted || !cop_bus_idle(bus); i++) {
        if (cop_bus_poll(bus, &from, &message, &bytes) && wanted)
            return;
        if (i % POLLS_BEFORE_YIELD == 0)
            sched_yield();
    }
}

/* Median one-way time from `turn` to the next rank through cop_bus_send and cop_bus_poll, copies
 * included. Only `turn` gets it; the ranks that take no part sleep in the caller's barrier. */
static double bus_one_way_ns(const bench *b, int turn, const void *message, size_t bytes)
{
    int next = (turn + 1) % b->size;
    int trips = b->repeats * (bytes <= 1 << 16 ? 40 : bytes <= 1 << 20 ? 10 : 2);
    double *half_ns = cop_malloc((size_t)trips * sizeof *half_ns);
    for (int i = -1; i < trips; i++) { /* the first warms up */
        if (b->rank == next) {
            poll_until(b->bus, true);
            cop_bus_send(b->bus, turn, message, bytes);
        } else if (b->rank == turn) {
            int64_t began = cop_clock_ns();
            cop_bus_send(b->bus, next, message, bytes);
            poll_until(b->bus, true);
            if (i >= 0)
                half_ns[i] = (double)(cop_clock_ns() - began) / 2;
        }
    }
    poll_until(b->bus, false);
    double result = b->rank == turn ? cop_median(half_ns, (size_t)trips) : 0;
    free(half_ns);
    return result;
}

static double copy_ns(const bench *b, void *to, const void *from, size_t bytes)
{
    int trips = b->repeats * (bytes <= 1 << 16 ? 40 : 2);
    double *ns = cop_malloc((size_t)trips * sizeof *ns);
    for (int i = 0; i < trips; i++) {
        int64_t began = cop_clock_ns();
        memcpy(to, from, bytes);
        __asm__ volatile("" ::"r"(to) : "memory"); /* the copy counts, though nobody reads it */
        ns[i] = (double)(cop_clock_ns() - began);
    }
    double result = cop_median(ns, (size_t)trips);
    free(ns);
    return result;
}

static void message_row(const bench *b, uint8_t *message, uint8_t *copy, size_t bytes)
{
    double *all = cop_calloc((size_t)b->size, sizeof *all), mine = 0;
    for (int turn = 0; turn < b->size; turn++) {
        double ns = bus_one_way_ns(b, turn, message, bytes);
        if (b->rank == turn)
            mine = ns;
        cop_bus_barrier(b->bus);
    }
    cop_bus_gather(b->bus, &mine, sizeof mine, all);
    double raw = cop_bus_measure_ns(b->bus, bytes);
    if (b->rank == 0) {
        double fastest = all[0], slowest = all[0];
        for (int i = 1; i < b->size; i++) {
            fastest = fmin(fastest, all[i]);
            slowest = fmax(slowest, all[i]);
        }
        double memory = copy_ns(b, copy, message, bytes);
        fprintf(b->out, "%10zu %12.2f %12.2f %9.2f %12.2f %9.2f %14.2f\n", bytes, fastest / 1e3,
                slowest / 1e3, gb_s((double)bytes, slowest), raw / 1e3, gb_s((double)bytes, raw),
                gb_s((double)bytes, memory));
    }
    cop_bus_barrier(b->bus);
    free(all);
}

static void bench_messages(const bench *b)
{
    static const size_t sizes[] = {64, 1 << 10, 4 << 10, 64 << 10, 1 << 20, 16 << 20};
    enum { LARGEST = 16 << 20 };
    uint8_t *message = cop_calloc(LARGEST, 1), *copy = cop_calloc(LARGEST, 1);
    memset(message, 1, LARGEST);
    memset(copy, 1, LARGEST);
    if (b->rank == 0)
        fprintf(b->out,
                "messages, one way, to the next of %d ranks, each pair alone: medians\n"
                "%10s %12s %12s %9s %12s %9s %14s\n",
                b->size, "bytes", "bus best us", "bus worst us", "GB/s", "MPI worst us", "GB/s",
                "memcpy GB/s");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        message_row(b, message, copy, sizes[i]);
    free(message);
    free(copy);
}

/* ---- KV blocks -------------------------------------------------------------------------- */

/* The blocks are in host memory, or, for a transport between GPUs, the pool of a device. Either way
 * those that go out, and those that come in, lie one behind the other. */
typedef struct {
    const cop_kv_ops *ops;
    cop_kv *kv;
    size_t block_bytes;
    const cop_device_ops *device_ops;
    cop_device *device;          /* NULL: host memory */
    uint8_t *out_pool, *in_pool; /* [MOST_BLOCKS][block_bytes] */
    void *out[MOST_BLOCKS], *in[MOST_BLOCKS];
    uint64_t next_transfer;
    cop_status status; /* of the transport, and its words */
    cop_error *err;
} kv_bench;

/* Posts one transfer from `from` to `to` (or, for from == -1, one from every rank to its next) and
 * waits for our ends of it. Returns the wire time of what we received, or 0. */
static double transfer_once(const bench *b, kv_bench *k, int from, int to, uint32_t blocks)
{
    int next = (b->rank + 1) % b->size, before = (b->rank + b->size - 1) % b->size;
    bool receives = from < 0 || b->rank == to, sends = from < 0 || b->rank == from;
    uint64_t base = k->next_transfer + 1;
    k->next_transfer += (uint64_t)b->size;
    if (receives && before < b->rank) /* ids ascend */
        k->ops->expect(k->kv, base + (uint64_t)before);
    if (sends)
        k->ops->expect(k->kv, base + (uint64_t)b->rank);
    if (receives && before > b->rank)
        k->ops->expect(k->kv, base + (uint64_t)before);
    if (receives)
        k->ops->receive(k->kv, base + (uint64_t)before, before, k->in, blocks);
    cop_bus_barrier(b->bus); /* posted before the sender begins, as the protocol of plans does */
    if (sends)
        k->ops->send(k->kv, base + (uint64_t)b->rank, next, k->out, blocks);
    double wire_ns = 0;
    for (int i = 1; !k->ops->idle(k->kv) && k->status == COP_OK; i++) {
        cop_kv_done done;
        bool ended;
        k->status = k->ops->poll(k->kv, &done, &ended, k->err);
        if (k->status == COP_OK && ended && !done.sent)
            wire_ns = (double)done.wire_ns;
        if (i % POLLS_BEFORE_YIELD == 0)
            sched_yield();
    }
    cop_bus_barrier(b->bus);
    return wire_ns;
}

/* Median over the repeats of the slowest receiver. Rank 0 only. */
static double transfer_ns(const bench *b, kv_bench *k, int from, int to, uint32_t blocks)
{
    double *all = cop_calloc((size_t)b->size, sizeof *all);
    double *slowest = cop_calloc((size_t)b->repeats, sizeof *slowest);
    for (int i = -1; i < b->repeats; i++) { /* the first warms up */
        double mine = transfer_once(b, k, from, to, blocks);
        cop_bus_gather(b->bus, &mine, sizeof mine, all);
        for (int r = 0; i >= 0 && r < b->size; r++)
            slowest[i] = all[r] > slowest[i] ? all[r] : slowest[i];
    }
    double result = cop_median(slowest, (size_t)b->repeats);
    free(all);
    free(slowest);
    return result;
}

static cop_status open_kv(const bench *b, kv_bench *k, const cop_config *cfg, bool throttled,
                          size_t block_bytes)
{
    cop_kv_options options;
    cop_setup_kv(&options, cfg, b->bus, 0, block_bytes);
    options.link_latency_us = throttled ? cfg->transport_link_latency_us : 0;
    options.link_bandwidth_mb_s = throttled ? cfg->transport_link_bandwidth_mb_s : 0;
    options.device = k->device;
    k->next_transfer = 0;
    return k->ops->open(&k->kv, &options, k->err);
}

/* What the blocks are compared with: a host's memcpy, or between GPUs the same bytes as one block,
 * which is one send and one receive of the library. */
static double bound_ns(const bench *b, kv_bench *k, const cop_config *cfg, size_t bytes)
{
    if (!k->device)
        return b->rank == 0 ? copy_ns(b, k->in_pool, k->out_pool, bytes) : 0;
    kv_bench whole = *k;
    k->status = open_kv(b, &whole, cfg, false, bytes);
    if (k->status != COP_OK)
        return 0;
    double ns = transfer_ns(b, &whole, 0, 1, 1);
    k->status = whole.status;
    whole.ops->close(whole.kv);
    return ns;
}

static void kv_row(const bench *b, kv_bench *k, const cop_config *cfg, const cop_link *link,
                   uint32_t blocks)
{
    size_t bytes = blocks * k->block_bytes;
    double one = transfer_ns(b, k, 0, 1, blocks), ring = transfer_ns(b, k, -1, -1, blocks);
    double bound = link ? 0 : bound_ns(b, k, cfg, bytes);
    if (b->rank == 0 && link) {
        cop_link fresh = *link;
        double model = (double)cop_link_reserve(&fresh, 0, bytes);
        fprintf(b->out, "%8u %10.2f %12.3f %12.3f %9.3f %12.3f %9.3f\n", blocks,
                (double)bytes / 1e6, model / 1e6, one / 1e6, model > 0 ? one / model : 0,
                ring / 1e6, model > 0 ? ring / model : 0);
    } else if (b->rank == 0) {
        fprintf(b->out, "%8u %10.2f %12.3f %9.2f %12.3f %9.2f %14.2f\n", blocks,
                (double)bytes / 1e6, one / 1e6, gb_s((double)bytes, one), ring / 1e6,
                gb_s((double)bytes, ring), gb_s((double)bytes, bound));
    }
}

static void kv_heading(const bench *b, const kv_bench *k, const cop_config *cfg, bool throttled)
{
    if (b->rank != 0)
        return;
    fprintf(b->out, "\nKV blocks of %zu bytes (%s, %lld tokens), transport %s, %s\n",
            k->block_bytes, cfg->model_preset, (long long)cfg->cache_block_tokens, k->ops->name,
            throttled ? "through the link model" : "as fast as they go");
    if (throttled)
        fprintf(b->out, "%8s %10s %12s %12s %9s %12s %9s\n", "blocks", "MB", "model ms",
                "0 -> 1 ms", "/ model", "all ms", "/ model");
    else
        fprintf(b->out, "%8s %10s %12s %9s %12s %9s %14s\n", "blocks", "MB", "0 -> 1 ms", "GB/s",
                "all ms", "GB/s each", k->device ? "1 buffer GB/s" : "memcpy GB/s");
}

static cop_status kv_table(const bench *b, kv_bench *k, const cop_config *cfg, bool throttled,
                           cop_error *err)
{
    cop_status status = open_kv(b, k, cfg, throttled, k->block_bytes);
    if (status != COP_OK)
        return status;
    cop_link link;
    cop_link_init(&link, cfg->transport_link_latency_us, cfg->transport_link_bandwidth_mb_s);
    kv_heading(b, k, cfg, throttled);
    for (uint32_t blocks = 1; blocks <= MOST_BLOCKS && k->status == COP_OK; blocks *= 4)
        kv_row(b, k, cfg, throttled ? &link : NULL, blocks);
    k->ops->close(k->kv);
    k->kv = NULL;
    return k->status;
}

/* A device with a pool for both, of which nothing else is used. */
static cop_status open_device(const bench *b, kv_bench *k, const cop_config *cfg,
                              const cop_weights *weights, cop_error *err)
{
    uint32_t slots;
    cop_device_options options;
    cop_setup_device(&options, cfg, weights, cop_launch_threads(b->bus, cfg->device_threads));
    options.blocks = 2 * MOST_BLOCKS;
    options.host_slots = 0;
    if (cfg->device_index < 0)
        options.index = cop_launch_worker_of_host(b->bus, 0);
    cop_status status = cop_device_find(cfg->device_kind, &k->device_ops, err);
    if (status == COP_OK)
        status = cop_mover_slots(k->device_ops, k->ops, 0, &slots, err);
    if (status == COP_OK)
        status = k->device_ops->open(&k->device, &options, err);
    if (status != COP_OK)
        return status;
    k->block_bytes = k->device_ops->block_bytes(k->device);
    k->out_pool = k->device_ops->block_address(k->device, 0);
    k->in_pool = k->out_pool + MOST_BLOCKS * k->block_bytes;
    return COP_OK;
}

static cop_status open_host_pools(kv_bench *k, cop_error *err)
{
    size_t bytes = MOST_BLOCKS * k->block_bytes;
    cop_status status = cop_alloc_large((void **)&k->out_pool, bytes, "blocks to send", err);
    if (status != COP_OK)
        return status;
    status = cop_alloc_large((void **)&k->in_pool, bytes, "blocks to receive", err);
    if (status != COP_OK) {
        cop_free_large(k->out_pool, bytes);
        return status;
    }
    memset(k->out_pool, 1, bytes);
    memset(k->in_pool, 2, bytes);
    return COP_OK;
}

static cop_status open_pools(const bench *b, kv_bench *k, const cop_config *cfg, cop_error *err)
{
    cop_weights *weights;
    cop_status status = cop_setup_weights(&weights, cfg, err);
    if (status != COP_OK)
        return status;
    uint32_t element_bytes = strcmp(cfg->device_precision, "float32") == 0 ? 4 : 2;
    k->block_bytes = (size_t)cfg->cache_block_tokens *
                     cop_geometry_kv_bytes(cop_weights_geometry(weights), element_bytes);
    if (strcmp(cfg->device_kind, "cpu") != 0 && !k->ops->device_memory)
        status = cop_fail(err, COP_ERR_UNSUPPORTED,
                          "bench transfer has no staged transfers: device.kind cuda goes with "
                          "transport.kv nccl here, transport.kv mpi with device.kind cpu");
    else
        status =
            k->ops->device_memory ? open_device(b, k, cfg, weights, err) : open_host_pools(k, err);
    cop_weights_close(weights);
    for (size_t i = 0; i < MOST_BLOCKS && status == COP_OK; i++) {
        k->out[i] = k->out_pool + i * k->block_bytes;
        k->in[i] = k->in_pool + i * k->block_bytes;
    }
    return status;
}

static void close_pools(kv_bench *k)
{
    if (k->device) {
        k->device_ops->close(k->device);
        return;
    }
    cop_free_large(k->out_pool, MOST_BLOCKS * k->block_bytes);
    cop_free_large(k->in_pool, MOST_BLOCKS * k->block_bytes);
}

static cop_status bench_kv(const bench *b, const cop_config *cfg, cop_error *err)
{
    kv_bench k = {.err = err};
    cop_status status = cop_kv_find(cfg->transport_kv, &k.ops, err);
    if (status == COP_OK)
        status = open_pools(b, &k, cfg, err);
    if (status != COP_OK)
        return status;
    bool throttled = cfg->transport_link_latency_us > 0 || cfg->transport_link_bandwidth_mb_s > 0;
    status = kv_table(b, &k, cfg, false, err);
    if (status == COP_OK && throttled)
        status = kv_table(b, &k, cfg, true, err);
    else if (status == COP_OK && b->rank == 0)
        fprintf(b->out, "\nno link model: set transport.link.bandwidth_mb_s to see it here\n");
    close_pools(&k);
    return status;
}

cop_status cop_bench_transfer(cop_bus *bus, const cop_config *cfg, FILE *out, cop_error *err)
{
    bench b = {.bus = bus,
               .rank = cop_bus_rank(bus),
               .size = cop_bus_size(bus),
               .repeats = (int)cfg->bench_repeats,
               .out = out};
    if (b.size < 2)
        return cop_fail(
            err, COP_ERR_INVALID,
            "bench transfer needs two ranks or more: mpirun -n 2 coppice bench transfer");
    bench_messages(&b);
    return bench_kv(&b, cfg, err);
}
