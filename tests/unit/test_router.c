#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "core/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 16, LONGEST = 4096 };

/* A router and the workers it talks to, as far as it can tell. Prompts are runs of tokens: a stem
 * that prompts may share, then a tail of their own. */
typedef struct {
    cop_router *router;
    cop_router_actions actions;
    uint32_t tokens[LONGEST];
    uint64_t hashes[LONGEST / BLOCK];
    uint32_t count; /* tokens of the last prompt */
    uint64_t next_id, tenant;
    int64_t now_ns;
} rig;

static cop_router_options base_options(void)
{
    return (cop_router_options){
        .workers = 2,
        .block_tokens = BLOCK,
        .max_context = LONGEST,
        .pool_blocks = 1000,
        .policy = "longest_prefix",
        .migration = "off",
        .cache_enabled = true,
        .hot_count = 2,
        .hot_replicas = 2,
        .cost = {.per_token_ns = 1000,
                 .link_alpha_ns = 4000,
                 .link_beta_ns = 1,
                 .block_bytes = 1000,
                 .block_tokens = BLOCK},
    };
}

static rig *rig_open(const cop_router_options *options)
{
    rig *r = cop_calloc(1, sizeof *r);
    cop_error err;
    assert_int_equal(cop_router_open(&r->router, options, &err), COP_OK);
    return r;
}

static void rig_close(rig *r)
{
    cop_router_check(r->router);
    cop_router_actions_fini(&r->actions);
    cop_router_close(r->router);
    free(r);
}

static void step(rig *r, cop_router_event event)
{
    event.now_ns = r->now_ns;
    cop_router_step(r->router, &event, &r->actions);
}

static void prompt(rig *r, uint32_t stem, uint32_t stem_tokens, uint32_t tail, uint32_t tail_tokens)
{
    r->count = stem_tokens + tail_tokens;
    uint64_t hash = cop_hash_root(r->tenant);
    for (uint32_t i = 0; i < r->count; i++)
        r->tokens[i] = i < stem_tokens ? stem * 10000 + i : 1000000 + tail * 10000 + i;
    for (uint32_t i = 0; i < r->count / BLOCK; i++)
        r->hashes[i] = hash = cop_hash_block(hash, r->tokens + (size_t)i * BLOCK, BLOCK);
}

/* Sends the last prompt; returns the decision. */
static const cop_decision *arrive(rig *r)
{
    cop_request request = {.id = r->next_id++,
                           .tenant = r->tenant,
                           .prompt_tokens = r->count,
                           .output_tokens = 1,
                           .tokens = r->tokens};
    step(r, (cop_router_event){.kind = COP_ROUTER_ARRIVAL, .arrival = &request});
    return &r->actions.decision;
}

/* `worker` says that it holds, or no longer holds, the last prompt. */
static void report(rig *r, cop_router_event_kind kind, uint32_t worker, uint32_t used_blocks)
{
    step(r, (cop_router_event){.kind = kind,
                               .worker = worker,
                               .blocks = {r->hashes, r->count / BLOCK, used_blocks}});
}

static void finish(rig *r, uint32_t worker, uint64_t request)
{
    step(r, (cop_router_event){.kind = COP_ROUTER_FINISHED, .worker = worker, .request = request});
}

static const cop_candidate *candidate(const rig *r, uint32_t worker)
{
    return &r->actions.candidates[worker];
}

/* ---- the router itself ------------------------------------------------------------------ */

static void test_unknown_names_are_refused(void **state)
{
    cop_router_options options = base_options();
    cop_router *router = NULL;
    cop_error err;
    options.policy = "longest_prefx";
    assert_int_equal(cop_router_open(&router, &options, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "router.policy: unknown policy 'longest_prefx'; did you "
                                     "mean 'longest_prefix'? (longest_prefix, random"));
    options.policy = "random";
    options.migration = "push";
    assert_int_equal(cop_router_open(&router, &options, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "unknown policy 'push' (off, pull, replicate_hot)"));
    assert_null(router);
}

static void test_what_cannot_be_served_is_rejected(void **state)
{
    cop_router_options options = base_options();
    options.pool_blocks = 8;
    options.max_context = 200;
    rig *r = rig_open(&options);
    prompt(r, 1, 127, 0, 0); /* with its one output token: 8 blocks */
    assert_null(arrive(r)->reject_reason);
    prompt(r, 2, 128, 0, 0);
    const cop_decision *d = arrive(r);
    assert_non_null(strstr(d->reject_reason, "pool"));
    assert_int_equal(d->worker, COP_NO_WORKER);
    assert_int_equal(d->candidates, 0);
    prompt(r, 2, 200, 0, 0);
    assert_non_null(strstr(arrive(r)->reject_reason, "context"));
    prompt(r, 2, 100, 0, 0); /* rejected requests were never served: nothing to match, ideally */
    assert_int_equal(arrive(r)->ideal_match_tokens, 0);
    rig_close(r);
}

static void test_match_leaves_one_token_and_keeps_tenants_apart(void **state)
{
    cop_router_options options = base_options();
    rig *r = rig_open(&options);
    prompt(r, 1, 64, 0, 0);
    uint32_t worker = arrive(r)->worker;
    report(r, COP_ROUTER_INSERTED, worker, 4);
    const cop_decision *d = arrive(r);
    assert_int_equal(d->worker, worker);
    assert_int_equal(d->match_tokens, 48);
    assert_int_equal(d->ideal_match_tokens, 48);
    r->tenant = 7;
    prompt(r, 1, 64, 0, 0);
    d = arrive(r);
    assert_int_equal(d->match_tokens, 0);
    assert_int_equal(d->ideal_match_tokens, 0);
    rig_close(r);
}

static void test_without_a_cache_nothing_matches(void **state)
{
    cop_router_options options = base_options();
    options.cache_enabled = false;
    options.migration = "pull";
    rig *r = rig_open(&options);
    prompt(r, 1, 640, 0, 0);
    arrive(r);
    report(r, COP_ROUTER_INSERTED, 0, 40);
    const cop_decision *d = arrive(r);
    assert_int_equal(d->best_match_tokens, 0);
    assert_int_equal(d->ideal_match_tokens, 624); /* a bound, cache or not */
    assert_int_equal(r->actions.plan_count, 0);
    rig_close(r);
}

static void test_view_is_late_by_its_delay(void **state)
{
    cop_router_options options = base_options();
    options.view_delay_ns = 100;
    rig *r = rig_open(&options);
    prompt(r, 1, 160, 0, 0);
    r->now_ns = 1000;
    report(r, COP_ROUTER_INSERTED, 1, 10);
    memset(r->hashes, 0xee, sizeof r->hashes); /* the router must have its own copy */
    r->now_ns = 1099;
    const cop_decision *d = arrive(r);
    assert_int_equal(d->best_match_tokens, 0);
    assert_false(d->in_view);
    r->now_ns = 1100;
    d = arrive(r);
    assert_int_equal(d->best_match_tokens, 144);
    assert_int_equal(d->worker, 1);
    assert_true(d->in_view);
    prompt(r, 1, 160, 0, 0);
    report(r, COP_ROUTER_EVICTED, 1, 0);
    assert_int_equal(arrive(r)->best_match_tokens, 144);
    r->now_ns = 1200;
    assert_int_equal(arrive(r)->best_match_tokens, 0);
    rig_close(r);
}

static void test_load_is_released_at_first_token_and_end(void **state)
{
    cop_router_options options = base_options();
    options.workers = 1;
    rig *r = rig_open(&options);
    prompt(r, 1, 100, 0, 0);
    arrive(r);
    arrive(r);
    assert_int_equal(candidate(r, 0)->outstanding, 1);
    assert_int_equal(candidate(r, 0)->outstanding_tokens, 100);
    assert_true(candidate(r, 0)->drain_ns == 100 * 1000);
    step(r, (cop_router_event){.kind = COP_ROUTER_FIRST_TOKEN, .request = 0});
    arrive(r);
    assert_int_equal(candidate(r, 0)->outstanding, 2);
    assert_int_equal(candidate(r, 0)->outstanding_tokens, 100);
    for (uint64_t id = 0; id < 3; id++)
        finish(r, 0, id);
    arrive(r);
    assert_int_equal(candidate(r, 0)->outstanding, 0);
    assert_int_equal(candidate(r, 0)->outstanding_tokens, 0);
    rig_close(r);
}

/* A worker eight times slower than the probe said; then absurd steps, which are clamped. */
static void test_speed_follows_observed_steps(void **state)
{
    cop_router_options options = base_options();
    rig *r = rig_open(&options);
    cop_router_event slow = {.kind = COP_ROUTER_STEPPED, .worker = 1, .step = {10, 0, 80000}};
    for (int i = 0; i < 100; i++)
        step(r, slow);
    prompt(r, 1, 100, 0, 0);
    arrive(r);
    assert_true(candidate(r, 0)->recompute_ns == 100 * 1000);
    assert_true(candidate(r, 1)->recompute_ns > 7.99 * 100 * 1000);
    assert_true(candidate(r, 1)->recompute_ns < 8.01 * 100 * 1000);
    slow.step.ns = 1e15;
    for (int i = 0; i < 100; i++)
        step(r, slow);
    arrive(r);
    assert_true(candidate(r, 1)->recompute_ns <= 16 * 100 * 1000);
    rig_close(r);
}

/* Ties are said to be ties, go both ways over many requests, and go the same way again. */
static void test_ties_are_seeded(void **state)
{
    uint32_t chosen[2][64], ones = 0;
    for (int run = 0; run < 2; run++) {
        cop_router_options options = base_options();
        rig *r = rig_open(&options);
        for (uint32_t i = 0; i < 64; i++) {
            prompt(r, 0, 0, i, 20);
            const cop_decision *d = arrive(r);
            assert_true(d->tie);
            chosen[run][i] = d->worker;
            finish(r, d->worker, i);
        }
        rig_close(r);
    }
    assert_memory_equal(chosen[0], chosen[1], sizeof chosen[0]);
    for (uint32_t i = 0; i < 64; i++)
        ones += chosen[0][i];
    assert_in_range(ones, 16, 48);
}

/* ---- rule T1 ------------------------------------------------------------------------------ */

/* 10 blocks at worker 0, a prompt of 11 at worker 1 by load. Fetching takes 4,000 + 10 * 1,000 *
 * beta ns and saves 160 * 1,000 ns: break-even at beta = 15.6. */
static rig *pull_rig(cop_router_options *options, double beta)
{
    options->policy = "least_loaded";
    options->migration = "pull";
    options->cost.link_beta_ns = beta;
    rig *r = rig_open(options);
    prompt(r, 1, 160, 1, 16);
    uint32_t first = arrive(r)->worker;
    report(r, COP_ROUTER_INSERTED, first, 11);
    prompt(r, 1, 160, 2, 16);
    assert_int_equal(arrive(r)->worker, 1 - first);
    return r;
}

static void test_pull_on_both_sides_of_break_even(void **state)
{
    cop_router_options options = base_options();
    rig *r = pull_rig(&options, 15.5);
    assert_int_equal(r->actions.plan_count, 1);
    const cop_plan *plan = &r->actions.plans[0];
    uint32_t src = plan->src;
    assert_int_equal(plan->dst, 1 - src);
    assert_int_equal(plan->have_block, 0);
    assert_int_equal(plan->end_block, 10);
    assert_true(plan->last_hash == r->hashes[9]);
    assert_true(plan->predicted_transfer_ns == 4000 + 155000);
    assert_true(plan->predicted_saved_ns == 160000);
    assert_int_equal(plan->reason, COP_REASON_PULL);
    assert_int_equal(r->actions.transfer, plan->id);
    assert_true(r->actions.decision.predicted_ttft_ns == 159000 + 16000);
    rig_close(r);
    r = pull_rig(&options, 15.7);
    assert_int_equal(r->actions.plan_count, 0);
    assert_int_equal(r->actions.transfer, COP_NO_TRANSFER);
    assert_true(r->actions.decision.predicted_ttft_ns == 176000);
    rig_close(r);
}

/* The pool of 20 blocks has 11 used, as the worker says, so one block of ten must go; at
 * rho = 1 it is worth 16,000 ns. */
static void test_pull_weighs_what_must_be_evicted(void **state)
{
    for (int rho = 0; rho < 2; rho++) {
        cop_router_options options = base_options();
        options.policy = "least_loaded";
        options.migration = "pull";
        options.cost.link_beta_ns = 15;
        options.pool_blocks = 20;
        options.eviction_weight = rho;
        rig *r = rig_open(&options);
        prompt(r, 1, 160, 0, 0);
        report(r, COP_ROUTER_INSERTED, 0, 11);
        prompt(r, 2, 16, 0, 0);
        report(r, COP_ROUTER_INSERTED, 1, 11);
        prompt(r, 3, 16, 0, 0); /* keeps one worker busy */
        uint32_t busy = arrive(r)->worker;
        if (busy == 1) { /* then the next goes to 0, and after that to 1 */
            prompt(r, 4, 16, 0, 0);
            assert_int_equal(arrive(r)->worker, 0);
            finish(r, 1, 0);
        }
        prompt(r, 1, 160, 2, 16);
        assert_int_equal(arrive(r)->worker, 1);
        assert_int_equal(r->actions.plan_count, rho ? 0 : 1);
        rig_close(r);
    }
}

/* Requests outstanding at the destination fill its pool: the transfer would find no room. */
static void test_pull_only_where_there_is_room(void **state)
{
    for (uint32_t pool = 22; pool <= 23; pool++) {
        cop_router_options options = base_options();
        options.policy = "round_robin";
        options.migration = "pull";
        options.pool_blocks = pool;
        rig *r = rig_open(&options);
        prompt(r, 1, 160, 0, 0);
        report(r, COP_ROUTER_INSERTED, 0, 10);
        prompt(r, 2, 16, 0, 0);
        assert_int_equal(arrive(r)->worker, 0);
        prompt(r, 3, 160, 0, 0); /* 11 blocks with its output, at worker 1 */
        assert_int_equal(arrive(r)->worker, 1);
        prompt(r, 2, 16, 0, 0);
        assert_int_equal(arrive(r)->worker, 0);
        prompt(r, 1, 160, 4, 16); /* 12 more */
        assert_int_equal(arrive(r)->worker, 1);
        assert_int_equal(r->actions.plan_count, pool == 23);
        rig_close(r);
    }
}

/* The same prefix again while it is on its way: wait for that transfer, plan nothing. */
static void test_pull_joins_what_is_under_way(void **state)
{
    cop_router_options options = base_options();
    options.policy = "round_robin";
    options.migration = "pull";
    options.cost.link_beta_ns = 5;
    rig *r = rig_open(&options);
    prompt(r, 1, 160, 1, 16);
    report(r, COP_ROUTER_INSERTED, 0, 11);
    uint64_t joined[2];
    for (uint32_t i = 0; i < 2; i++) {
        r->now_ns = i * 10000;
        prompt(r, 5, 16, i, 16);
        assert_int_equal(arrive(r)->worker, 0);
        prompt(r, 1, 160, 6 + i, 16);
        assert_int_equal(arrive(r)->worker, 1);
        assert_int_equal(r->actions.plan_count, i == 0);
        joined[i] = r->actions.transfer;
    }
    assert_int_not_equal(joined[0], COP_NO_TRANSFER);
    assert_int_equal(joined[1], joined[0]);
    assert_true(candidate(r, 1)->fetch_ns == 54000 - 10000);
    assert_true(r->actions.decision.predicted_ttft_ns == 16000 + 44000 + 16000);
    step(r, (cop_router_event){.kind = COP_ROUTER_TRANSFER_ENDED,
                               .worker = 1,
                               .transfer = {joined[0], COP_TRANSFER_GONE}});
    arrive(r);
    arrive(r);
    assert_int_equal(r->actions.plan_count, 1); /* it never landed: fetch it again */
    rig_close(r);
}

/* The stem is on its way to worker 1; a prompt that goes on where worker 2 has more pulls only what
 * lies beyond the stem, not before the stem is there. Where that saves less, it waits for the stem
 * alone. */
static void test_pull_goes_on_beyond_what_is_under_way(void **state)
{
    for (uint32_t beyond = 1; beyond <= 10; beyond += 9) {
        cop_router_options options = base_options();
        options.workers = 3;
        options.policy = "round_robin";
        options.migration = "pull";
        options.cost.link_beta_ns = 10;
        options.cost.link_alpha_ns = 20000;
        rig *r = rig_open(&options);
        prompt(r, 1, 320, 1, 16);
        report(r, COP_ROUTER_INSERTED, 0, 20);
        prompt(r, 1, 320, 2, beyond * BLOCK);
        report(r, COP_ROUTER_INSERTED, 2, 20 + beyond);
        prompt(r, 1, 320, 3, 16);
        assert_int_equal(arrive(r)->worker, 0);
        assert_int_equal(arrive(r)->worker, 1);
        cop_plan stem = r->actions.plans[0];
        assert_int_equal(stem.end_block, 20);
        assert_int_equal(arrive(r)->worker, 2);
        r->now_ns = 210000; /* 10,000 left of 20,000 + 20 * 10,000 */
        arrive(r);
        prompt(r, 1, 320, 2, beyond * BLOCK + 1);
        assert_int_equal(arrive(r)->worker, 1);
        if (beyond == 1) { /* 10,000 + 17,000 to wait and compute; 30,000 + 1,000 to pull */
            assert_int_equal(r->actions.plan_count, 0);
            assert_int_equal(r->actions.transfer, stem.id);
            assert_true(candidate(r, 1)->fetch_ns == 10000);
        } else { /* 10,000 + 161,000; 120,000 + 1,000 */
            assert_int_equal(r->actions.plan_count, 1);
            assert_int_equal(r->actions.plans[0].src, 2);
            assert_int_equal(r->actions.plans[0].have_block, 20);
            assert_int_equal(r->actions.plans[0].end_block, 30);
            assert_true(r->actions.plans[0].predicted_transfer_ns == 120000);
            assert_true(r->actions.plans[0].predicted_saved_ns == 480000);
        }
        rig_close(r);
    }
}

/* A second transfer from the same sender waits for the first. */
static void test_pull_waits_for_the_link(void **state)
{
    cop_router_options options = base_options();
    options.workers = 3;
    options.policy = "round_robin";
    options.migration = "pull";
    rig *r = rig_open(&options);
    prompt(r, 1, 160, 0, 0);
    report(r, COP_ROUTER_INSERTED, 0, 10);
    prompt(r, 1, 160, 2, 16);
    for (uint32_t w = 0; w < 3; w++)
        assert_int_equal(arrive(r)->worker, w);
    assert_true(r->actions.plans[0].predicted_transfer_ns == 10000 + 4000 + 10000);
    rig_close(r);
}

/* Of two holders, the one with nothing to send. */
static void test_pull_takes_the_idle_sender(void **state)
{
    cop_router_options options = base_options();
    options.workers = 4;
    options.policy = "round_robin";
    options.migration = "pull";
    rig *r = rig_open(&options);
    prompt(r, 1, 160, 0, 0);
    report(r, COP_ROUTER_INSERTED, 0, 10);
    report(r, COP_ROUTER_INSERTED, 3, 10);
    prompt(r, 1, 160, 2, 16);
    assert_int_equal(arrive(r)->worker, 0);
    assert_int_equal(arrive(r)->worker, 1);
    assert_int_equal(r->actions.plans[0].src, 0);
    assert_int_equal(arrive(r)->worker, 2);
    assert_int_equal(r->actions.plans[0].src, 3);
    rig_close(r);
}

static void test_hot_prefixes_are_copied_until_enough_hold_them(void **state)
{
    cop_router_options options = base_options();
    options.workers = 4;
    options.migration = "replicate_hot";
    options.hot_count = 3;
    rig *r = rig_open(&options);
    prompt(r, 1, 160, 0, 0);
    uint32_t holder = arrive(r)->worker;
    report(r, COP_ROUTER_INSERTED, holder, 10);
    prompt(r, 1, 160, 1, 16);
    assert_int_equal(arrive(r)->worker, holder);
    assert_int_equal(r->actions.plan_count, 0); /* asked for twice */
    prompt(r, 1, 160, 2, 16);
    assert_int_equal(arrive(r)->worker, holder);
    assert_int_equal(r->actions.plan_count, 1);
    cop_plan plan = r->actions.plans[0];
    assert_int_equal(plan.reason, COP_REASON_REPLICATE);
    assert_int_equal(plan.src, holder);
    assert_int_not_equal(plan.dst, holder);
    assert_int_equal(plan.end_block, 10);
    assert_int_equal(r->actions.transfer, COP_NO_TRANSFER);
    arrive(r);
    assert_int_equal(r->actions.plan_count, 0); /* one holds it, one is about to */
    rig_close(r);
}

/* ---- R9 ----------------------------------------------------------------------------------- */

static rig *sglang_rig(bool library)
{
    cop_router_options options = base_options();
    options.policy = "sglang_cache_aware";
    options.sglang_library_set = library;
    return rig_open(&options);
}

/* A match of 40 % of the prompt: above cli's threshold of 0.3, below library's 0.5. The router
 * never hears from a worker: the tree is its own. */
static void test_sglang_thresholds(void **state)
{
    for (int library = 0; library < 2; library++) {
        rig *r = sglang_rig(library);
        prompt(r, 1, 160, 0, 0);
        uint32_t first = arrive(r)->worker;
        prompt(r, 1, 160, 1, 240);
        assert_int_equal(arrive(r)->worker, library ? 1 - first : first);
        rig_close(r);
    }
}

/* Requests for one prefix pile up on its worker until max - min exceeds abs: cli 64, library 32. */
static void test_sglang_imbalance_switches_to_load(void **state)
{
    for (int library = 0; library < 2; library++) {
        rig *r = sglang_rig(library);
        prompt(r, 1, 160, 0, 0);
        uint32_t first = arrive(r)->worker;
        for (int sent = 1; sent < (library ? 33 : 65); sent++)
            assert_int_equal(arrive(r)->worker, first);
        assert_int_equal(arrive(r)->worker, 1 - first);
        rig_close(r);
    }
}

/* Imbalance needs both thresholds: once the lighter worker has many, 64 more are not 1.5 times as
 * many. */
static void test_sglang_relative_threshold(void **state)
{
    rig *r = sglang_rig(false);
    uint32_t sent[2] = {0, 0}, kept_apart = 0;
    prompt(r, 1, 160, 0, 0);
    uint32_t first = arrive(r)->worker;
    sent[first]++;
    while (sent[0] + sent[1] < 2000) {
        uint32_t low = sent[0] < sent[1] ? sent[0] : sent[1], high = sent[0] + sent[1] - low;
        bool imbalanced = high - low > 64 && high > 1.5 * low;
        uint32_t worker = arrive(r)->worker;
        sent[worker]++;
        kept_apart += !imbalanced && high - low > 64 && worker == first;
        if (imbalanced)
            assert_int_equal(sent[worker] - 1, low);
        else if (low == 0)
            assert_int_equal(worker, first);
    }
    assert_true(kept_apart > 0); /* abs alone is not enough */
    rig_close(r);
}

/* library: 10,000 tokens (625 blocks) a worker, cut every 30 s, least recently used first. Of
 * eight prompts of 250 blocks, each worker keeps its last two and the first half of the third (the
 * deep end goes first). Where the tree decides there is no tie; by load there is one, all being
 * idle. */
static void test_sglang_tree_is_cut_when_due(void **state)
{
    enum { PROMPTS = 8 };
    for (int due = 0; due < 2; due++) {
        rig *r = sglang_rig(true);
        uint32_t worker[PROMPTS], newer[2] = {0, 0}, gone = 0;
        for (uint32_t i = 0; i < PROMPTS; i++) {
            prompt(r, i, 4000, 0, 0);
            worker[i] = arrive(r)->worker;
            finish(r, worker[i], i);
        }
        r->now_ns = (int64_t)30 * COP_NS_PER_S - !due;
        for (uint32_t i = PROMPTS; i-- > 0;) {
            uint32_t rank = newer[worker[i]]++;
            bool kept = !due || rank <= 2;
            prompt(r, i, due && rank == 2 ? 2000 : 4000, 0, 0);
            const cop_decision *d = arrive(r);
            assert_int_equal(d->tie, !kept);
            if (kept)
                assert_int_equal(d->worker, worker[i]);
            gone += !kept;
            finish(r, d->worker, d->request);
            cop_router_check(r->router);
        }
        assert_int_equal(gone > 0, due);
        rig_close(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_names_are_refused),
        cmocka_unit_test(test_what_cannot_be_served_is_rejected),
        cmocka_unit_test(test_match_leaves_one_token_and_keeps_tenants_apart),
        cmocka_unit_test(test_without_a_cache_nothing_matches),
        cmocka_unit_test(test_view_is_late_by_its_delay),
        cmocka_unit_test(test_load_is_released_at_first_token_and_end),
        cmocka_unit_test(test_speed_follows_observed_steps),
        cmocka_unit_test(test_ties_are_seeded),
        cmocka_unit_test(test_pull_on_both_sides_of_break_even),
        cmocka_unit_test(test_pull_weighs_what_must_be_evicted),
        cmocka_unit_test(test_pull_only_where_there_is_room),
        cmocka_unit_test(test_pull_joins_what_is_under_way),
        cmocka_unit_test(test_pull_goes_on_beyond_what_is_under_way),
        cmocka_unit_test(test_pull_waits_for_the_link),
        cmocka_unit_test(test_pull_takes_the_idle_sender),
        cmocka_unit_test(test_hot_prefixes_are_copied_until_enough_hold_them),
        cmocka_unit_test(test_sglang_thresholds),
        cmocka_unit_test(test_sglang_imbalance_switches_to_load),
        cmocka_unit_test(test_sglang_relative_threshold),
        cmocka_unit_test(test_sglang_tree_is_cut_when_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
