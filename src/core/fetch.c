#include "core/fetch.h"

#include "base/alloc.h"
#include "base/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void cop_fetches_init(cop_fetches *fetches, const cop_cost *cost, uint32_t workers)
{
    *fetches = (cop_fetches){.workers = workers};
    fetches->links = cop_calloc(workers, sizeof *fetches->links);
    for (uint32_t i = 0; i < workers; i++)
        fetches->links[i] = (cop_link){.ns_per_byte = cost->link_beta_ns,
                                       .latency_ns = (int64_t)cost->link_alpha_ns,
                                       .free_at_ns = INT64_MIN};
}

void cop_fetches_fini(cop_fetches *fetches)
{
    free(fetches->flights);
    free(fetches->links);
}

static bool carries(const cop_arrival *in, const cop_flight *flight)
{
    uint32_t end = flight->plan.end_block;
    return end <= in->match_blocks && in->hashes[end - 1] == flight->plan.last_hash;
}

const cop_flight *cop_fetch_under_way(const cop_arrival *in, uint32_t worker, uint32_t held)
{
    const cop_flight *best = NULL;
    for (size_t i = 0; i < in->fetches->count; i++) {
        const cop_flight *flight = &in->fetches->flights[i];
        if (flight->plan.dst == worker && flight->plan.end_block > held && carries(in, flight) &&
            (!best || flight->plan.end_block > best->plan.end_block))
            best = flight;
    }
    return best;
}

static double prefill_ns(const cop_arrival *in, uint32_t worker, uint32_t cached_tokens)
{
    return in->loads[worker].speed *
           cop_cost_prefill_ns(&in->options->cost, in->request->prompt_tokens, cached_tokens);
}

static void no_fetch(cop_candidate *c)
{
    c->fetch_ns = c->fetched_ns = INFINITY;
    c->fetch_from = COP_NO_WORKER;
    c->fetch_tokens = 0;
}

static void set_fetch(const cop_arrival *in, cop_candidate *c, uint32_t from, uint32_t blocks,
                      double ns)
{
    c->fetch_ns = ns;
    c->fetch_from = from;
    c->fetch_tokens = blocks * in->options->block_tokens;
    c->fetched_ns = prefill_ns(in, c->worker, c->fetch_tokens);
}

/* A longer prefix is on its way to this worker than it holds. Either wait for that one alone, or
 * pull what lies beyond it too, whichever gives the first token sooner. */
static void predict_with_flight(const cop_arrival *in, cop_candidate *c, const cop_flight *flight,
                                double wait_ns)
{
    uint32_t coming = flight->plan.end_block;
    double left_ns = fmax(0, (double)(flight->arrives_ns - in->now_ns));
    bool may_join = flight->plan.reason == COP_REASON_PULL;
    double join_ns = INFINITY;
    if (may_join)
        join_ns = left_ns + prefill_ns(in, c->worker, coming * in->options->block_tokens);
    if (coming < in->best_blocks) {
        double beyond_ns = fmax(
            left_ns, wait_ns + cop_cost_transfer_ns(&in->options->cost, in->best_blocks - coming));
        if (beyond_ns + c->fetched_ns < join_ns) {
            c->fetch_ns = beyond_ns;
            return;
        }
    }
    no_fetch(c);
    if (may_join)
        set_fetch(in, c, flight->plan.src, coming, left_ns);
}

/* Transfers under way are few, workers may be many: so one pass over the former. Of
 * several to one worker the longest counts. */
static void wait_for_flights(const cop_arrival *in, cop_candidate *candidates, double wait_ns)
{
    for (size_t i = 0; i < in->fetches->count; i++) {
        if (!carries(in, &in->fetches->flights[i]))
            continue;
        cop_candidate *c = &candidates[in->fetches->flights[i].plan.dst];
        uint32_t held = c->match_tokens / in->options->block_tokens;
        const cop_flight *flight = cop_fetch_under_way(in, c->worker, held);
        if (flight == &in->fetches->flights[i])
            predict_with_flight(in, c, flight, wait_ns);
    }
}

void cop_fetch_predict(const cop_arrival *in, cop_candidate *candidates)
{
    const cop_router_options *options = in->options;
    double wait_ns =
        in->best_worker == COP_NO_WORKER
            ? 0
            : (double)cop_link_wait_ns(&in->fetches->links[in->best_worker], in->now_ns);
    double base_ns = cop_cost_prefill_ns(&options->cost, in->request->prompt_tokens,
                                         (uint64_t)in->best_blocks * options->block_tokens);
    for (uint32_t w = 0; w < options->workers; w++) {
        cop_candidate *c = &candidates[w];
        uint32_t held = c->match_tokens / options->block_tokens;
        no_fetch(c);
        if (held >= in->best_blocks)
            continue;
        c->fetch_ns = wait_ns + cop_cost_transfer_ns(&options->cost, in->best_blocks - held);
        c->fetch_from = in->best_worker;
        c->fetch_tokens = in->best_blocks * options->block_tokens;
        c->fetched_ns = in->loads[w].speed * base_ns;
    }
    if (in->fetches->count > 0)
        wait_for_flights(in, candidates, wait_ns);
}

/* E_i(m') of T1. */
static double evicted_worth_ns(const cop_arrival *in, const cop_candidate *c)
{
    const cop_router_options *options = in->options;
    const cop_load *load = &in->loads[c->worker];
    uint64_t fetched = (c->fetch_tokens - c->match_tokens) / options->block_tokens;
    uint64_t wanted = load->used_blocks + fetched;
    if (wanted <= options->pool_blocks)
        return 0;
    double block_ns = options->cost.per_token_ns * options->block_tokens +
                      options->cost.per_pair_ns *
                          cop_cost_pairs(in->request->prompt_tokens / 2, options->block_tokens);
    return load->speed * block_ns * (double)(wanted - options->pool_blocks);
}

double cop_fetch_saved_ns(const cop_arrival *in, const cop_candidate *c)
{
    return c->recompute_ns - c->fetched_ns - in->options->eviction_weight * evicted_worth_ns(in, c);
}

bool cop_fetch_has_room(const cop_arrival *in, uint32_t worker)
{
    uint64_t blocks = cop_request_blocks(in->request, in->options->block_tokens);
    return in->loads[worker].blocks + blocks <= in->options->pool_blocks;
}

bool cop_fetch_pays(const cop_arrival *in, const cop_candidate *c)
{
    return in->can_fetch && c->fetch_from != COP_NO_WORKER && cop_fetch_has_room(in, c->worker) &&
           c->fetch_ns < cop_fetch_saved_ns(in, c);
}

void cop_fetches_start(cop_fetches *fetches, const cop_cost *cost, const cop_plan *plan)
{
    double bytes = cost->block_bytes * (plan->end_block - plan->have_block);
    COP_GROW(fetches->flights, fetches->capacity, fetches->count + 1);
    fetches->flights[fetches->count++] =
        (cop_flight){.plan = *plan,
                     .arrives_ns = cop_link_reserve(&fetches->links[plan->src], plan->planned_ns,
                                                    (uint64_t)bytes)};
}

void cop_fetches_end(cop_fetches *fetches, uint64_t id)
{
    size_t i = 0;
    while (i < fetches->count && fetches->flights[i].plan.id != id)
        i++;
    COP_CHECK(i < fetches->count);
    fetches->count--;
    memmove(&fetches->flights[i], &fetches->flights[i + 1],
            (fetches->count - i) * sizeof *fetches->flights);
}

void cop_fetches_check(const cop_fetches *fetches)
{
    for (size_t i = 0; i < fetches->count; i++) {
        const cop_plan *plan = &fetches->flights[i].plan;
        COP_CHECK(i == 0 || fetches->flights[i - 1].plan.id < plan->id);
        COP_CHECK(plan->src < fetches->workers && plan->dst < fetches->workers);
        COP_CHECK(plan->src != plan->dst && plan->have_block < plan->end_block);
    }
}
