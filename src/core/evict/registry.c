#include "core/evict/evict.h"

#include "base/text.h"

#include <string.h>

static const cop_evict_ops *const policies[] = {&cop_evict_lru, &cop_evict_fifo, &cop_evict_lfu};
enum { POLICIES = sizeof policies / sizeof *policies };

const cop_evict_ops *cop_evict_at(size_t i)
{
    return i < POLICIES ? policies[i] : NULL;
}

cop_status cop_evict_find(const cop_evict_ops **out, const char *name, cop_error *err)
{
    const char *names[POLICIES];
    for (size_t i = 0; i < POLICIES; i++) {
        names[i] = policies[i]->name;
        if (strcmp(names[i], name) == 0) {
            *out = policies[i];
            return COP_OK;
        }
    }
    return cop_unknown_name(err, "cache.eviction: unknown policy", name, names, POLICIES);
}
