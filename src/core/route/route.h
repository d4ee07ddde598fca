/* Routing policies: a cost for every worker, the lowest wins. A policy is one file and one row.
 *
 * score() sets cost and tie_cost of every candidate (all other fields are filled, in.options
 * ->workers of them, candidate i is worker i). The router takes the lowest (cost, tie_cost); when
 * several workers have it, the seeded hash of request and worker decides, and the decision says
 * so. chosen() hears what became of it. State is private, seeded from the options and changed by
 * these two calls alone. */
#ifndef COP_CORE_ROUTE_ROUTE_H
#define COP_CORE_ROUTE_ROUTE_H

#include "core/arrival.h"

typedef struct {
    const char *name;                                 /* in configs */
    const char *source;                               /* paper or system */
    void *(*open)(const cop_router_options *options); /* NULL: no state */
    void (*close)(void *state);
    void (*score)(void *state, const cop_arrival *in, cop_candidate *candidates);
    void (*chosen)(void *state, const cop_arrival *in, uint32_t worker); /* may be NULL */
    void (*check)(const void *state);                                    /* may be NULL */
} cop_route_ops;

extern const cop_route_ops cop_route_longest_prefix, cop_route_random, cop_route_round_robin,
    cop_route_least_loaded, cop_route_sglang_cache_aware, cop_route_estimated_ttft;

const cop_route_ops *cop_route_at(size_t i); /* NULL past the end */

/* COP_ERR_INVALID, with all the names, if there is none of this name. */
cop_status cop_route_find(const char *name, const cop_route_ops **out, cop_error *err);

#endif
