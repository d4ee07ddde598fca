#include "core/migrate/migrate.h"

#include "base/text.h"

static const cop_migrate_ops *const policies[] = {&cop_migrate_off, &cop_migrate_pull,
                                                  &cop_migrate_replicate_hot};
enum { POLICIES = sizeof policies / sizeof *policies };

const cop_migrate_ops *cop_migrate_at(size_t i)
{
    return i < POLICIES ? policies[i] : NULL;
}

const char *cop_migrate_policy_name(size_t i)
{
    const cop_migrate_ops *ops = cop_migrate_at(i);
    return ops ? ops->name : NULL;
}

cop_status cop_migrate_find(const char *name, const cop_migrate_ops **out, cop_error *err)
{
    const char *names[POLICIES];
    size_t found;
    for (size_t i = 0; i < POLICIES; i++)
        names[i] = policies[i]->name;
    cop_status status =
        cop_find_name(name, names, POLICIES, "migration.policy: unknown policy", &found, err);
    if (status == COP_OK)
        *out = policies[found];
    return status;
}
