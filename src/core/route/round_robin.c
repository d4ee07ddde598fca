/* round_robin: each worker in turn.
 *
 *     cost = (worker - next) modulo workers        after a choice: next = choice + 1 */
#include "core/route/route.h"

#include "base/alloc.h"

#include <stdlib.h>

static void *open_state(const cop_router_options *options)
{
    return cop_calloc(1, sizeof(uint32_t));
}

static void score(void *state, const cop_arrival *in, cop_candidate *candidates)
{
    uint32_t next = *(uint32_t *)state, workers = in->options->workers;
    for (uint32_t w = 0; w < workers; w++) {
        candidates[w].cost = w >= next ? w - next : workers - next + w;
        candidates[w].tie_cost = 0;
    }
}

static void chosen(void *state, const cop_arrival *in, uint32_t worker)
{
    *(uint32_t *)state = (worker + 1) % in->options->workers;
}

const cop_route_ops cop_route_round_robin = {
    .name = "round_robin",
    .source = "the baseline of every router",
    .open = open_state,
    .close = free,
    .score = score,
    .chosen = chosen,
};
