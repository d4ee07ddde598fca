/* One arrival as routing and migration policies see it, before the choice. All borrowed. */
#ifndef COP_CORE_ARRIVAL_H
#define COP_CORE_ARRIVAL_H

#include "core/load.h"
#include "core/router.h"

struct cop_fetches; /* fetch.h */

typedef struct {
    const cop_router_options *options;
    const cop_request *request;
    const uint64_t *hashes; /* u64[blocks]: chain hashes of the prompt's full blocks */
    uint32_t blocks;
    uint32_t match_blocks; /* of those, the first that may match: one token is always computed */
    int64_t now_ns;
    uint32_t best_worker;  /* longest match, then the least busy link; COP_NO_WORKER: no match */
    uint32_t best_blocks;  /* its match */
    uint32_t best_uses;    /* requests that asked for the last block of it, this one too */
    bool can_fetch;        /* the migration policy pulls */
    const cop_load *loads; /* [workers] */
    const struct cop_fetches *fetches;
} cop_arrival;

#endif
