/* off: nothing moves; what a worker lacks it computes. */
#include "core/migrate/migrate.h"

static void plan(const cop_arrival *in, const cop_candidate *candidates, uint32_t chosen,
                 cop_migration *out)
{
}

const cop_migrate_ops cop_migrate_off = {
    .name = "off",
    .source = "Preble and the SGLang gateway: recompute, never move",
    .plan = plan,
};
