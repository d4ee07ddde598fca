#include "drive/host_tier.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/median.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void cop_host_tier_fini(cop_host_tier *tier)
{
    free(tier->moves);
    *tier = (cop_host_tier){0};
}

void cop_host_tier_perform(cop_host_tier *tier, const cop_worker_action *action)
{
    const uint32_t *blocks = action->tier.blocks, *slots = action->tier.slots;
    if (action->kind == COP_ACT_MOVE_OUT) { /* the device orders it before all that reuses blocks */
        tier->ops->move_out(tier->device, blocks, slots, action->tier.count);
        return;
    }
    COP_GROW(tier->moves, tier->capacity, tier->count + 1);
    tier->moves[tier->count++] = (cop_host_move){
        .id = action->tier.id,
        .ticket = tier->ops->move_in(tier->device, blocks, slots, action->tier.count)};
}

bool cop_host_tier_poll(cop_host_tier *tier, uint64_t *id)
{
    if (tier->count == 0 || !tier->ops->moved(tier->device, tier->moves[0].ticket))
        return false;
    *id = tier->moves[0].id;
    memmove(tier->moves, tier->moves + 1, --tier->count * sizeof *tier->moves);
    return true;
}

static double time_move_in(cop_host_tier *tier, const uint32_t *places, uint32_t count)
{
    int64_t begun_ns = cop_clock_ns();
    uint64_t ticket = tier->ops->move_in(tier->device, places, places, count);
    while (!tier->ops->moved(tier->device, ticket)) /* it may take microseconds: no sleep */
        ;
    return (double)(cop_clock_ns() - begun_ns);
}

/* Median of nine: one run alone may meet anything. The first move out touches the slots' pages. */
void cop_host_tier_probe(cop_host_tier *tier, uint32_t host_blocks, double *alpha_ns,
                         double *beta_ns)
{
    enum { RUNS = 9, MOST_BLOCKS = 64 };
    uint32_t places[MOST_BLOCKS], count = tier->ops->blocks(tier->device);
    count = count < host_blocks ? count : host_blocks;
    count = count < MOST_BLOCKS ? count : MOST_BLOCKS;
    for (uint32_t i = 0; i < count; i++)
        places[i] = i;
    uint64_t ticket = tier->ops->move_out(tier->device, places, places, count);
    while (!tier->ops->moved(tier->device, ticket))
        ;
    double one[RUNS], many[RUNS];
    for (int run = 0; run < RUNS; run++) {
        one[run] = time_move_in(tier, places, 1);
        many[run] = time_move_in(tier, places, count);
    }
    double one_ns = cop_median(one, RUNS), many_ns = cop_median(many, RUNS);
    double bytes = (double)tier->ops->block_bytes(tier->device);
    *beta_ns = count > 1 ? fmax((many_ns - one_ns) / ((count - 1) * bytes), 0) : one_ns / bytes;
    *alpha_ns = fmax(one_ns - *beta_ns * bytes, 0);
}
