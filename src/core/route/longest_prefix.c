/* longest_prefix: to the worker with the longest cached prefix; ties to the least load.
 *
 *     match = match_tokens, or 0 if that is less than min_match of the prompt
 *     cost = -match        tie_cost = outstanding_tokens + outstanding
 *
 * Load is what is still to compute: prompt tokens not yet prefilled, and one for each request.
 *
 * The plain form of what Dynamo, llm-d and SGLang temper with load. Without the floor one block
 * that every prompt begins with (as in Mooncake's traces) draws all requests to the one worker that
 * got the first of them. */
#include "core/route/route.h"

static void score(void *state, const cop_arrival *in, cop_candidate *candidates)
{
    double floor_tokens = in->options->min_match * in->request->prompt_tokens;
    for (uint32_t w = 0; w < in->options->workers; w++) {
        double match = candidates[w].match_tokens;
        candidates[w].cost = match < floor_tokens ? 0 : 0 - match;
        candidates[w].tie_cost =
            (double)candidates[w].outstanding_tokens + candidates[w].outstanding;
    }
}

const cop_route_ops cop_route_longest_prefix = {
    .name = "longest_prefix",
    .source = "prefix-aware routing without a load term",
    .score = score,
};
