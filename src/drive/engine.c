#include "drive/engine.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/median.h"
#include "base/rng.h"
#include "core/evict/evict.h"
#include "device/device.h"
#include "drive/host_tier.h"
#include "drive/launch.h"
#include "drive/mover.h"
#include "drive/setup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A transfer that is coming in: what was promised, to be compared with what arrives. */
typedef struct {
    uint64_t transfer;
    uint32_t count;
    uint32_t *block_ids; /* u32[count] */
    uint64_t *checksums; /* u64[count], or NULL when nothing is verified */
} arrival;

struct cop_engine {
    const cop_config *cfg; /* borrowed */
    const cop_geometry *geometry;
    cop_buffer *outbox; /* one for each rank; borrowed */
    uint32_t worker, first_rank;
    const cop_device_ops *device_ops;
    cop_device *device;
    cop_mover *mover;       /* NULL until connected */
    uint32_t staging_slots; /* behind the host tier's; 0: none needed */
    cop_host_tier host;
    cop_worker *core;
    cop_worker_actions actions;
    cop_sequence *sequences; /* [max_batch], of the batch in flight */
    bool computing, stopping;
    cop_steps_row step_row; /* of the batch in flight */
    int64_t clock_to_run_ns, next_gauges_ns;
    arrival *arrivals;
    size_t arrival_count, arrival_capacity;
    cop_say_ended ended;       /* times of the transfer whose end the core is being told */
    cop_worker_event *pending; /* events that our own actions gave rise to */
    size_t pending_count, pending_capacity;
    cop_rng faults;
    uint8_t *block; /* u8[block_bytes]: one block in host memory */
};

static int64_t run_now(const cop_engine *e)
{
    return cop_clock_ns() + e->clock_to_run_ns;
}

/* The pool first: it may take what memory there is, and the core manages as many blocks. */
static cop_status open_parts(cop_engine *e, const cop_bus *bus, const cop_weights *weights,
                             uint32_t threads, cop_error *err)
{
    cop_device_options device;
    cop_worker_options worker;
    cop_setup_device(&device, e->cfg, weights, threads);
    cop_setup_worker(&worker, e->cfg);
    if (e->cfg->device_index < 0)
        device.index = cop_launch_worker_of_host(bus, e->first_rank);
    const cop_evict_ops *policy;
    const cop_kv_ops *kv_ops = NULL;
    cop_status status = cop_evict_find(e->cfg->cache_eviction, &policy, err);
    if (status == COP_OK)
        status = cop_device_find(e->cfg->device_kind, &e->device_ops, err);
    if (status == COP_OK)
        status = cop_kv_find(e->cfg->transport_kv, &kv_ops, err);
    if (status == COP_OK)
        status = cop_mover_slots(e->device_ops, kv_ops, (uint32_t)e->cfg->transport_staging_blocks,
                                 &e->staging_slots, err);
    device.host_slots += e->staging_slots;
    if (status == COP_OK)
        status = e->device_ops->open(&e->device, &device, err);
    if (status != COP_OK)
        return status;
    e->host = (cop_host_tier){.ops = e->device_ops, .device = e->device};
    worker.capacity_blocks = e->device_ops->blocks(e->device);
    e->block = cop_malloc(e->device_ops->block_bytes(e->device));
    return cop_worker_open(&e->core, &worker, err);
}

cop_status cop_engine_open(cop_engine **out, const cop_bus *bus, const cop_config *cfg,
                           const cop_weights *weights, uint32_t first_rank, cop_buffer *outbox,
                           const cop_log *log, cop_error *err)
{
    cop_engine *e = cop_calloc(1, sizeof *e);
    e->cfg = cfg;
    e->geometry = cop_weights_geometry(weights);
    e->outbox = outbox;
    e->first_rank = first_rank;
    e->worker = (uint32_t)cop_bus_rank(bus) - first_rank;
    e->sequences = cop_calloc((size_t)cfg->scheduler_max_batch, sizeof *e->sequences);
    cop_rng_init(&e->faults, (uint64_t)cfg->seed, 0xfa017u + e->worker);

    uint32_t threads = cop_launch_threads(bus, cfg->device_threads);
    cop_status status = open_parts(e, bus, weights, threads, err);
    if (status != COP_OK) {
        cop_engine_close(e);
        return status;
    }
    cop_launch_warn(bus, log, threads, strcmp(cfg->loop_idle, "spin") == 0);
    *out = e;
    return COP_OK;
}

void cop_engine_close(cop_engine *e)
{
    if (!e)
        return;
    cop_mover_close(e->mover);
    if (e->device)
        e->device_ops->close(e->device);
    cop_host_tier_fini(&e->host);
    cop_worker_close(e->core);
    cop_worker_actions_fini(&e->actions);
    for (size_t i = 0; i < e->arrival_count; i++) {
        free(e->arrivals[i].block_ids);
        free(e->arrivals[i].checksums);
    }
    free(e->arrivals);
    free(e->pending);
    free(e->sequences);
    free(e->block);
    free(e);
}

cop_device *cop_engine_device(const cop_engine *e)
{
    return e->device;
}

const char *cop_engine_device_identity(const cop_engine *e)
{
    return e->device_ops->identity(e->device);
}

size_t cop_engine_block_bytes(const cop_engine *e)
{
    return e->device_ops->block_bytes(e->device);
}

void cop_engine_connect(cop_engine *e, const cop_kv_ops *kv_ops, cop_kv *kv)
{
    cop_mover_open(&e->mover,
                   &(cop_mover_options){.device_ops = e->device_ops,
                                        .device = e->device,
                                        .kv_ops = kv_ops,
                                        .kv = kv,
                                        .first_slot = (uint32_t)e->cfg->cache_host_blocks,
                                        .slots = e->staging_slots});
}

cop_mover *cop_engine_mover(const cop_engine *e)
{
    return e->mover;
}

void cop_engine_start(cop_engine *e, int64_t clock_to_run_ns)
{
    e->clock_to_run_ns = clock_to_run_ns;
}

bool cop_engine_finished(const cop_engine *e)
{
    return e->stopping && cop_worker_idle(e->core) && cop_mover_idle(e->mover);
}

/* ---- the probe --------------------------------------------------------------------------- */

static cop_status run_batch(cop_engine *e, const cop_sequence *sequence, double *ns, cop_error *err)
{
    cop_batch batch = {.count = 1, .sequences = sequence};
    cop_status status = e->device_ops->submit(e->device, &batch, err);
    cop_step_result result;
    bool done = false;
    while (status == COP_OK && !done) {
        status = e->device_ops->poll(e->device, &result, &done, err);
        if (!done)
            cop_sleep_ns(20 * COP_NS_PER_US);
    }
    if (status != COP_OK)
        return status;
    *ns = (double)(result.ended_ns - result.started_ns);
    return COP_OK;
}

/* Median of up to nine runs, fewer of those that take long: one run alone may meet anything. */
static cop_status time_batch(cop_engine *e, const cop_sequence *sequence, double *ns,
                             cop_error *err)
{
    enum { RUNS = 9 };
    double times[RUNS], spent_ns = 0;
    int runs = 0;
    while (runs < 3 || (runs < RUNS && spent_ns < 100 * COP_NS_PER_MS)) {
        cop_status status = run_batch(e, sequence, &times[runs], err);
        if (status != COP_OK)
            return status;
        spent_ns += times[runs++];
    }
    *ns = cop_median(times, (size_t)runs);
    return COP_OK;
}

/* The host tier's test compares with this worker's own speed; the router's cost is of all. */
static void probe_host_tier(cop_engine *e, cop_greeting *g)
{
    cop_cost cost = {.block_bytes = (double)g->block_bytes,
                     .block_tokens = (uint32_t)e->cfg->cache_block_tokens,
                     .chunk_tokens = (uint32_t)e->cfg->scheduler_chunk_tokens};
    cop_cost_fit(&cost, g->tokens + 1, g->pairs + 1, g->ns + 1, g->probes - 1); /* 0: warm-up */
    cop_host_tier_probe(&e->host, (uint32_t)e->cfg->cache_host_blocks, &g->host_alpha_ns,
                        &g->host_beta_ns);
    cop_worker_set_cost(e->core, &cost, g->host_alpha_ns, g->host_beta_ns);
}

/* Steps of three sizes at an empty context, one at a deep context and a decode there: enough to
 * tell the cost of a step, of a token and of attention apart. The first size warms up. */
cop_status cop_engine_probe(cop_engine *e, cop_greeting *g, cop_error *err)
{
    const cop_config *cfg = e->cfg;
    const cop_geometry *geometry = e->geometry;
    cop_status status = COP_OK;
    *g = (cop_greeting){.pool_blocks = e->device_ops->blocks(e->device)};
    g->block_bytes = e->device_ops->block_bytes(e->device);
    gethostname(g->host, sizeof g->host - 1);
    strncpy(g->device, e->device_ops->describe(e->device), sizeof g->device - 1);

    uint64_t pool_tokens = (uint64_t)g->pool_blocks * (uint64_t)cfg->cache_block_tokens;
    uint32_t room =
        (uint32_t)(pool_tokens < geometry->max_context ? pool_tokens : geometry->max_context);
    uint32_t chunk = (uint32_t)cfg->scheduler_chunk_tokens;
    chunk = chunk < room / 4 ? chunk : room / 4 + 1;
    uint32_t deep = room - chunk < 1024 ? room - chunk : 1024;
    uint32_t sizes[COP_PROBES] = {chunk, (chunk + 7) / 8, (chunk + 1) / 2, chunk, chunk, 1};
    uint32_t starts[COP_PROBES] = {0, 0, 0, 0, deep, deep};
    uint32_t *tokens = cop_calloc(chunk, sizeof *tokens);
    uint32_t *blocks = cop_malloc(g->pool_blocks * sizeof *blocks);
    for (uint32_t i = 0; i < g->pool_blocks; i++)
        blocks[i] = i;
    for (uint32_t i = 0; i < COP_PROBES && status == COP_OK; i++) {
        cop_sequence sequence = {.tokens = tokens,
                                 .start = starts[i],
                                 .count = sizes[i],
                                 .blocks = blocks,
                                 .sample = true};
        g->tokens[i] = sizes[i];
        g->pairs[i] = cop_cost_pairs(starts[i], sizes[i]);
        status = time_batch(e, &sequence, &g->ns[i], err);
        g->probes = i + 1;
    }
    free(tokens);
    free(blocks);
    if (status == COP_OK && cfg->cache_host_blocks > 0)
        probe_host_tier(e, g);
    return status;
}

/* ---- actions ------------------------------------------------------------------------------ */

static cop_buffer *to_front_end(cop_engine *e)
{
    return &e->outbox[0];
}

static cop_buffer *to_worker(cop_engine *e, uint32_t worker)
{
    return &e->outbox[worker + e->first_rank];
}

static void queue_event(cop_engine *e, const cop_worker_event *event)
{
    COP_GROW(e->pending, e->pending_capacity, e->pending_count + 1);
    e->pending[e->pending_count++] = *event;
}

static cop_status block_checksum(cop_engine *e, uint32_t block, uint64_t *out, cop_error *err)
{
    cop_status status = e->device_ops->read_block(e->device, block, e->block, err);
    if (status == COP_OK)
        *out = cop_hash(e->block, e->device_ops->block_bytes(e->device), 0);
    return status;
}

static cop_status act_offer(cop_engine *e, const cop_worker_action *action, cop_error *err)
{
    cop_say_offer say = {.transfer = action->offer.transfer,
                         .tenant = action->offer.tenant,
                         .blocks = action->offer.blocks,
                         .outcome = action->offer.outcome,
                         .block_tokens = (uint32_t)e->cfg->cache_block_tokens};
    if (say.blocks && cop_rng_double(&e->faults) < e->cfg->fault_transfer_fail_rate) {
        say.blocks = 0;
        say.outcome = COP_TRANSFER_REFUSED;
        queue_event(e, &(cop_worker_event){.kind = COP_WORKER_ACCEPT,
                                           .now_ns = run_now(e),
                                           .accept = {.transfer = say.transfer}});
    }
    if (say.blocks == 0)
        cop_mover_forget(e->mover, say.transfer);
    uint64_t *checksums = NULL;
    cop_status status = COP_OK;
    if (e->cfg->migration_verify && say.blocks) {
        say.checksums = say.blocks;
        checksums = cop_malloc(say.blocks * sizeof *checksums);
        for (uint32_t i = 0; i < say.blocks && status == COP_OK; i++)
            status = block_checksum(e, action->offer.block_ids[i], &checksums[i], err);
    }
    cop_say(to_worker(e, action->offer.peer), COP_SAY_OFFER, &say, sizeof say, action->offer.tokens,
            (size_t)say.blocks * say.block_tokens * sizeof(uint32_t), checksums,
            say.checksums * sizeof *checksums);
    free(checksums);
    return status;
}

static void act_accept(cop_engine *e, const cop_worker_action *action)
{
    cop_say_accept say = {
        .transfer = action->move.transfer, .from = action->move.from, .count = action->move.count};
    cop_say(to_worker(e, action->move.peer), COP_SAY_ACCEPT, &say, sizeof say, NULL, 0, NULL, 0);
}

static void act_send(cop_engine *e, const cop_worker_action *action)
{
    cop_mover_send(e->mover, action->move.transfer, (int)(action->move.peer + e->first_rank),
                   action->move.block_ids, action->move.count);
}

static void act_receive(cop_engine *e, const cop_worker_action *action)
{
    uint32_t count = action->move.count;
    cop_mover_receive(e->mover, action->move.transfer, (int)(action->move.peer + e->first_rank),
                      action->move.block_ids, count);
    COP_GROW(e->arrivals, e->arrival_capacity, e->arrival_count + 1);
    arrival *a = &e->arrivals[e->arrival_count++];
    *a = (arrival){.transfer = action->move.transfer, .count = count};
    a->block_ids = cop_malloc(count * sizeof *a->block_ids);
    memcpy(a->block_ids, action->move.block_ids, count * sizeof *a->block_ids);
    if (action->move.checksums) {
        a->checksums = cop_malloc(count * sizeof *a->checksums);
        memcpy(a->checksums, action->move.checksums, count * sizeof *a->checksums);
    }
}

static void act_blocks(cop_engine *e, const cop_worker_action *action, cop_message_kind kind)
{
    cop_say_blocks say = {.count = action->blocks.count, .used_blocks = action->blocks.used_blocks};
    cop_say(to_front_end(e), kind, &say, sizeof say, action->blocks.hashes,
            say.count * sizeof *action->blocks.hashes, NULL, 0);
}

/* recompute_ns is filled in by the front end, which has the cost model. */
static void say_eviction_rows(cop_engine *e, const cop_evicted *evicted, uint32_t count,
                              bool to_host, int64_t now_ns)
{
    cop_evictions_row *rows = cop_calloc(count, sizeof *rows);
    for (uint32_t i = 0; i < count; i++) {
        const cop_evicted *gone = &evicted[i];
        rows[i].evicted_ns = now_ns;
        rows[i].age_ns = gone->age_ns;
        rows[i].idle_ns = gone->idle_ns;
        rows[i].policy_key = gone->key;
        rows[i].worker = (int32_t)e->worker;
        rows[i].depth_tokens = gone->depth_tokens;
        rows[i].tokens = gone->tokens;
        rows[i].uses = gone->uses;
        rows[i].tier = (uint8_t)gone->tier;
        rows[i].to_host = to_host;
    }
    cop_say(to_front_end(e), COP_SAY_EVICTION_ROWS, rows, count * sizeof *rows, NULL, 0, NULL, 0);
    free(rows);
}

static void act_ended(cop_engine *e, const cop_worker_action *action)
{
    cop_say_ended say = {
        .transfer = action->ended.transfer,
        .outcome = action->ended.outcome,
        .blocks = action->ended.blocks,
        .offered_ns = action->ended.offered_ns,
        .posted_ns = action->ended.posted_ns,
        .ended_ns = action->ended.ended_ns,
    };
    if (e->ended.transfer == say.transfer) {
        say.bytes = e->ended.bytes;
        say.wait_ns = e->ended.wait_ns;
        say.wire_ns = e->ended.wire_ns;
        say.unpack_ns = e->ended.unpack_ns;
    } else { /* declined, or offered nothing */
        cop_mover_forget(e->mover, say.transfer);
    }
    cop_say(to_front_end(e), COP_SAY_TRANSFER_ENDED, &say, sizeof say, NULL, 0, NULL, 0);
}

static cop_status perform(cop_engine *e, const cop_worker_action *action, int64_t now_ns,
                          cop_error *err)
{
    switch (action->kind) {
    case COP_ACT_COPY:
        e->device_ops->copy_block(e->device, action->copy.src, action->copy.dst,
                                  action->copy.tokens);
        break;
    case COP_ACT_OFFER:
        return act_offer(e, action, err);
    case COP_ACT_ACCEPT:
        act_accept(e, action);
        break;
    case COP_ACT_SEND:
        act_send(e, action);
        break;
    case COP_ACT_RECEIVE:
        act_receive(e, action);
        break;
    case COP_ACT_INSERTED:
        act_blocks(e, action, COP_SAY_INSERTED);
        break;
    case COP_ACT_EVICTED:
        act_blocks(e, action, COP_SAY_EVICTED);
        say_eviction_rows(e, action->blocks.evicted, action->blocks.evicted_count, false, now_ns);
        break;
    case COP_ACT_MOVE_OUT:
        say_eviction_rows(e, action->tier.demoted, action->tier.count, true, now_ns);
        cop_host_tier_perform(&e->host, action);
        break;
    case COP_ACT_MOVE_IN:
        cop_host_tier_perform(&e->host, action);
        break;
    case COP_ACT_FIRST_TOKEN:
    case COP_ACT_FINISHED:
        cop_say(to_front_end(e),
                action->kind == COP_ACT_FINISHED ? COP_SAY_FINISHED : COP_SAY_FIRST_TOKEN,
                &action->story, sizeof action->story, NULL, 0, NULL, 0);
        break;
    case COP_ACT_TRANSFER_ENDED:
        act_ended(e, action);
        break;
    }
    return COP_OK;
}

static cop_status start_batch(cop_engine *e, cop_error *err)
{
    const cop_worker_actions *actions = &e->actions;
    cop_steps_row *row = &e->step_row;
    *row = (cop_steps_row){.worker = (int32_t)e->worker};
    for (uint32_t i = 0; i < actions->step_count; i++) {
        const cop_step_sequence *s = &actions->step[i];
        e->sequences[i] = (cop_sequence){
            .tokens = s->tokens,
            .start = s->start,
            .count = s->count,
            .blocks = s->blocks,
            .sample = s->sample,
            .temperature = (float)e->cfg->sampling_temperature,
            .top_p = (float)e->cfg->sampling_top_p,
            .sample_seed = cop_splitmix64((uint64_t)e->cfg->seed ^ cop_splitmix64(s->request)),
        };
        bool decodes = s->decoding;
        row->decode_sequences += decodes;
        row->prefill_sequences += !decodes;
        row->prefill_tokens += decodes ? 0 : s->count;
        row->context_tokens += s->start + s->count;
        row->attended_pairs += cop_cost_pairs(s->start, s->count);
    }
    e->computing = true;
    cop_batch batch = {.count = actions->step_count, .sequences = e->sequences};
    return e->device_ops->submit(e->device, &batch, err);
}

/* Tells the core an event, and what comes of its actions, until nothing more comes. */
static cop_status tell(cop_engine *e, const cop_worker_event *event, cop_error *err)
{
    cop_status status = COP_OK;
    queue_event(e, event);
    for (size_t i = 0; i < e->pending_count && status == COP_OK; i++) {
        cop_worker_event next = e->pending[i]; /* the array may move */
        cop_worker_step(e->core, &next, &e->actions);
        for (size_t k = 0; k < e->actions.count && status == COP_OK; k++)
            status = perform(e, &e->actions.items[k], next.now_ns, err);
        if (status == COP_OK && e->actions.start_step)
            status = start_batch(e, err);
    }
    e->pending_count = 0;
    return status;
}

/* ---- events ------------------------------------------------------------------------------ */

/* Messages are valid (message.h) when they come here: reading them cannot fail. */

static cop_status hear_submit(cop_engine *e, cop_heard heard, cop_error *err)
{
    cop_say_submit say;
    cop_cursor_get(&heard.body, &say, sizeof say);
    cop_worker_event event = {.kind = COP_WORKER_SUBMIT, .now_ns = run_now(e)};
    event.submit.request = say.request;
    event.submit.request.tokens = cop_cursor_take(&heard.body, say.tokens * sizeof(uint32_t));
    event.submit.transfer = say.transfer;
    return tell(e, &event, err);
}

static cop_status hear_plan(cop_engine *e, cop_heard heard, cop_error *err)
{
    cop_worker_event event = {.kind = heard.kind == COP_SAY_PLAN_SEND ? COP_WORKER_PLAN_SEND
                                                                      : COP_WORKER_PLAN_RECEIVE,
                              .now_ns = run_now(e)};
    cop_cursor_get(&heard.body, &event.plan, sizeof event.plan);
    cop_mover_expect(e->mover, event.plan.id); /* the router's order: one sender, in order */
    return tell(e, &event, err);
}

static cop_status hear_offer(cop_engine *e, cop_heard heard, cop_error *err)
{
    cop_say_offer say;
    cop_cursor_get(&heard.body, &say, sizeof say);
    size_t token_bytes = (size_t)say.blocks * say.block_tokens * sizeof(uint32_t);
    const uint32_t *tokens = cop_cursor_take(&heard.body, token_bytes);
    const void *checksums = cop_cursor_take(&heard.body, say.checksums * sizeof(uint64_t));
    uint64_t *aligned = NULL;
    if (say.checksums) { /* in the frame they need not be aligned */
        aligned = cop_malloc(say.checksums * sizeof *aligned);
        memcpy(aligned, checksums, say.checksums * sizeof *aligned);
    }
    cop_worker_event event = {.kind = COP_WORKER_OFFER,
                              .now_ns = run_now(e),
                              .offer = {.transfer = say.transfer,
                                        .tenant = say.tenant,
                                        .tokens = tokens,
                                        .checksums = aligned,
                                        .blocks = say.blocks,
                                        .outcome = say.outcome}};
    cop_status status = tell(e, &event, err);
    free(aligned);
    return status;
}

static cop_status hear_accept(cop_engine *e, cop_heard heard, cop_error *err)
{
    cop_say_accept say;
    cop_cursor_get(&heard.body, &say, sizeof say);
    if (say.count == 0)
        cop_mover_forget(e->mover, say.transfer);
    cop_worker_event event = {
        .kind = COP_WORKER_ACCEPT,
        .now_ns = run_now(e),
        .accept = {.transfer = say.transfer, .from = say.from, .count = say.count}};
    return tell(e, &event, err);
}

cop_status cop_engine_hear(cop_engine *e, const cop_heard *heard, cop_error *err)
{
    switch (heard->kind) {
    case COP_SAY_SUBMIT:
        return hear_submit(e, *heard, err);
    case COP_SAY_PLAN_SEND:
    case COP_SAY_PLAN_RECEIVE:
        return hear_plan(e, *heard, err);
    case COP_SAY_OFFER:
        return hear_offer(e, *heard, err);
    case COP_SAY_ACCEPT:
        return hear_accept(e, *heard, err);
    case COP_SAY_STOP:
        e->stopping = true;
        return COP_OK;
    default: /* the cluster hands us orders only */
        COP_CHECK(false);
    }
}

static cop_status poll_device(cop_engine *e, bool *busy, cop_error *err)
{
    cop_step_result result;
    bool done = false;
    cop_status status = e->computing ? e->device_ops->poll(e->device, &result, &done, err) : COP_OK;
    if (!done)
        return status;
    *busy = true;
    e->computing = false;
    e->step_row.started_ns = result.started_ns + e->clock_to_run_ns;
    e->step_row.duration_ns = result.ended_ns - result.started_ns;
    cop_say(to_front_end(e), COP_SAY_STEP, &e->step_row, sizeof e->step_row, NULL, 0, NULL, 0);
    cop_worker_event event = {
        .kind = COP_WORKER_STEP_DONE,
        .now_ns = run_now(e),
        .step = {.tokens = result.tokens,
                 .digests = e->cfg->record_logits_digest ? result.digests : NULL,
                 .started_ns = result.started_ns + e->clock_to_run_ns,
                 .ended_ns = result.ended_ns + e->clock_to_run_ns},
    };
    return tell(e, &event, err);
}

/* An injected fault: one bit of one received block flips, as a bad cable would do it. */
static cop_status corrupt_one_bit(cop_engine *e, const arrival *a, cop_error *err)
{
    uint32_t block = a->block_ids[cop_rng_below(&e->faults, a->count)];
    cop_status status = e->device_ops->read_block(e->device, block, e->block, err);
    if (status != COP_OK)
        return status;
    e->block[cop_rng_below(&e->faults, e->device_ops->block_bytes(e->device))] ^= 1;
    return e->device_ops->write_block(e->device, block, e->block, err);
}

static cop_status arrived_intact(cop_engine *e, const arrival *a, bool *intact, cop_error *err)
{
    cop_status status = COP_OK;
    if (cop_rng_double(&e->faults) < e->cfg->fault_transfer_corrupt_rate)
        status = corrupt_one_bit(e, a, err);
    *intact = true;
    for (uint32_t i = 0; a->checksums && i < a->count && status == COP_OK && *intact; i++) {
        uint64_t checksum = 0;
        status = block_checksum(e, a->block_ids[i], &checksum, err);
        *intact = checksum == a->checksums[i];
    }
    return status;
}

static cop_status received(cop_engine *e, const cop_kv_done *done, cop_error *err)
{
    size_t i = 0;
    while (i < e->arrival_count && e->arrivals[i].transfer != done->transfer)
        i++;
    COP_CHECK(i < e->arrival_count);
    arrival a = e->arrivals[i];
    e->arrivals[i] = e->arrivals[--e->arrival_count];
    int64_t begun_ns = cop_clock_ns();
    bool intact;
    cop_status status = arrived_intact(e, &a, &intact, err);
    int64_t now_ns = cop_clock_ns();
    e->ended = (cop_say_ended){.transfer = done->transfer,
                               .bytes = done->bytes,
                               .wait_ns = done->wait_ns,
                               .wire_ns = done->wire_ns,
                               .unpack_ns = now_ns - begun_ns};
    free(a.block_ids);
    free(a.checksums);
    cop_worker_event event = {.kind = COP_WORKER_RECEIVED,
                              .now_ns = now_ns + e->clock_to_run_ns,
                              .transfer = {.transfer = done->transfer, .intact = intact}};
    return status == COP_OK ? tell(e, &event, err) : status;
}

static cop_status poll_transport(cop_engine *e, bool *busy, cop_error *err)
{
    cop_kv_done done;
    bool ended = true;
    cop_status status = COP_OK;
    while (status == COP_OK && ended) {
        status = cop_mover_poll(e->mover, &done, &ended, err);
        if (status != COP_OK || !ended)
            break;
        *busy = true;
        cop_worker_event sent = {.kind = COP_WORKER_SENT,
                                 .now_ns = run_now(e),
                                 .transfer = {.transfer = done.transfer, .intact = true}};
        status = done.sent ? tell(e, &sent, err) : received(e, &done, err);
    }
    return status;
}

static cop_status poll_host_tier(cop_engine *e, bool *busy, cop_error *err)
{
    cop_status status = COP_OK;
    uint64_t id;
    while (status == COP_OK && cop_host_tier_poll(&e->host, &id)) {
        *busy = true;
        cop_worker_event event = {
            .kind = COP_WORKER_MOVED_IN, .now_ns = run_now(e), .moved = {.id = id}};
        status = tell(e, &event, err);
    }
    return status;
}

static void report_gauges(cop_engine *e, int64_t now_ns)
{
    cop_worker_gauges g = cop_worker_read(e->core);
    cop_workers_row row = {
        .sampled_ns = now_ns,
        .prompt_tokens = g.prompt_tokens,
        .hit_tokens = g.hit_tokens,
        .computed_tokens = g.computed_tokens,
        .worker = (int32_t)e->worker,
        .waiting = g.waiting,
        .running = g.running,
        .used_blocks = g.used_blocks,
        .pinned_blocks = g.pinned_blocks,
        .host_blocks = g.host_blocks,
        .host_hit_tokens = g.host_hit_tokens,
    };
    cop_say(to_front_end(e), COP_SAY_GAUGES, &row, sizeof row, NULL, 0, NULL, 0);
}

cop_status cop_engine_poll(cop_engine *e, bool *busy, cop_error *err)
{
    cop_status status = poll_device(e, busy, err);
    if (status == COP_OK)
        status = poll_transport(e, busy, err);
    if (status == COP_OK)
        status = poll_host_tier(e, busy, err);
    int64_t now_ns = run_now(e);
    if (status == COP_OK && cop_worker_deadline_ns(e->core) <= now_ns) {
        *busy = true;
        status = tell(e, &(cop_worker_event){.kind = COP_WORKER_TICK, .now_ns = now_ns}, err);
    }
    if (now_ns >= e->next_gauges_ns) {
        report_gauges(e, now_ns);
        e->next_gauges_ns = now_ns + 100 * COP_NS_PER_MS;
    }
    return status;
}
