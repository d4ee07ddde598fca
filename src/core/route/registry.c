#include "core/route/route.h"

#include "base/text.h"

static const cop_route_ops *const policies[] = {
    &cop_route_longest_prefix,     &cop_route_random,
    &cop_route_round_robin,        &cop_route_least_loaded,
    &cop_route_sglang_cache_aware, &cop_route_estimated_ttft,
};
enum { POLICIES = sizeof policies / sizeof *policies };

const cop_route_ops *cop_route_at(size_t i)
{
    return i < POLICIES ? policies[i] : NULL;
}

const char *cop_route_policy_name(size_t i)
{
    const cop_route_ops *ops = cop_route_at(i);
    return ops ? ops->name : NULL;
}

cop_status cop_route_find(const char *name, const cop_route_ops **out, cop_error *err)
{
    const char *names[POLICIES];
    size_t found;
    for (size_t i = 0; i < POLICIES; i++)
        names[i] = policies[i]->name;
    cop_status status =
        cop_find_name(name, names, POLICIES, "router.policy: unknown policy", &found, err);
    if (status == COP_OK)
        *out = policies[found];
    return status;
}
