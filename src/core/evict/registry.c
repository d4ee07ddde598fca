#include "core/evict/evict.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const cop_evict_ops *const policies[] = {&cop_evict_lru, &cop_evict_fifo, &cop_evict_lfu};
enum { POLICIES = sizeof policies / sizeof *policies };

const cop_evict_ops *cop_evict_at(size_t i)
{
    return i < POLICIES ? policies[i] : NULL;
}

static cop_status unknown(const char *name, cop_error *err)
{
    const char *names[POLICIES];
    char list[POLICIES * 32] = "", hint[64] = "";
    for (size_t i = 0; i < POLICIES; i++) {
        names[i] = policies[i]->name;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    const char *nearest = cop_nearest(name, names, POLICIES);
    if (nearest)
        snprintf(hint, sizeof hint, "; did you mean '%s'?", nearest);
    return cop_fail(err, COP_ERR_INVALID, "cache.eviction: unknown policy '%s'%s (%s)", name, hint,
                    list);
}

cop_status cop_evict_find(const cop_evict_ops **out, const char *name, cop_error *err)
{
    for (size_t i = 0; i < POLICIES; i++) {
        if (strcmp(policies[i]->name, name) == 0) {
            *out = policies[i];
            return COP_OK;
        }
    }
    return unknown(name, err);
}
