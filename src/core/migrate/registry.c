#include "core/migrate/migrate.h"

#include <stdio.h>
#include <string.h>

static const cop_migrate_ops *const policies[] = {&cop_migrate_off, &cop_migrate_pull,
                                                  &cop_migrate_replicate_hot};

const cop_migrate_ops *cop_migrate_at(size_t i)
{
    return i < sizeof policies / sizeof *policies ? policies[i] : NULL;
}

const char *cop_migrate_policy_name(size_t i)
{
    const cop_migrate_ops *ops = cop_migrate_at(i);
    return ops ? ops->name : NULL;
}

cop_status cop_migrate_find(const char *name, const cop_migrate_ops **out, cop_error *err)
{
    char names[256] = "";
    for (size_t i = 0; cop_migrate_at(i); i++) {
        if (strcmp(cop_migrate_at(i)->name, name) == 0) {
            *out = cop_migrate_at(i);
            return COP_OK;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", cop_migrate_at(i)->name);
    }
    return cop_fail(err, COP_ERR_INVALID, "unknown migration policy '%s'; there are: %s", name,
                    names);
}
