/* replicate_hot: a prefix that many ask for is copied to more workers, ahead of need.
 *
 *     d = longest match of this prompt at any worker; its last block was asked for `uses` times
 *     if uses >= hot_count and fewer than hot_replicas hold d blocks or are about to:
 *         copy [what it has, d) to the least loaded worker without them
 *
 * About to: the destination of a copy under way, and the choice, which computes them itself. Least
 * loaded: lowest (drain_ns, outstanding, number) among workers with room. No request waits.
 * Preble replicates hot prefixes by computing them twice; Mooncake as a side effect of pulls. */
#include "core/migrate/migrate.h"

#include "core/fetch.h"

static bool lighter(const cop_candidate *a, const cop_candidate *b)
{
    if (a->drain_ns != b->drain_ns)
        return a->drain_ns < b->drain_ns;
    return a->outstanding < b->outstanding;
}

static bool has_or_gets(const cop_arrival *in, const cop_candidate *c, uint32_t chosen)
{
    uint32_t held = c->match_tokens / in->options->block_tokens;
    if (held >= in->best_blocks || c->worker == chosen)
        return true;
    const cop_flight *flight = cop_fetch_under_way(in, c->worker, held);
    return flight && flight->plan.end_block >= in->best_blocks;
}

static void plan(const cop_arrival *in, const cop_candidate *candidates, uint32_t chosen,
                 cop_migration *out)
{
    if (in->best_blocks == 0 || in->best_uses < in->options->hot_count)
        return;
    uint32_t replicas = 0;
    const cop_candidate *target = NULL;
    for (uint32_t w = 0; w < in->options->workers; w++) {
        const cop_candidate *c = &candidates[w];
        if (has_or_gets(in, c, chosen))
            replicas++;
        else if (cop_fetch_has_room(in, w) && (!target || lighter(c, target)))
            target = c;
    }
    if (replicas >= in->options->hot_replicas || !target)
        return;
    uint32_t held = target->match_tokens / in->options->block_tokens;
    int64_t wait_ns = cop_link_wait_ns(&in->fetches->links[in->best_worker], in->now_ns);
    const cop_cost *cost = &in->options->cost;
    uint64_t hot_tokens = (uint64_t)in->best_blocks * in->options->block_tokens;
    out->planned = true;
    out->plan = (cop_plan){
        .src = in->best_worker,
        .dst = target->worker,
        .reason = COP_REASON_REPLICATE,
        .have_block = held,
        .end_block = in->best_blocks,
        .predicted_transfer_ns =
            (double)wait_ns + cop_cost_transfer_ns(cost, in->best_blocks - held),
        .predicted_saved_ns = in->loads[target->worker].speed *
                              cop_cost_prefill_ns(cost, hot_tokens, target->match_tokens),
    };
}

const cop_migrate_ops cop_migrate_replicate_hot = {
    .name = "replicate_hot",
    .source = "hot-prefix replication (after Preble and Mooncake)",
    .plan = plan,
};
