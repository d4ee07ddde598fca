/* least_loaded: R1, least outstanding requests; ties to the fewest prompt tokens not computed.
 *
 *     cost = outstanding          tie_cost = outstanding_tokens
 *
 * LOR of Vidur and of most load balancers; the token form is the tie. */
#include "core/route/route.h"

static void score(void *state, const cop_arrival *in, cop_candidate *candidates)
{
    for (uint32_t w = 0; w < in->options->workers; w++) {
        candidates[w].cost = candidates[w].outstanding;
        candidates[w].tie_cost = candidates[w].outstanding_tokens;
    }
}

const cop_route_ops cop_route_least_loaded = {
    .name = "least_loaded",
    .source = "least outstanding requests (Vidur's LOR)",
    .score = score,
};
