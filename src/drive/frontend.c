#include "drive/frontend.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "core/router.h"
#include "drive/account.h"
#include "drive/encoder.h"
#include "drive/progress.h"
#include "drive/provenance.h"
#include "drive/setup.h"
#include "workload/workload.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A transfer until its row can be written: when it has ended and its request's fate is known. One
 * that has not ended when the run is cut short has no row. */
typedef struct {
    cop_transfers_row row;
    bool ended, settled;
} movement;

struct cop_frontend {
    cop_frontend_options options;
    const cop_config *cfg;
    const cop_log *log;
    cop_encoder *encoder; /* while opening, where the workload is text */
    cop_workload *workload;
    cop_router *router;
    cop_router_actions actions;
    cop_cost cost;
    cop_record *record;
    cop_progress progress;
    cop_requests_row **flights; /* [total]: requests on their way; NULL before and after */
    movement *movements;
    size_t movement_count, movement_capacity, movements_open;
    int64_t clock_to_run_ns, next_flush_ns;
    uint64_t candidate_rows;
};

static int64_t run_now(const cop_frontend *f)
{
    return cop_clock_ns() + f->clock_to_run_ns;
}

/* ---- opening ----------------------------------------------------------------------------- */

/* Step costs from every worker's probe, link costs from the measured round trips or, where it is
 * slower, from the link model. A transfer also takes an offer and an answer: two small messages. */
static void fit_cost(cop_frontend *f)
{
    const cop_frontend_options *o = &f->options;
    uint32_t n = 0;
    double *samples = cop_malloc(3 * sizeof(double) * COP_PROBES * o->workers);
    double *tokens = samples, *pairs = tokens + (size_t)COP_PROBES * o->workers,
           *ns = pairs + (size_t)COP_PROBES * o->workers;
    for (uint32_t w = 0; w < o->workers; w++)
        for (uint32_t i = 1; i < o->greetings[w].probes; i++, n++) { /* 0 was the warm-up */
            tokens[n] = o->greetings[w].tokens[i];
            pairs[n] = o->greetings[w].pairs[i];
            ns[n] = o->greetings[w].ns[i];
        }
    cop_cost_fit(&f->cost, tokens, pairs, ns, n);
    free(samples);
    f->cost.block_bytes = (double)o->greetings[0].block_bytes;
    f->cost.block_tokens = (uint32_t)f->cfg->cache_block_tokens;
    f->cost.chunk_tokens = (uint32_t)f->cfg->scheduler_chunk_tokens;
    double model_beta =
        f->cfg->transport_link_bandwidth_mb_s > 0 ? 1e3 / f->cfg->transport_link_bandwidth_mb_s : 0;
    double beta = (o->link_block_ns - o->link_small_ns) / f->cost.block_bytes;
    f->cost.link_beta_ns = fmax(fmax(beta, model_beta), 0);
    f->cost.link_alpha_ns =
        o->link_start_ns + 3 * o->link_small_ns + f->cfg->transport_link_latency_us * 1e3;
}

/* How far a file of conversations is read, now and then. */
typedef struct {
    const cop_log *log;
    int64_t next_ns;
} reading_watch;

static void say_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    reading_watch *r = context;
    int64_t now_ns = cop_clock_ns();
    if (now_ns < r->next_ns)
        return;
    r->next_ns = now_ns + 2 * (int64_t)COP_NS_PER_S;
    cop_log_info(r->log, "reading conversations: %.0f of %.0f MB", (double)done_bytes / 1e6,
                 (double)total_bytes / 1e6);
}

/* The tokenizer is needed only here: all text is tokens before the run begins. */
static cop_status open_workload(cop_frontend *f, cop_error *err)
{
    const cop_weights *weights = f->options.weights;
    reading_watch watch = {f->log, cop_clock_ns() + 2 * (int64_t)COP_NS_PER_S};
    cop_workload_options options;
    cop_setup_workload(&options, f->cfg, cop_weights_geometry(weights)->vocab);
    options.progress = say_progress;
    options.progress_context = &watch;
    cop_status status = COP_OK;
    if (strcmp(f->cfg->workload_format, "sharegpt") == 0) {
        status = cop_encoder_open(&f->encoder, f->cfg, weights, err);
        options.encoder = status == COP_OK ? cop_encoder_ops(f->encoder) : NULL;
    }
    return status == COP_OK ? cop_workload_open(&f->workload, &options, err) : status;
}

static cop_status open_router(cop_frontend *f, cop_error *err)
{
    cop_router_options options;
    cop_setup_router(&options, f->cfg);
    options.workers = f->options.workers;
    options.max_context = cop_weights_geometry(f->options.weights)->max_context;
    options.pool_blocks = UINT32_MAX;
    for (uint32_t w = 0; w < f->options.workers; w++)
        if (f->options.greetings[w].pool_blocks < options.pool_blocks)
            options.pool_blocks = f->options.greetings[w].pool_blocks;
    options.cost = f->cost;
    return cop_router_open(&f->router, &options, err);
}

static double recompute_transfer_ratio(const cop_frontend *f)
{
    double transfer = f->cost.link_beta_ns * f->cost.block_bytes;
    return transfer > 0 ? f->cost.per_token_ns * f->cost.block_tokens / transfer : INFINITY;
}

/* One attribute a worker, and `device` for those who expect them to be alike. */
static void record_devices(cop_frontend *f)
{
    const cop_greeting *g = f->options.greetings;
    bool alike = true;
    for (uint32_t w = 0; w < f->options.workers; w++) {
        char name[64], value[192];
        snprintf(name, sizeof name, "worker.%u", w);
        snprintf(value, sizeof value, "%s, %s", g[w].host, g[w].device);
        cop_record_text(f->record, name, value);
        alike &= strcmp(g[w].device, g[0].device) == 0;
    }
    cop_record_text(f->record, "device", g[0].device);
    if (!alike)
        cop_log_warn(f->log, "workers have different devices: logits are bit-identical only among "
                             "workers of one instruction set");
}

static cop_status open_record(cop_frontend *f, cop_error *err)
{
    if (f->cfg->record_path[0] == '\0')
        return cop_fail(err, COP_ERR_INVALID, "no result file: give -o FILE.h5 or set record.path");
    cop_status status = cop_record_open(&f->record, f->cfg->record_path, err);
    if (status != COP_OK)
        return status;
    cop_record *r = f->record;
    cop_provenance_write(r, f->cfg, f->options.mpi_version);
    status = cop_provenance_model(r, f->options.weights, f->encoder, err);
    if (status != COP_OK)
        return status;
    cop_record_int(r, "workers", f->options.workers);
    record_devices(f);
    cop_record_int(r, "block_bytes", (int64_t)f->options.greetings[0].block_bytes);
    cop_record_int(r, "requests_total", (int64_t)cop_workload_total(f->workload));
    cop_record_int(r, "workload_lines_skipped", (int64_t)cop_workload_skipped(f->workload));
    cop_record_int(r, "clock.offset_error_ns", f->options.clock_error_ns);
    cop_record_float(r, "cost.step_ns", f->cost.step_ns);
    cop_record_float(r, "cost.per_token_ns", f->cost.per_token_ns);
    cop_record_float(r, "cost.per_pair_ns", f->cost.per_pair_ns);
    cop_record_float(r, "cost.link_alpha_ns", f->cost.link_alpha_ns);
    cop_record_float(r, "cost.link_beta_ns", f->cost.link_beta_ns);
    cop_record_float(r, "cost.recompute_transfer_ratio", recompute_transfer_ratio(f));
    if (f->cfg->cache_host_blocks > 0) {
        cop_record_float(r, "cost.host_alpha_ns", f->options.greetings[0].host_alpha_ns);
        cop_record_float(r, "cost.host_beta_ns", f->options.greetings[0].host_beta_ns);
    }
    return cop_record_start(r, err);
}

cop_status cop_frontend_open(cop_frontend **out, const cop_frontend_options *options,
                             cop_error *err)
{
    cop_frontend *f = cop_calloc(1, sizeof *f);
    f->options = *options;
    f->cfg = options->cfg;
    f->log = options->log;
    cop_status status = open_workload(f, err);
    if (status == COP_OK) {
        fit_cost(f);
        f->flights = cop_calloc(cop_workload_total(f->workload), sizeof *f->flights);
        status = open_router(f, err);
    }
    if (status == COP_OK)
        status = open_record(f, err);
    cop_encoder_close(f->encoder);
    f->encoder = NULL;
    f->options.greetings = NULL; /* borrowed during open only */
    if (status != COP_OK) {
        cop_frontend_close(f, false, NULL);
        return status;
    }
    *out = f;
    return COP_OK;
}

void cop_frontend_start(cop_frontend *f, int64_t clock_to_run_ns)
{
    f->clock_to_run_ns = clock_to_run_ns;
    cop_progress_start(&f->progress, f->log, cop_workload_total(f->workload));
    if (cop_workload_skipped(f->workload))
        cop_log_warn(f->log, "%llu bad lines or conversations of the workload skipped",
                     (unsigned long long)cop_workload_skipped(f->workload));
    cop_log_info(f->log,
                 "%u workers, recompute/transfer ratio %.1f, prefill %.0f tokens/s a worker",
                 f->options.workers, recompute_transfer_ratio(f), 1e9 / f->cost.per_token_ns);
}

/* ---- arrivals ---------------------------------------------------------------------------- */

static cop_status record_decision(cop_frontend *f, const cop_requests_row *row, int64_t duration_ns,
                                  cop_error *err)
{
    const cop_decision *d = &f->actions.decision;
    uint32_t count = f->cfg->record_candidates ? d->candidates : 0;
    cop_decisions_row decision = {
        .request_id = d->request,
        .decided_ns = row->routed_ns,
        .duration_ns = duration_ns,
        .first_candidate = f->candidate_rows,
        .candidates = count,
        .worker = (int32_t)d->worker,
        .match_tokens = d->match_tokens,
        .best_match_tokens = d->best_match_tokens,
        .ideal_match_tokens = d->ideal_match_tokens,
        .predicted_ttft_ns = d->predicted_ttft_ns,
        .transfer_id = f->actions.transfer,
        .tie = d->tie,
    };
    cop_status status = cop_record_append(f->record, COP_TABLE_decisions, &decision, 1, err);
    for (uint32_t i = 0; i < count && status == COP_OK; i++) {
        const cop_candidate *c = &f->actions.candidates[i];
        cop_candidates_row candidate = {
            .request_id = d->request,
            .cost = c->cost,
            .tie_cost = c->tie_cost,
            .drain_ns = c->drain_ns,
            .recompute_ns = c->recompute_ns,
            .fetch_ns = c->fetch_ns,
            .worker = (int32_t)c->worker,
            .match_tokens = c->match_tokens,
            .outstanding = c->outstanding,
            .outstanding_tokens = c->outstanding_tokens,
            .chosen = c->worker == d->worker,
        };
        status = cop_record_append(f->record, COP_TABLE_candidates, &candidate, 1, err);
    }
    f->candidate_rows += count;
    return status;
}

static void send_plans(cop_frontend *f)
{
    for (size_t i = 0; i < f->actions.plan_count; i++) {
        const cop_plan *plan = &f->actions.plans[i];
        cop_buffer *outbox = f->options.outbox + f->options.first_rank;
        cop_say(&outbox[plan->src], COP_SAY_PLAN_SEND, plan, sizeof *plan, NULL, 0, NULL, 0);
        cop_say(&outbox[plan->dst], COP_SAY_PLAN_RECEIVE, plan, sizeof *plan, NULL, 0, NULL, 0);
        COP_GROW(f->movements, f->movement_capacity, f->movement_count + 1);
        movement *m = &f->movements[f->movement_count++];
        f->movements_open++;
        *m = (movement){.settled = plan->reason == COP_REASON_REPLICATE};
        m->row = (cop_transfers_row){
            .transfer_id = plan->id,
            .request_id = plan->request,
            .planned_ns = plan->planned_ns,
            .predicted_transfer_ns = plan->predicted_transfer_ns,
            .predicted_saved_ns = plan->predicted_saved_ns,
            .predicted_gain_ns = plan->predicted_saved_ns - plan->predicted_transfer_ns,
            .realised_gain_ns = NAN,
            .src = (int32_t)plan->src,
            .dst = (int32_t)plan->dst,
            .planned_blocks = plan->end_block - plan->have_block,
            .reason = (uint8_t)plan->reason,
        };
    }
}

static void send_request(cop_frontend *f, const cop_request *request)
{
    cop_say_submit say = {.request = *request, .transfer = f->actions.transfer};
    say.request.tokens = NULL;
    say.tokens = request->prompt_tokens + (request->output_given ? request->output_tokens : 0);
    cop_say(&f->options.outbox[f->options.first_rank + f->actions.decision.worker], COP_SAY_SUBMIT,
            &say, sizeof say, request->tokens, say.tokens * sizeof *request->tokens, NULL, 0);
}

static cop_status reject(cop_frontend *f, cop_requests_row *row, cop_error *err)
{
    row->status = 1;
    row->worker = -1;
    row->received_ns = row->queue_end_ns = row->transfer_end_ns = row->prefill_start_ns =
        row->prefill_end_ns = row->first_token_ns = row->finished_ns = row->routed_ns;
    row->ttft_ns = row->e2e_ns = row->routed_ns - row->scheduled_ns;
    cop_progress_rejected(&f->progress, row->request_id, f->actions.decision.reject_reason);
    cop_workload_finished(f->workload, row->request_id, row->routed_ns);
    return cop_record_append(f->record, COP_TABLE_requests, row, 1, err);
}

static cop_status arrive(cop_frontend *f, cop_error *err)
{
    const cop_request *request = cop_workload_pop(f->workload);
    cop_requests_row row = {
        .request_id = request->id,
        .session_id = request->session,
        .tenant_id = request->tenant,
        .turn = request->turn,
        .scheduled_ns = request->scheduled_ns,
        .arrived_ns = run_now(f),
        .prompt_tokens = request->prompt_tokens,
        .output_tokens = request->output_tokens,
    };
    cop_router_event event = {
        .kind = COP_ROUTER_ARRIVAL, .now_ns = row.arrived_ns, .arrival = request};
    cop_router_step(f->router, &event, &f->actions);
    row.routed_ns = run_now(f);
    const cop_decision *d = &f->actions.decision;
    row.transfer_id = f->actions.transfer;
    row.worker = (int32_t)d->worker;
    row.predicted_hit_tokens = d->match_tokens;
    row.best_hit_tokens = d->best_match_tokens;
    row.ideal_hit_tokens = d->ideal_match_tokens;
    row.predicted_ttft_ns = d->predicted_ttft_ns;
    row.dispatch_ns = row.arrived_ns - row.scheduled_ns;
    row.route_ns = row.routed_ns - row.arrived_ns;
    cop_status status = record_decision(f, &row, row.route_ns, err);
    if (status != COP_OK)
        return status;
    if (d->worker == COP_NO_WORKER)
        return reject(f, &row, err);
    f->flights[request->id] = cop_malloc(sizeof row);
    *f->flights[request->id] = row;
    send_plans(f);
    send_request(f, request);
    return COP_OK;
}

/* ---- what workers say -------------------------------------------------------------------- */

/* Its end is heard before the first token of the request that waited: both come from one worker. */
static void settle(cop_frontend *f, const cop_requests_row *row)
{
    for (size_t i = 0; i < f->movement_count; i++) {
        movement *m = &f->movements[i];
        if (m->row.transfer_id != row->transfer_id || m->row.request_id != row->request_id)
            continue;
        m->row.realised_gain_ns =
            cop_account_gain(&f->cost, row, m->ended ? m->row.ended_ns : INT64_MAX);
        m->settled = true;
    }
}

static cop_status write_settled_movements(cop_frontend *f, bool all, cop_error *err)
{
    size_t kept = 0;
    cop_status status = COP_OK;
    for (size_t i = 0; i < f->movement_count; i++) {
        movement *m = &f->movements[i];
        bool ready = m->ended && (m->settled || all);
        if (ready && status == COP_OK)
            status = cop_record_append(f->record, COP_TABLE_transfers, &m->row, 1, err);
        if (!ready)
            f->movements[kept++] = *m;
    }
    f->movement_count = kept;
    return status;
}

/* Messages are valid (message.h) when they come here: reading them cannot fail. */
static cop_status hear_story(cop_frontend *f, cop_heard heard, uint32_t worker, int64_t now_ns,
                             cop_error *err)
{
    cop_request_story story;
    cop_cursor_get(&heard.body, &story, sizeof story);
    if (story.request >= cop_workload_total(f->workload) || !f->flights[story.request])
        return cop_fail(err, COP_ERR_TRANSPORT, "worker %u reports a request it was not given",
                        worker);
    bool finished = heard.kind == COP_SAY_FINISHED;
    cop_router_event event = {.kind = finished ? COP_ROUTER_FINISHED : COP_ROUTER_FIRST_TOKEN,
                              .now_ns = now_ns,
                              .worker = worker,
                              .request = story.request};
    cop_router_step(f->router, &event, &f->actions);
    cop_requests_row *row = f->flights[story.request];
    if (!finished) {
        cop_account_stamps(row, &story, now_ns);
        row->hit_local_tokens = story.hit_local;
        row->hit_migrated_tokens = story.hit_migrated;
        row->hit_host_tokens = story.hit_host;
        row->computed_tokens = story.computed;
        row->resident_tokens = story.resident_tokens;
        row->first_token = story.first_token;
        row->miss_class = cop_account_miss(row, (uint32_t)f->cfg->cache_block_tokens);
        if (row->transfer_id != COP_NO_TRANSFER)
            settle(f, row);
        cop_progress_first_token(&f->progress, row->ttft_ns, row->prompt_tokens,
                                 row->prompt_tokens - row->computed_tokens);
        return write_settled_movements(f, false, err);
    }
    row->finished_ns = now_ns;
    row->e2e_ns = row->finished_ns - row->scheduled_ns;
    row->logits_digest = story.logits_digest;
    cop_status status = cop_record_append(f->record, COP_TABLE_requests, row, 1, err);
    f->flights[story.request] = NULL;
    free(row);
    cop_workload_finished(f->workload, story.request, now_ns);
    cop_progress_finished(&f->progress);
    return status;
}

static cop_status hear_blocks(cop_frontend *f, cop_heard heard, uint32_t worker, int64_t now_ns)
{
    cop_say_blocks say;
    cop_cursor_get(&heard.body, &say, sizeof say);
    const uint64_t *hashes = cop_cursor_take(&heard.body, say.count * sizeof *hashes);
    cop_router_event event = {
        .kind = heard.kind == COP_SAY_INSERTED ? COP_ROUTER_INSERTED : COP_ROUTER_EVICTED,
        .now_ns = now_ns,
        .worker = worker,
        .blocks = {.hashes = hashes, .count = say.count, .used_blocks = say.used_blocks}};
    cop_router_step(f->router, &event, &f->actions);
    return COP_OK;
}

static cop_status hear_ended(cop_frontend *f, cop_heard heard, uint32_t worker, int64_t now_ns,
                             cop_error *err)
{
    cop_say_ended say;
    cop_cursor_get(&heard.body, &say, sizeof say);
    cop_router_event event = {.kind = COP_ROUTER_TRANSFER_ENDED,
                              .now_ns = now_ns,
                              .worker = worker,
                              .transfer = {.id = say.transfer, .outcome = say.outcome}};
    cop_router_step(f->router, &event, &f->actions);
    for (size_t i = 0; i < f->movement_count; i++) {
        movement *m = &f->movements[i];
        if (m->row.transfer_id != say.transfer)
            continue;
        m->ended = true;
        m->row.offered_ns = say.offered_ns;
        m->row.posted_ns = say.posted_ns;
        m->row.ended_ns = say.ended_ns;
        m->row.wait_ns = say.wait_ns;
        m->row.wire_ns = say.wire_ns;
        m->row.unpack_ns = say.unpack_ns;
        m->row.bytes = say.bytes;
        m->row.blocks = say.blocks;
        m->row.outcome = (uint8_t)say.outcome;
    }
    f->movements_open--;
    cop_progress_transfer(&f->progress, say.outcome == COP_TRANSFER_DONE);
    return write_settled_movements(f, false, err);
}

static cop_status hear_step(cop_frontend *f, cop_heard heard, uint32_t worker, int64_t now_ns,
                            cop_error *err)
{
    cop_steps_row row;
    cop_cursor_get(&heard.body, &row, sizeof row);
    cop_router_event event = {.kind = COP_ROUTER_STEPPED,
                              .now_ns = now_ns,
                              .worker = worker,
                              .step = {.tokens = row.prefill_tokens + row.decode_sequences,
                                       .pairs = row.attended_pairs,
                                       .ns = (double)row.duration_ns}};
    cop_router_step(f->router, &event, &f->actions);
    return cop_record_append(f->record, COP_TABLE_steps, &row, 1, err);
}

static cop_status hear_evictions(cop_frontend *f, cop_heard heard, cop_error *err)
{
    cop_evictions_row row;
    cop_status status = COP_OK;
    while (status == COP_OK && cop_cursor_get(&heard.body, &row, sizeof row)) {
        uint32_t before = row.depth_tokens - row.tokens;
        row.recompute_ns = f->cost.per_token_ns * row.tokens +
                           f->cost.per_pair_ns * cop_cost_pairs(before, row.tokens);
        status = cop_record_append(f->record, COP_TABLE_evictions, &row, 1, err);
    }
    return status;
}

cop_status cop_frontend_hear(cop_frontend *f, uint32_t worker, const cop_heard *heard,
                             cop_error *err)
{
    int64_t now_ns = run_now(f);
    cop_workers_row gauges;
    switch (heard->kind) {
    case COP_SAY_INSERTED:
    case COP_SAY_EVICTED:
        return hear_blocks(f, *heard, worker, now_ns);
    case COP_SAY_FIRST_TOKEN:
    case COP_SAY_FINISHED:
        return hear_story(f, *heard, worker, now_ns, err);
    case COP_SAY_TRANSFER_ENDED:
        return hear_ended(f, *heard, worker, now_ns, err);
    case COP_SAY_STEP:
        return hear_step(f, *heard, worker, now_ns, err);
    case COP_SAY_EVICTION_ROWS:
        return hear_evictions(f, *heard, err);
    case COP_SAY_GAUGES: {
        cop_cursor body = heard->body;
        cop_cursor_get(&body, &gauges, sizeof gauges);
        return cop_record_append(f->record, COP_TABLE_workers, &gauges, 1, err);
    }
    default: /* the cluster hands us reports only */
        COP_CHECK(false);
    }
}

/* ---- time -------------------------------------------------------------------------------- */

int64_t cop_frontend_next_ns(const cop_frontend *f)
{
    int64_t due_ns;
    return cop_workload_due(f->workload, &due_ns) ? due_ns : INT64_MAX;
}

cop_status cop_frontend_poll(cop_frontend *f, bool *busy, cop_error *err)
{
    int64_t now_ns = run_now(f);
    cop_status status = COP_OK;
    if (cop_frontend_next_ns(f) <= now_ns) {
        *busy = true;
        status = arrive(f, err);
    }
    if (status == COP_OK && now_ns >= f->next_flush_ns) {
        f->next_flush_ns = now_ns + (int64_t)(f->cfg->record_flush_ms * COP_NS_PER_MS);
        status = cop_record_flush(f->record, err);
    }
    cop_progress_show(&f->progress, now_ns);
    return status;
}

bool cop_frontend_finished(const cop_frontend *f)
{
    return cop_workload_done(f->workload) && f->movements_open == 0;
}

cop_status cop_frontend_close(cop_frontend *f, bool completed, cop_error *err)
{
    cop_status status = COP_OK;
    if (f->record) {
        char digest[32];
        snprintf(digest, sizeof digest, "%016llx",
                 (unsigned long long)cop_router_digest(f->router));
        cop_record_text(f->record, "decisions_digest", digest);
        status = write_settled_movements(f, true, err);
        cop_status closed = cop_record_close(f->record, completed, status == COP_OK ? err : NULL);
        status = status == COP_OK ? closed : status;
        if (status == COP_OK)
            cop_progress_end(&f->progress, run_now(f), f->cfg->record_path, completed);
    }
    for (uint64_t i = 0; f->flights && i < cop_workload_total(f->workload); i++)
        free(f->flights[i]);
    free(f->flights);
    free(f->movements);
    cop_router_actions_fini(&f->actions);
    if (f->router)
        cop_router_close(f->router);
    if (f->workload)
        cop_workload_close(f->workload);
    free(f);
    return status;
}
