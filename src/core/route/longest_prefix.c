/* longest_prefix: to the worker with the longest cached prefix; ties to the one with fewest
 * requests.
 *
 *     cost = -match_tokens        tie_cost = outstanding
 *
 * The plain form of what Dynamo, llm-d and SGLang temper with load. */
#include "core/route/route.h"

static void score(void *state, const cop_arrival *in, cop_candidate *candidates)
{
    for (uint32_t w = 0; w < in->options->workers; w++) {
        candidates[w].cost = 0 - (double)candidates[w].match_tokens;
        candidates[w].tie_cost = candidates[w].outstanding;
    }
}

const cop_route_ops cop_route_longest_prefix = {
    .name = "longest_prefix",
    .source = "prefix-aware routing without a load term",
    .score = score,
};
