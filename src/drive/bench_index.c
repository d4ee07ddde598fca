/* The router alone over a Mooncake trace: hash, look up, decide, insert. No model, no messages.
 *
 *     for each request:  expand its tokens                                    not timed
 *                        arrival -> decision                                  timed, histogram
 *                        hash its blocks again, as its worker would           timed apart: bound 1
 *                        INSERTED: blocks that the chosen worker lacked       timed
 *                        FIRST_TOKEN of the request 128 back, and the end of the
 *                        transfer planned with it; FINISHED of the one 256 back     timed
 *
 * Nothing is evicted, so the directory grows to every distinct block of the trace. Bounds: hashing
 * alone, and one cache miss a block in a table of the same size, at the parallelism of the core. */
#include "drive/bench.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/histogram.h"
#include "base/rng.h"
#include "drive/setup.h"

#include <stdlib.h>
#include <string.h>

enum { OUTSTANDING = 256, VOCAB = 1 << 17, TOUCHES = 1 << 22, TOUCH_AHEAD = 16 };

typedef struct {
    int64_t decide_ns, events_ns, hash_ns;
    uint64_t decisions, looked_up, inserted, distinct, matched;
    cop_histogram decide;
} tally;

typedef struct {
    const cop_config *cfg;
    const cop_mooncake *trace;
    cop_router *router;
    cop_router_actions actions;
    uint32_t *tokens;
    uint64_t *hashes;
    uint32_t chosen[OUTSTANDING];    /* worker of each of the last requests */
    uint64_t transfers[OUTSTANDING]; /* planned with it, or COP_NO_TRANSFER */
    tally sum;
} bench;

static void timed_step(bench *b, const cop_router_event *event)
{
    int64_t start_ns = cop_clock_ns();
    cop_router_step(b->router, event, &b->actions);
    b->sum.events_ns += cop_clock_ns() - start_ns;
}

static void decide(bench *b, const cop_request *request)
{
    cop_router_event event = {
        .kind = COP_ROUTER_ARRIVAL, .now_ns = request->scheduled_ns, .arrival = request};
    int64_t start_ns = cop_clock_ns();
    cop_router_step(b->router, &event, &b->actions);
    int64_t took_ns = cop_clock_ns() - start_ns;
    b->sum.decide_ns += took_ns;
    cop_histogram_add(&b->sum.decide, (uint64_t)took_ns);
    b->sum.decisions++;
}

static uint32_t hash_blocks(bench *b, const cop_request *request)
{
    uint32_t size = (uint32_t)b->cfg->cache_block_tokens, count = request->prompt_tokens / size;
    int64_t start_ns = cop_clock_ns();
    uint64_t hash = cop_hash_root(request->tenant);
    for (uint32_t i = 0; i < count; i++)
        b->hashes[i] = hash = cop_hash_block(hash, request->tokens + (size_t)i * size, size);
    b->sum.hash_ns += cop_clock_ns() - start_ns;
    return count;
}

static void progress(bench *b, cop_router_event_kind kind, uint64_t request, int64_t now_ns)
{
    cop_router_event event = {.kind = kind,
                              .now_ns = now_ns,
                              .worker = b->chosen[request % OUTSTANDING],
                              .request = request};
    timed_step(b, &event);
}

static void end_transfer(bench *b, uint64_t request, int64_t now_ns)
{
    cop_router_event event = {.kind = COP_ROUTER_TRANSFER_ENDED,
                              .now_ns = now_ns,
                              .worker = b->chosen[request % OUTSTANDING],
                              .transfer = {b->transfers[request % OUTSTANDING], COP_TRANSFER_DONE}};
    if (event.transfer.id != COP_NO_TRANSFER)
        timed_step(b, &event);
}

static void run_request(bench *b, const cop_request *request)
{
    uint64_t id = request->id;
    if (id >= OUTSTANDING)
        progress(b, COP_ROUTER_FINISHED, id - OUTSTANDING, request->scheduled_ns);
    if (id >= OUTSTANDING / 2) {
        end_transfer(b, id - OUTSTANDING / 2, request->scheduled_ns);
        progress(b, COP_ROUTER_FIRST_TOKEN, id - OUTSTANDING / 2, request->scheduled_ns);
    }
    decide(b, request);
    cop_decision decision = b->actions.decision;
    b->chosen[id % OUTSTANDING] = decision.worker;
    b->transfers[id % OUTSTANDING] =
        b->actions.plan_count ? b->actions.plans[0].id : COP_NO_TRANSFER;
    uint32_t size = (uint32_t)b->cfg->cache_block_tokens;
    uint32_t blocks = hash_blocks(b, request), held = decision.match_tokens / size;
    b->sum.looked_up += blocks;
    b->sum.inserted += blocks - held;
    b->sum.distinct += blocks - decision.ideal_match_tokens / size;
    b->sum.matched += held;
    cop_router_event event = {.kind = COP_ROUTER_INSERTED,
                              .now_ns = request->scheduled_ns,
                              .worker = decision.worker,
                              .blocks = {b->hashes + held, blocks - held, 0}};
    timed_step(b, &event);
}

static cop_status open_router(cop_router **out, const cop_config *cfg, cop_error *err)
{
    cop_router_options options;
    cop_setup_router(&options, cfg);
    options.workers = (uint32_t)cfg->bench_workers;
    options.max_context = options.pool_blocks = UINT32_MAX;
    options.cost = (cop_cost){.step_ns = 1e6, /* an 8B model on one GPU, roughly */
                              .per_token_ns = 2e4,
                              .per_pair_ns = 0.2,
                              .link_alpha_ns = 2e4,
                              .link_beta_ns = 0.02,
                              .block_bytes = 131072.0 * (double)cfg->cache_block_tokens,
                              .block_tokens = options.block_tokens,
                              .chunk_tokens = (uint32_t)cfg->scheduler_chunk_tokens};
    return cop_router_open(out, &options, err);
}

static uint32_t longest_prompt(const cop_mooncake *trace)
{
    uint32_t top = 0;
    for (size_t i = 0; i < trace->row_count; i++)
        top = trace->rows[i].input_length > top ? trace->rows[i].input_length : top;
    return top;
}

static cop_status run_trace(const cop_config *cfg, const cop_mooncake *trace, tally *out,
                            cop_error *err)
{
    bench b = {.cfg = cfg, .trace = trace};
    cop_status status = open_router(&b.router, cfg, err);
    if (status != COP_OK)
        return status;
    uint32_t longest = longest_prompt(trace);
    b.tokens = cop_malloc(((size_t)longest + 1) * sizeof *b.tokens);
    b.hashes = cop_malloc(((size_t)longest + 1) * sizeof *b.hashes);
    for (size_t i = 0; i < trace->row_count; i++) {
        cop_request request = {.id = i,
                               .output_tokens = 1,
                               .tokens = b.tokens,
                               .scheduled_ns = trace->rows[i].timestamp_ms * COP_NS_PER_MS};
        cop_mooncake_tokens(trace, &trace->rows[i], (uint32_t)cfg->workload_scale, VOCAB, b.tokens,
                            &request.prompt_tokens);
        run_request(&b, &request);
    }
    *out = b.sum;
    free(b.tokens);
    free(b.hashes);
    cop_router_actions_fini(&b.actions);
    cop_router_close(b.router);
    return COP_OK;
}

/* One read and write of a random 16-byte entry, addresses known ahead: what the directory would
 * cost if it were nothing but cache misses. */
static cop_status touch_ns(uint64_t entries, double *out, cop_error *err)
{
    size_t capacity = 256;
    while (capacity * 3 < entries * 4)
        capacity *= 2;
    void *memory;
    cop_status status = cop_alloc_large(&memory, capacity * 16, "the touch test", err);
    if (status != COP_OK)
        return status;
    memset(memory, 1, capacity * 16);
    uint64_t *table = memory;
    int64_t start_ns = cop_clock_ns();
    for (uint64_t i = 0; i < TOUCHES; i++) {
        __builtin_prefetch(&table[(cop_splitmix64(i + TOUCH_AHEAD) & (capacity - 1)) * 2], 1);
        table[(cop_splitmix64(i) & (capacity - 1)) * 2] += i;
    }
    *out = (double)(cop_clock_ns() - start_ns) / TOUCHES;
    cop_free_large(memory, capacity * 16);
    return COP_OK;
}

static void print(const cop_config *cfg, const tally *t, double miss_ns, FILE *out)
{
    double n = (double)t->decisions, router_ns = (double)(t->decide_ns + t->events_ns);
    double touched = (double)t->looked_up * miss_ns, hashed = (double)t->hash_ns;
    double bound_ns = hashed > touched ? hashed : touched;
    fprintf(out, "router alone: %s, %lld workers, %lld-token blocks, policy %s, median of %lld\n",
            cfg->workload_path, (long long)cfg->bench_workers, (long long)cfg->cache_block_tokens,
            cfg->router_policy, (long long)cfg->bench_repeats);
    fprintf(out,
            "  decisions               %12.0f    %.1f blocks each, %.1f %% held at the choice\n", n,
            (double)t->looked_up / n, 100 * (double)t->matched / (double)t->looked_up);
    fprintf(out,
            "  decisions/s             %12.0f    bound %.0f: hashing %.1f us, one miss a block"
            " %.1f us, overlapped\n",
            n / router_ns * 1e9, n / bound_ns * 1e9, hashed / n / 1e3, touched / n / 1e3);
    fprintf(out, "  block operations/s      %12.3e    looked up + inserted; bound %.3e\n",
            (double)(t->looked_up + t->inserted) / router_ns * 1e9,
            (double)(t->looked_up + t->inserted) / bound_ns * 1e9);
    fprintf(out, "  decision p50, p99, max  %.1f us, %.1f us, %.1f us    (arrival to choice)\n",
            (double)cop_histogram_quantile(&t->decide, 0.5) / 1e3,
            (double)cop_histogram_quantile(&t->decide, 0.99) / 1e3, (double)t->decide.max / 1e3);
    fprintf(out,
            "  events, mean            %.1f us a request    (inserted, first token, finished)\n",
            (double)t->events_ns / n / 1e3);
    fprintf(out, "  distinct blocks         %12llu    %.1f ns a miss in a table for as many\n",
            (unsigned long long)t->distinct, miss_ns);
}

static int by_time(const void *a, const void *b)
{
    const tally *x = a, *y = b;
    int64_t p = x->decide_ns + x->events_ns, q = y->decide_ns + y->events_ns;
    return p < q ? -1 : p > q;
}

static cop_status run_repeats(const cop_config *cfg, const cop_mooncake *trace, FILE *out,
                              cop_error *err)
{
    size_t repeats = (size_t)cfg->bench_repeats;
    tally *tallies = cop_calloc(repeats, sizeof *tallies);
    cop_status status = COP_OK;
    for (size_t i = 0; i < repeats && status == COP_OK; i++)
        status = run_trace(cfg, trace, &tallies[i], err);
    if (status == COP_OK) {
        qsort(tallies, repeats, sizeof *tallies, by_time);
        const tally *median = &tallies[repeats / 2];
        double miss_ns;
        status = touch_ns(median->distinct, &miss_ns, err);
        if (status == COP_OK)
            print(cfg, median, miss_ns, out);
    }
    free(tallies);
    return status;
}

cop_status cop_bench_index(const cop_config *cfg, FILE *out, cop_error *err)
{
    if (cfg->workload_path[0] == '\0')
        return cop_fail(err, COP_ERR_INVALID,
                        "bench index replays a Mooncake trace: --set workload.path=FILE");
    cop_mooncake trace = {0};
    cop_status status = cop_mooncake_read(&trace, cfg->workload_path, (uint64_t)cfg->workload_limit,
                                          cfg->workload_skip_bad_lines, err);
    if (status != COP_OK)
        return status;
    if (trace.row_count == 0)
        status = cop_fail(err, COP_ERR_INVALID, "%s: no requests in it", cfg->workload_path);
    else
        status = run_repeats(cfg, &trace, out, err);
    cop_mooncake_fini(&trace);
    return status;
}
