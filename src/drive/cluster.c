#include "drive/cluster.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "drive/engine.h"
#include "drive/frontend.h"
#include "drive/link_probe.h"
#include "drive/setup.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { IDENTITY_BYTES = 64 }; /* of a device's name, compared */

typedef struct {
    cop_bus *bus;
    const cop_config *cfg;
    const cop_log *log;
    const volatile sig_atomic_t *interrupted;
    int rank, size;
    uint32_t workers, first_rank; /* rank of worker 0 */
    cop_weights *weights;
    cop_buffer *outbox;     /* [size] */
    cop_engine *engine;     /* NULL on a dedicated front end */
    cop_frontend *frontend; /* NULL but on rank 0 */
    const cop_kv_ops *kv_ops;
    cop_kv *kv;
    int64_t clock_to_run_ns;
    bool stopped; /* front end: told the workers to stop */
} cluster;

/* ---- setting up --------------------------------------------------------------------------- */

/* Every rank says how it fares; all learn the first failure, so that all give up together. Only the
 * first rank that failed keeps its text: bad input is the same for all of them. */
static cop_status agree(cluster *c, cop_status mine, cop_error *err)
{
    int32_t status = (int32_t)mine, verdict[2] = {COP_OK, -1}; /* the failure, and whose it is */
    int32_t *all = c->rank == 0 ? cop_calloc((size_t)c->size, sizeof *all) : NULL;
    cop_bus_gather(c->bus, &status, sizeof status, all);
    for (int i = 0; all && i < c->size && verdict[0] == COP_OK; i++) {
        verdict[0] = all[i];
        verdict[1] = i;
    }
    free(all);
    cop_bus_broadcast(c->bus, verdict, sizeof verdict);
    if (verdict[0] != COP_OK && verdict[1] != c->rank)
        err->text[0] = '\0';
    return (cop_status)verdict[0];
}

static cop_status count_workers(cluster *c, cop_error *err)
{
    bool dedicated = strcmp(c->cfg->cluster_frontend, "dedicated") == 0;
    c->first_rank = dedicated;
    c->workers = (uint32_t)c->size - c->first_rank;
    if (c->workers == 0)
        return cop_fail(err, COP_ERR_INVALID,
                        "cluster.frontend: dedicated needs at least 2 ranks: mpirun -n 2 or more");
    if (c->cfg->cluster_workers && c->cfg->cluster_workers != c->workers)
        return cop_fail(err, COP_ERR_INVALID,
                        "cluster.workers is %lld, but %d ranks give %u workers: use mpirun -n %lld",
                        (long long)c->cfg->cluster_workers, c->size, c->workers,
                        (long long)c->cfg->cluster_workers + c->first_rank);
    return COP_OK;
}

static uint64_t config_digest(const cop_config *cfg)
{
    const cop_key *keys;
    uint64_t digest = COP_MESSAGE_VERSION;
    for (size_t i = 0; i < cop_config_keys(&keys); i++) {
        char value[2048];
        digest = cop_hash(value, cop_config_value(cfg, i, value, sizeof value), digest);
    }
    return digest;
}

/* The first rank whose value is not rank 0's; 0: all have the same, or this is not rank 0. */
static int first_to_differ(const cluster *c, uint64_t mine)
{
    uint64_t *all = c->rank == 0 ? cop_calloc((size_t)c->size, sizeof *all) : NULL;
    cop_bus_gather(c->bus, &mine, sizeof mine, all);
    int other = 1;
    while (all && other < c->size && all[other] == mine)
        other++;
    bool differs = all && other < c->size;
    free(all);
    return differs ? other : 0;
}

/* Each rank reads the configuration on its own host. Another model or seed there would not be
 * noticed later: it would be wrong KV. */
static cop_status compare_configs(cluster *c, cop_error *err)
{
    int other = first_to_differ(c, config_digest(c->cfg));
    if (!other)
        return COP_OK;
    return cop_fail(err, COP_ERR_INVALID,
                    "rank %d has another configuration, or another version of coppice, than rank 0",
                    other);
}

/* And the model: the same path can lead to other weights on another host. */
static cop_status open_weights(cluster *c, cop_error *err)
{
    uint64_t fingerprint = 0;
    cop_status status = cop_setup_weights(&c->weights, c->cfg, err);
    if (status == COP_OK)
        status = cop_weights_fingerprint(c->weights, &fingerprint, err);
    status = agree(c, status, err);
    if (status != COP_OK)
        return status;
    int other = first_to_differ(c, fingerprint);
    if (other)
        status = cop_fail(err, COP_ERR_INVALID,
                          "rank %d has other weights than rank 0: model.path must lead to the same "
                          "checkpoint on every host",
                          other);
    return agree(c, status, err);
}

static cop_status open_engine(cluster *c, cop_greeting *greeting, cop_error *err)
{
    *greeting = (cop_greeting){0};
    if ((uint32_t)c->rank < c->first_rank)
        return COP_OK;
    return cop_engine_open(&c->engine, c->bus, c->cfg, c->weights, c->first_rank, c->outbox, c->log,
                           err);
}

/* Two ranks on one GPU would share its speed and memory without a word in the record. */
static cop_status compare_devices(cluster *c, cop_error *err)
{
    char mine[IDENTITY_BYTES] = {0};
    if (c->engine)
        strncpy(mine, cop_engine_device_identity(c->engine), sizeof mine - 1);
    char(*all)[IDENTITY_BYTES] = c->rank == 0 ? cop_calloc((size_t)c->size, sizeof *all) : NULL;
    cop_bus_gather(c->bus, mine, sizeof mine, all);
    cop_status status = COP_OK;
    for (int i = 1; all && i < c->size && status == COP_OK && !c->cfg->device_share; i++)
        for (int k = 0; k < i && status == COP_OK; k++)
            if (all[i][0] && strcmp(all[i], all[k]) == 0)
                status =
                    cop_fail(err, COP_ERR_INVALID,
                             "ranks %d and %d are both on %s: start one worker for each GPU, or "
                             "allow it with device.share: true",
                             k, i, all[i]);
    free(all);
    return agree(c, status, err);
}

/* Collective, so after all devices are open; a dedicated front end takes part and moves nothing. */
static cop_status open_transport(cluster *c, cop_error *err)
{
    uint64_t bytes = c->engine ? cop_engine_block_bytes(c->engine) : 0, *all = NULL;
    if (c->rank == 0)
        all = cop_calloc((size_t)c->size, sizeof *all);
    cop_bus_gather(c->bus, &bytes, sizeof bytes, all);
    if (all)
        bytes = all[c->first_rank];
    free(all);
    cop_bus_broadcast(c->bus, &bytes, sizeof bytes);
    cop_status status = agree(c, cop_kv_find(c->cfg->transport_kv, &c->kv_ops, err), err);
    if (status != COP_OK)
        return status;
    cop_kv_options options;
    cop_setup_kv(&options, c->cfg, c->bus, (int)c->first_rank, bytes);
    options.device = c->engine ? cop_engine_device(c->engine) : NULL;
    status = agree(c, c->kv_ops->open(&c->kv, &options, err), err);
    if (status == COP_OK && c->engine)
        cop_engine_connect(c->engine, c->kv_ops, c->kv);
    const char *note = status == COP_OK && c->kv_ops->note ? c->kv_ops->note(c->kv) : NULL;
    if (note && c->rank == 0)
        cop_log_info(c->log, "%s", note);
    return status;
}

/* What the link takes: by messages of the bus, and where blocks do not go as those do, by blocks. */
typedef struct {
    double small_ns, block_ns, start_ns;
} link_cost;

static cop_status measure_link(cluster *c, uint64_t block_bytes, link_cost *link, cop_error *err)
{
    const cop_device_ops *device;
    cop_status status = agree(c, cop_device_find(c->cfg->device_kind, &device, err), err);
    if (status != COP_OK)
        return status;
    *link = (link_cost){.small_ns = cop_bus_measure_ns(c->bus, 64)};
    if (device->host_memory && !c->kv_ops->device_memory) {
        link->block_ns = cop_bus_measure_ns(c->bus, block_bytes);
        return COP_OK;
    }
    const uint32_t capacity = (uint32_t)c->cfg->cache_capacity_blocks;
    cop_link_times times;
    status = cop_link_probe(c->bus, c->engine ? cop_engine_mover(c->engine) : NULL, c->first_rank,
                            capacity ? capacity : UINT32_MAX, &times, err);
    link->block_ns = link->small_ns + times.block_ns;
    link->start_ns = fmax(0, times.start_ns - c->cfg->transport_link_latency_us * 1e3);
    return agree(c, status, err);
}

static cop_status open_frontend(cluster *c, const cop_greeting *greetings, const link_cost *link,
                                int64_t clock_error_ns, cop_error *err)
{
    if (c->rank != 0)
        return COP_OK;
    cop_frontend_options options = {
        .weights = c->weights,
        .cfg = c->cfg,
        .log = c->log,
        .workers = c->workers,
        .first_rank = c->first_rank,
        .greetings = greetings + c->first_rank,
        .outbox = c->outbox,
        .mpi_version = cop_bus_version(c->bus),
        .link_small_ns = link->small_ns,
        .link_block_ns = link->block_ns,
        .link_start_ns = link->start_ns,
        .clock_error_ns = clock_error_ns,
    };
    return cop_frontend_open(&c->frontend, &options, err);
}

/* All ranks together: open devices, measure, exchange greetings, open the front end. The probes run
 * at the same time on all ranks, so that they contend for the machine as the run will. */
static cop_status set_up(cluster *c, cop_error *err)
{
    cop_greeting mine;
    cop_status status = agree(c, open_engine(c, &mine, err), err);
    if (status != COP_OK)
        return status;
    status = compare_devices(c, err);
    if (status == COP_OK)
        status = open_transport(c, err);
    if (status != COP_OK)
        return status;
    int64_t offset_ns, error_ns, worst_error_ns = 0;
    cop_bus_sync_clock(c->bus, &offset_ns, &error_ns);
    if (c->engine)
        status = cop_engine_probe(c->engine, &mine, err);
    status = agree(c, status, err);
    if (status != COP_OK)
        return status;

    cop_greeting *greetings = cop_calloc((size_t)c->size, sizeof *greetings);
    int64_t *errors = cop_calloc((size_t)c->size, sizeof *errors);
    cop_bus_gather(c->bus, &mine, sizeof mine, greetings);
    cop_bus_gather(c->bus, &error_ns, sizeof error_ns, errors);
    for (int i = 0; i < c->size; i++)
        worst_error_ns = errors[i] > worst_error_ns ? errors[i] : worst_error_ns;
    uint64_t block_bytes = greetings[c->first_rank].block_bytes;
    cop_bus_broadcast(c->bus, &block_bytes, sizeof block_bytes);
    link_cost link;
    status = measure_link(c, block_bytes, &link, err);
    if (status == COP_OK)
        status = agree(c, open_frontend(c, greetings, &link, worst_error_ns, err), err);
    free(greetings);
    free(errors);
    if (status != COP_OK)
        return status;

    int64_t start_ns = cop_clock_ns(); /* rank 0's clock at time 0 of the run */
    cop_bus_broadcast(c->bus, &start_ns, sizeof start_ns);
    c->clock_to_run_ns = offset_ns - start_ns;
    if (c->engine)
        cop_engine_start(c->engine, c->clock_to_run_ns);
    if (c->frontend)
        cop_frontend_start(c->frontend, c->clock_to_run_ns);
    return COP_OK;
}

/* ---- the loop ----------------------------------------------------------------------------- */

static void send_outbox(cluster *c)
{
    for (int to = 0; to < c->size; to++) {
        if (c->outbox[to].size == 0)
            continue;
        cop_bus_send(c->bus, to, c->outbox[to].data, c->outbox[to].size);
        c->outbox[to].size = 0;
    }
}

static bool for_front_end(cop_message_kind kind)
{
    return kind >= COP_SAY_INSERTED;
}

static cop_status deliver(cluster *c, int from, const cop_heard *heard, cop_error *err)
{
    if (!for_front_end(heard->kind))
        return c->engine ? cop_engine_hear(c->engine, heard, err)
                         : cop_fail(err, COP_ERR_TRANSPORT, "an order reached the wrong rank");
    if (!c->frontend || (uint32_t)from < c->first_rank)
        return cop_fail(err, COP_ERR_TRANSPORT, "a report reached the wrong rank");
    return cop_frontend_hear(c->frontend, (uint32_t)from - c->first_rank, heard, err);
}

static cop_status hear_frame(cluster *c, int from, const void *frame, size_t bytes, cop_error *err)
{
    cop_cursor at = {frame, (const uint8_t *)frame + bytes};
    cop_heard heard;
    uint32_t block_tokens = (uint32_t)c->cfg->cache_block_tokens;
    while (cop_hear(&at, &heard)) {
        if (!cop_message_valid(&heard, c->workers, block_tokens))
            return cop_fail(err, COP_ERR_TRANSPORT,
                            "malformed message of kind %u (%s) from rank %d", (unsigned)heard.kind,
                            cop_message_name(heard.kind), from);
        cop_status status = deliver(c, from, &heard, err);
        if (status != COP_OK)
            return status;
    }
    if (at.at != at.end)
        return cop_fail(err, COP_ERR_TRANSPORT, "malformed frame from rank %d", from);
    return COP_OK;
}

/* Bounded, so that a flood of messages cannot keep the device or the arrivals waiting. */
static cop_status hear_messages(cluster *c, bool *busy, cop_error *err)
{
    int from;
    const void *frame;
    size_t bytes;
    cop_status status = COP_OK;
    for (int i = 0; i < 32 && status == COP_OK; i++) {
        if (!cop_bus_poll(c->bus, &from, &frame, &bytes))
            break;
        *busy = true;
        status = hear_frame(c, from, frame, bytes, err);
    }
    return status;
}

static void tell_workers_to_stop(cluster *c)
{
    if (!c->frontend || c->stopped || !cop_frontend_finished(c->frontend))
        return;
    c->stopped = true;
    for (uint32_t w = 0; w < c->workers; w++)
        cop_say(&c->outbox[c->first_rank + w], COP_SAY_STOP, NULL, 0, NULL, 0, NULL, 0);
}

static bool finished(const cluster *c)
{
    if (c->engine && !cop_engine_finished(c->engine))
        return false;
    return !c->frontend || c->stopped;
}

/* Nothing happened: leave the core to whoever computes, but be back for the next arrival. */
static void rest(const cluster *c)
{
    if (strcmp(c->cfg->loop_idle, "spin") == 0)
        return;
    int64_t ns = (int64_t)(c->cfg->loop_sleep_us * COP_NS_PER_US);
    if (c->frontend) {
        int64_t until_ns = cop_frontend_next_ns(c->frontend) - cop_clock_ns() - c->clock_to_run_ns;
        ns = until_ns < ns ? until_ns : ns;
    }
    if (strcmp(c->cfg->loop_idle, "yield") == 0 || ns <= 0)
        sched_yield();
    else
        cop_sleep_ns(ns);
}

static cop_status run_loop(cluster *c, cop_error *err)
{
    cop_status status = COP_OK;
    while (status == COP_OK && !finished(c)) {
        bool busy = false;
        if (*c->interrupted)
            return cop_fail(err, COP_ERR_INTERRUPTED, "interrupted");
        status = hear_messages(c, &busy, err);
        send_outbox(c); /* before compute is queued, which may take its time */
        if (status == COP_OK && c->engine)
            status = cop_engine_poll(c->engine, &busy, err);
        if (status == COP_OK && c->frontend)
            status = cop_frontend_poll(c->frontend, &busy, err);
        tell_workers_to_stop(c);
        send_outbox(c);
        if (!busy)
            rest(c);
    }
    return status;
}

/* ---- the whole ---------------------------------------------------------------------------- */

cop_status cop_cluster_run(cop_bus *bus, const cop_config *cfg, const cop_log *log,
                           const volatile sig_atomic_t *interrupted, bool *together, cop_error *err)
{
    cluster c = {.bus = bus,
                 .cfg = cfg,
                 .log = log,
                 .interrupted = interrupted,
                 .rank = cop_bus_rank(bus),
                 .size = cop_bus_size(bus)};
    err->text[0] = '\0';
    c.outbox = cop_calloc((size_t)c.size, sizeof *c.outbox);
    cop_status status = agree(&c, count_workers(&c, err), err);
    if (status == COP_OK)
        status = agree(&c, compare_configs(&c, err), err);
    if (status == COP_OK)
        status = open_weights(&c, err);
    if (status == COP_OK)
        status = set_up(&c, err);
    bool set = status == COP_OK;
    *together = !set;
    if (set)
        status = run_loop(&c, err);
    if (c.frontend) {
        cop_status closed =
            cop_frontend_close(c.frontend, status == COP_OK, status == COP_OK ? err : NULL);
        status = status == COP_OK ? closed : status;
    }
    if (!set || status == COP_OK) { /* else the job is about to be aborted, compute in flight */
        if (c.kv)
            c.kv_ops->close(c.kv);
        cop_engine_close(c.engine);
        cop_weights_close(c.weights);
    }
    for (int i = 0; i < c.size; i++)
        cop_buffer_fini(&c.outbox[i]);
    free(c.outbox);
    return status;
}
