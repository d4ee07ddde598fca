#include "core/route/route.h"

#include <stdio.h>
#include <string.h>

static const cop_route_ops *const policies[] = {
    &cop_route_longest_prefix,     &cop_route_random,
    &cop_route_round_robin,        &cop_route_least_loaded,
    &cop_route_sglang_cache_aware, &cop_route_estimated_ttft,
};

const cop_route_ops *cop_route_at(size_t i)
{
    return i < sizeof policies / sizeof *policies ? policies[i] : NULL;
}

const char *cop_route_policy_name(size_t i)
{
    const cop_route_ops *ops = cop_route_at(i);
    return ops ? ops->name : NULL;
}

cop_status cop_route_find(const char *name, const cop_route_ops **out, cop_error *err)
{
    char names[256] = "";
    for (size_t i = 0; cop_route_at(i); i++) {
        if (strcmp(cop_route_at(i)->name, name) == 0) {
            *out = cop_route_at(i);
            return COP_OK;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", cop_route_at(i)->name);
    }
    return cop_fail(err, COP_ERR_INVALID, "unknown routing policy '%s'; there are: %s", name,
                    names);
}
