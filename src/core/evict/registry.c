#include "core/evict/evict.h"

#include "base/text.h"

static const cop_evict_ops *const policies[] = {&cop_evict_lru, &cop_evict_fifo, &cop_evict_lfu};
enum { POLICIES = sizeof policies / sizeof *policies };

const cop_evict_ops *cop_evict_at(size_t i)
{
    return i < POLICIES ? policies[i] : NULL;
}

cop_status cop_evict_find(const char *name, const cop_evict_ops **out, cop_error *err)
{
    const char *names[POLICIES];
    size_t found;
    for (size_t i = 0; i < POLICIES; i++)
        names[i] = policies[i]->name;
    cop_status status =
        cop_find_name(name, names, POLICIES, "cache.eviction: unknown policy", &found, err);
    if (status == COP_OK)
        *out = policies[found];
    return status;
}
