/* Migration policies: after the choice, may blocks be moved? A policy is one file and one row.
 *
 * A policy answers with at most one plan (src, dst, reason, have_block, end_block and the two
 * predictions; the router numbers and stamps it) and with what the request waits for: the plan, if
 * it is a pull, or an earlier pull still under way. It has no state of its own. */
#ifndef COP_CORE_MIGRATE_MIGRATE_H
#define COP_CORE_MIGRATE_MIGRATE_H

#include "core/arrival.h"

typedef struct {
    bool planned;
    cop_plan plan;     /* a pull: the request waits for it */
    uint64_t wait_for; /* an earlier transfer; COP_NO_TRANSFER: none */
} cop_migration;

typedef struct {
    const char *name;   /* in configs */
    const char *source; /* paper or system */
    bool pulls;         /* requests may wait for blocks, so routing may count on it */
    /* candidates[workers]; *out is zero */
    void (*plan)(const cop_arrival *in, const cop_candidate *candidates, uint32_t chosen,
                 cop_migration *out);
} cop_migrate_ops;

extern const cop_migrate_ops cop_migrate_off, cop_migrate_pull, cop_migrate_replicate_hot;

const cop_migrate_ops *cop_migrate_at(size_t i); /* NULL past the end */

/* COP_ERR_INVALID, with all the names, if there is none of this name. */
cop_status cop_migrate_find(const char *name, const cop_migrate_ops **out, cop_error *err);

#endif
