/* random: a worker drawn uniformly.
 *
 *     drawn = rng(seed) in [0, workers)        cost = 0 for it, 1 for the others */
#include "core/route/route.h"

#include "base/alloc.h"
#include "base/rng.h"

#include <stdlib.h>

enum { STREAM = 0x726f757465 }; /* apart from every other stream of the run's seed */

static void *open_state(const cop_router_options *options)
{
    cop_rng *rng = cop_malloc(sizeof *rng);
    cop_rng_init(rng, options->seed, STREAM);
    return rng;
}

static void score(void *state, const cop_arrival *in, cop_candidate *candidates)
{
    uint64_t drawn = cop_rng_below(state, in->options->workers);
    for (uint32_t w = 0; w < in->options->workers; w++) {
        candidates[w].cost = w != drawn;
        candidates[w].tie_cost = 0;
    }
}

const cop_route_ops cop_route_random = {
    .name = "random",
    .source = "the null policy",
    .open = open_state,
    .close = free,
    .score = score,
};
