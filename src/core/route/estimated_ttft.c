/* estimated_ttft: R10, the lowest predicted time to first token, all from the calibrated model.
 *
 *     prefill = min(recompute_ns, fetch_ns + fetched_ns)    the latter only where rule T1 pays
 *     cost    = drain_ns + prefill                          tie_cost = outstanding
 *
 * Mooncake's Algorithm 1 with the cost test T1 (fetch.h) in the place of its threshold. */
#include "core/route/route.h"

#include "core/fetch.h"

static void score(void *state, const cop_arrival *in, cop_candidate *candidates)
{
    for (uint32_t w = 0; w < in->options->workers; w++) {
        cop_candidate *c = &candidates[w];
        double prefill_ns = cop_fetch_pays(in, c) ? c->fetch_ns + c->fetched_ns : c->recompute_ns;
        c->cost = c->drain_ns + prefill_ns;
        c->tie_cost = c->outstanding;
    }
}

const cop_route_ops cop_route_estimated_ttft = {
    .name = "estimated_ttft",
    .source = "Mooncake, FAST'25, Algorithm 1",
    .score = score,
};
