#include "core/router.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/rng.h"
#include "core/directory.h"
#include "core/fetch.h"
#include "core/migrate/migrate.h"
#include "core/route/route.h"
#include "core/view.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The digest reads these as bytes: they must have no padding. */
static_assert(sizeof(cop_candidate) == 72, "cop_candidate has padding");
static_assert(sizeof(cop_plan) == 72, "cop_plan has padding");

struct cop_router {
    cop_router_options options;
    const cop_route_ops *route;
    const cop_migrate_ops *migrate;
    void *route_state;
    cop_directory directory;
    cop_ledger ledger;
    cop_fetches fetches;
    cop_view view;
    uint64_t transfers, digest; /* transfers: planned so far */
    uint64_t *hashes;           /* scratch, per block of the prompt */
    size_t hashes_capacity;
    uint32_t *holders; /* likewise */
    size_t holders_capacity;
    uint32_t *matched; /* scratch, per worker */
};

cop_status cop_router_open(cop_router **out, const cop_router_options *options, cop_error *err)
{
    const cop_route_ops *route;
    const cop_migrate_ops *migrate;
    cop_status status = cop_route_find(options->policy, &route, err);
    if (status == COP_OK)
        status = cop_migrate_find(options->migration, &migrate, err);
    if (status != COP_OK)
        return status;
    if (options->workers == 0 || options->block_tokens == 0)
        return cop_fail(err, COP_ERR_INVALID,
                        "a router needs at least 1 worker and 1 token in a block, not %u and %u",
                        options->workers, options->block_tokens);
    cop_router *r = cop_calloc(1, sizeof *r);
    r->options = *options;
    r->options.policy = route->name;
    r->options.migration = migrate->name;
    r->route = route;
    r->migrate = migrate;
    r->route_state = route->open ? route->open(&r->options) : NULL;
    cop_directory_init(&r->directory, options->workers, true);
    cop_ledger_init(&r->ledger, options->workers);
    cop_fetches_init(&r->fetches, &options->cost, options->workers);
    r->matched = cop_calloc(options->workers, sizeof *r->matched);
    *out = r;
    return COP_OK;
}

void cop_router_close(cop_router *r)
{
    if (!r)
        return;
    if (r->route->close)
        r->route->close(r->route_state);
    cop_directory_fini(&r->directory);
    cop_ledger_fini(&r->ledger);
    cop_fetches_fini(&r->fetches);
    cop_view_fini(&r->view);
    free(r->hashes);
    free(r->holders);
    free(r->matched);
    free(r);
}

void cop_router_actions_fini(cop_router_actions *actions)
{
    free(actions->candidates);
    free(actions->plans);
    *actions = (cop_router_actions){0};
}

/* ---- an arrival ------------------------------------------------------------------------ */

static const char *reject_reason(const cop_router_options *options, const cop_request *request)
{
    if ((uint64_t)request->prompt_tokens + request->output_tokens > options->max_context)
        return "prompt and output are longer than the model's context";
    if (cop_request_blocks(request, options->block_tokens) > options->pool_blocks)
        return "prompt and output need more blocks than a worker's pool has";
    return NULL;
}

/* Hashes the full blocks and starts fetching their entries: hashing is a chain of dependent
 * multiplications, which leaves the memory system free. Returns how many blocks. */
static uint32_t hash_prompt(cop_router *r, const cop_request *request)
{
    uint32_t size = r->options.block_tokens, count = request->prompt_tokens / size;
    COP_GROW(r->hashes, r->hashes_capacity, count);
    COP_GROW(r->holders, r->holders_capacity, count);
    uint64_t hash = cop_hash_root(request->tenant);
    for (uint32_t i = 0; i < count; i++) {
        hash = cop_hash_block(hash, request->tokens + (size_t)i * size, size);
        r->hashes[i] = hash;
        cop_directory_prefetch(&r->directory, hash);
    }
    return count;
}

/* Longest match; among equals the sender whose link is free soonest, then the lowest number. */
static void find_best(cop_router *r, cop_arrival *in)
{
    in->best_worker = COP_NO_WORKER;
    int64_t best_wait_ns = 0;
    for (uint32_t w = 0; w < r->options.workers; w++) {
        if (r->matched[w] == 0 || r->matched[w] < in->best_blocks)
            continue;
        int64_t wait_ns = cop_link_wait_ns(&r->fetches.links[w], in->now_ns);
        if (r->matched[w] == in->best_blocks && wait_ns >= best_wait_ns)
            continue;
        in->best_worker = w;
        in->best_blocks = r->matched[w];
        best_wait_ns = wait_ns;
    }
    if (in->best_blocks > 0)
        in->best_uses = cop_directory_uses(&r->directory, r->hashes[in->best_blocks - 1]);
}

static cop_arrival look_up(cop_router *r, const cop_request *request, int64_t now_ns,
                           uint32_t *ideal_blocks)
{
    cop_arrival in = {
        .options = &r->options,
        .request = request,
        .blocks = hash_prompt(r, request),
        .match_blocks = (request->prompt_tokens - 1) / r->options.block_tokens,
        .now_ns = now_ns,
        .can_fetch = r->migrate->pulls && r->options.cache_enabled,
        .loads = r->ledger.loads,
        .fetches = &r->fetches,
    };
    in.hashes = r->hashes;
    uint32_t known = cop_directory_ask(&r->directory, r->hashes, in.blocks, r->holders);
    *ideal_blocks = known < in.match_blocks ? known : in.match_blocks;
    uint32_t count = r->options.cache_enabled ? in.match_blocks : 0;
    cop_directory_match(&r->directory, r->holders, count, r->matched);
    find_best(r, &in);
    return in;
}

static void fill_candidates(const cop_router *r, const cop_arrival *in, cop_candidate *candidates)
{
    uint32_t last = UINT32_MAX; /* most workers match alike (not at all): predict that once */
    double prefill_ns = 0;
    for (uint32_t w = 0; w < r->options.workers; w++) {
        const cop_load *load = &r->ledger.loads[w];
        uint32_t match = r->matched[w] * r->options.block_tokens;
        if (match != last)
            prefill_ns = cop_cost_prefill_ns(&r->options.cost, in->request->prompt_tokens, match);
        last = match;
        candidates[w] = (cop_candidate){
            .worker = w,
            .match_tokens = match,
            .outstanding = load->requests,
            .outstanding_tokens = load->tokens < UINT32_MAX ? (uint32_t)load->tokens : UINT32_MAX,
            .drain_ns = load->speed * (double)load->prefill_ns,
            .recompute_ns = load->speed * prefill_ns,
        };
    }
    cop_fetch_predict(in, candidates);
}

static uint64_t tie_hash(const cop_router *r, uint64_t request, uint32_t worker)
{
    return cop_splitmix64(cop_splitmix64(r->options.seed ^ cop_splitmix64(request)) + worker);
}

static bool costs_equal(const cop_candidate *a, const cop_candidate *b)
{
    return a->cost == b->cost && a->tie_cost == b->tie_cost;
}

/* Lowest (cost, tie_cost, seeded hash, number). */
static uint32_t choose(const cop_router *r, uint64_t request, const cop_candidate *candidates,
                       bool *tie)
{
    uint32_t best = 0;
    uint64_t best_hash = 0; /* known when there was a tie */
    *tie = false;
    COP_CHECK(!isnan(candidates[0].cost) && !isnan(candidates[0].tie_cost));
    for (uint32_t w = 1; w < r->options.workers; w++) {
        const cop_candidate *c = &candidates[w], *b = &candidates[best];
        COP_CHECK(!isnan(c->cost) && !isnan(c->tie_cost));
        if (costs_equal(c, b)) {
            if (!*tie)
                best_hash = tie_hash(r, request, best);
            *tie = true;
            uint64_t hash = tie_hash(r, request, w);
            if (hash < best_hash) {
                best = w;
                best_hash = hash;
            }
        } else if (c->cost < b->cost || (c->cost == b->cost && c->tie_cost < b->tie_cost)) {
            best = w;
            *tie = false;
        }
    }
    return best;
}

/* Numbers the plan, enters it, and puts it among the actions. */
static void start_transfer(cop_router *r, const cop_arrival *in, const cop_plan *wanted,
                           cop_router_actions *out)
{
    COP_CHECK(wanted->src != wanted->dst && wanted->have_block < wanted->end_block);
    COP_GROW(out->plans, out->plans_capacity, out->plan_count + 1);
    cop_plan *plan = &out->plans[out->plan_count++];
    *plan = *wanted;
    plan->id = ++r->transfers;
    plan->request = in->request->id;
    plan->pad = 0;
    plan->last_hash = in->hashes[plan->end_block - 1];
    plan->planned_ns = in->now_ns;
    if (plan->reason == COP_REASON_PULL)
        out->transfer = plan->id;
    cop_fetches_start(&r->fetches, &r->options.cost, plan);
}

static void migrate(cop_router *r, const cop_arrival *in, cop_router_actions *out)
{
    cop_migration migration = {0};
    if (r->options.cache_enabled)
        r->migrate->plan(in, out->candidates, out->decision.worker, &migration);
    out->transfer = migration.wait_for;
    if (migration.planned)
        start_transfer(r, in, &migration.plan, out);
}

/* Predicts the request where it goes and charges it to the worker. */
static void charge(cop_router *r, const cop_arrival *in, cop_router_actions *out)
{
    const cop_candidate *c = &out->candidates[out->decision.worker];
    bool fetched = out->transfer != COP_NO_TRANSFER;
    uint32_t cached = fetched ? c->fetch_tokens : c->match_tokens;
    out->decision.match_tokens = c->match_tokens;
    out->decision.predicted_ttft_ns =
        c->drain_ns + (fetched ? c->fetch_ns + c->fetched_ns : c->recompute_ns);
    cop_ledger_charge(&r->ledger, in->request->id, c->worker, in->request->prompt_tokens - cached,
                      (uint32_t)cop_request_blocks(in->request, r->options.block_tokens),
                      cop_cost_prefill_ns(&r->options.cost, in->request->prompt_tokens, cached));
}

static void place(cop_router *r, const cop_request *request, int64_t now_ns,
                  cop_router_actions *out)
{
    cop_decision *decision = &out->decision;
    uint32_t ideal_blocks, workers = r->options.workers;
    cop_arrival in = look_up(r, request, now_ns, &ideal_blocks);
    COP_GROW(out->candidates, out->candidates_capacity, workers);
    fill_candidates(r, &in, out->candidates);
    r->route->score(r->route_state, &in, out->candidates);
    decision->candidates = workers;
    decision->worker = choose(r, request->id, out->candidates, &decision->tie);
    decision->best_match_tokens = in.best_blocks * r->options.block_tokens;
    decision->ideal_match_tokens = ideal_blocks * r->options.block_tokens;
    if (r->route->chosen)
        r->route->chosen(r->route_state, &in, decision->worker);
    migrate(r, &in, out);
    charge(r, &in, out);
}

static void extend_digest(cop_router *r, const cop_router_actions *out)
{
    const cop_decision *d = &out->decision;
    uint64_t facts[] = {d->request,           d->worker,    d->match_tokens,
                        d->best_match_tokens, d->tie,       d->ideal_match_tokens,
                        out->transfer,        d->candidates};
    r->digest = cop_hash(facts, sizeof facts, r->digest);
    if (d->candidates)
        r->digest = cop_hash(out->candidates, d->candidates * sizeof *out->candidates, r->digest);
    if (out->plan_count)
        r->digest = cop_hash(out->plans, out->plan_count * sizeof *out->plans, r->digest);
}

static void arrive(cop_router *r, const cop_router_event *event, cop_router_actions *out)
{
    const cop_request *request = event->arrival;
    COP_CHECK(request->prompt_tokens >= 1);
    out->decided = true;
    out->decision = (cop_decision){
        .request = request->id,
        .worker = COP_NO_WORKER,
        .in_view = r->view.count == 0,
        .reject_reason = reject_reason(&r->options, request),
    };
    if (!out->decision.reject_reason)
        place(r, request, event->now_ns, out);
    extend_digest(r, out);
}

/* ---- what workers say ------------------------------------------------------------------ */

static void apply_report(cop_router *r, const cop_report *report)
{
    r->ledger.loads[report->worker].used_blocks = report->used_blocks;
    if (report->inserted)
        cop_directory_insert(&r->directory, report->worker, report->hashes, report->count);
    else
        cop_directory_remove(&r->directory, report->worker, report->hashes, report->count);
}

static void hear_report(cop_router *r, const cop_router_event *event)
{
    cop_report report = {
        .due_ns = event->now_ns + r->options.view_delay_ns,
        .hashes = (uint64_t *)event->blocks.hashes,
        .count = event->blocks.count,
        .worker = event->worker,
        .used_blocks = event->blocks.used_blocks,
        .inserted = event->kind == COP_ROUTER_INSERTED,
    };
    if (r->options.view_delay_ns == 0)
        apply_report(r, &report);
    else
        cop_view_put(&r->view, &report);
}

static void catch_up(cop_router *r, int64_t now_ns)
{
    cop_report report;
    while (cop_view_take(&r->view, now_ns, &report)) {
        apply_report(r, &report);
        free(report.hashes);
    }
}

static void hear_step(cop_router *r, const cop_router_event *event)
{
    const cop_cost *cost = &r->options.cost;
    double predicted_ns = cost->step_ns + cost->per_token_ns * event->step.tokens +
                          cost->per_pair_ns * event->step.pairs;
    cop_ledger_stepped(&r->ledger, event->worker, predicted_ns, event->step.ns);
}

static void hear(cop_router *r, const cop_router_event *event, cop_router_actions *out)
{
    switch (event->kind) {
    case COP_ROUTER_ARRIVAL:
        arrive(r, event, out);
        break;
    case COP_ROUTER_INSERTED:
    case COP_ROUTER_EVICTED:
        hear_report(r, event);
        break;
    case COP_ROUTER_FIRST_TOKEN:
        cop_ledger_first_token(&r->ledger, event->request, event->worker);
        break;
    case COP_ROUTER_FINISHED:
        cop_ledger_finished(&r->ledger, event->request, event->worker);
        break;
    case COP_ROUTER_TRANSFER_ENDED:
        cop_fetches_end(&r->fetches, event->transfer.id);
        break;
    case COP_ROUTER_STEPPED:
        hear_step(r, event);
        break;
    case COP_ROUTER_KINDS:
        COP_CHECK(!"an event kind");
    }
}

void cop_router_step(cop_router *r, const cop_router_event *event, cop_router_actions *out)
{
    COP_CHECK(event->kind == COP_ROUTER_ARRIVAL || event->worker < r->options.workers);
    out->decided = false;
    out->transfer = COP_NO_TRANSFER;
    out->plan_count = 0;
    catch_up(r, event->now_ns);
    hear(r, event, out);
#ifdef COP_WALK_INVARIANTS
    cop_router_check(r);
#endif
}

uint64_t cop_router_digest(const cop_router *r)
{
    return r->digest;
}

void cop_router_check(const cop_router *r)
{
    cop_directory_check(&r->directory);
    cop_ledger_check(&r->ledger);
    cop_fetches_check(&r->fetches);
    cop_view_check(&r->view);
    COP_CHECK(r->options.view_delay_ns > 0 || r->view.count == 0);
    for (size_t i = 0; i < r->fetches.count; i++)
        COP_CHECK(r->fetches.flights[i].plan.id <= r->transfers);
    if (r->route->check)
        r->route->check(r->route_state);
}
