/* pull: the chosen worker fetches what it lacks from the best holder when rule T1 (fetch.h) says
 * that this is faster than computing it.
 *
 *     if T1 does not hold for the choice:        nothing
 *     if the fetch is one under way to it:       wait for that transfer
 *     else:                                      plan [have, best match) from the best holder,
 *                                                have = what it holds or is on its way to it
 *
 * Source: Mooncake, FAST'25, Algorithm 1, with a predicted time on both sides. */
#include "core/migrate/migrate.h"

#include "core/fetch.h"

static void plan(const cop_arrival *in, const cop_candidate *candidates, uint32_t chosen,
                 cop_migration *out)
{
    const cop_candidate *c = &candidates[chosen];
    if (!cop_fetch_pays(in, c))
        return;
    uint32_t have = c->match_tokens / in->options->block_tokens;
    uint32_t end = c->fetch_tokens / in->options->block_tokens;
    const cop_flight *flight = cop_fetch_under_way(in, chosen, have);
    if (flight && flight->plan.end_block == end) {
        out->wait_for = flight->plan.id;
        return;
    }
    if (flight)
        have = flight->plan.end_block;
    out->planned = true;
    out->plan = (cop_plan){
        .src = c->fetch_from,
        .dst = chosen,
        .reason = COP_REASON_PULL,
        .have_block = have,
        .end_block = end,
        .predicted_transfer_ns = c->fetch_ns,
        .predicted_saved_ns = cop_fetch_saved_ns(in, c),
    };
}

const cop_migrate_ops cop_migrate_pull = {
    .name = "pull",
    .source = "Mooncake, FAST'25, with cost test T1",
    .pulls = true,
    .plan = plan,
};
