/* The router: decides where each request goes and which KV blocks move. Pure and deterministic:
 * state changes only in cop_router_step, time comes inside the event.
 *
 *     arrival ---> directory: who holds how much of this prompt?
 *             ---> policy: a cost for every worker          (route/<policy>.c)
 *             ---> lowest (cost, tie_cost, seeded hash of request and worker) wins
 *             ---> migration: fetch, copy or leave?         (migrate/<policy>.c)
 *             ---> actions: [TRANSFER] DISPATCH  |  REJECT
 *
 * The directory is fed by the workers' insert and evict events alone, as late as view_delay_ns
 * says. It holds full blocks by chain hash; a worker verifies tokens, so a collision here costs a
 * wrong estimate and no more. */
#ifndef COP_CORE_ROUTER_H
#define COP_CORE_ROUTER_H

#include "base/request.h"
#include "base/status.h"
#include "core/cost.h"
#include "core/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cop_router cop_router;

typedef struct {
    uint32_t workers, block_tokens;
    uint32_t max_context; /* tokens; a request with more (prompt + output) is rejected */
    uint32_t pool_blocks; /* of the smallest worker; a request that needs more is rejected */
    uint64_t seed;
    const char *policy;    /* route registry */
    const char *migration; /* migrate registry */
    double min_match;      /* longest_prefix: shares of the prompt below this count as no match */
    bool sglang_library_set;
    bool cache_enabled; /* false: nothing matches, nothing migrates */
    int64_t view_delay_ns;
    double eviction_weight;
    uint32_t hot_count, hot_replicas;
    cop_cost cost;
} cop_router_options;

typedef enum {
    COP_ROUTER_ARRIVAL,
    COP_ROUTER_INSERTED,
    COP_ROUTER_EVICTED,
    COP_ROUTER_FIRST_TOKEN,
    COP_ROUTER_FINISHED,
    COP_ROUTER_TRANSFER_ENDED,
    COP_ROUTER_STEPPED,
    COP_ROUTER_KINDS
} cop_router_event_kind;

typedef struct {
    cop_router_event_kind kind;
    int64_t now_ns;
    uint32_t worker; /* who says so; unused by arrivals */
    union {
        const cop_request *arrival;
        struct {
            const uint64_t *hashes; /* u64[count]: chain hashes of full blocks, any order */
            uint32_t count;
            uint32_t used_blocks; /* of the worker's pool, after it */
        } blocks;                 /* INSERTED, EVICTED */
        uint64_t request;         /* FIRST_TOKEN, FINISHED */
        struct {
            uint64_t id;
            uint32_t outcome;
        } transfer;
        struct {
            double tokens, pairs, ns;
        } step; /* one engine step as measured */
    };
} cop_router_event;

typedef struct {
    uint32_t worker;
    uint32_t match_tokens;       /* of this prompt, in the router's view; whole blocks */
    uint32_t outstanding;        /* requests sent and not finished */
    uint32_t outstanding_tokens; /* prompt tokens still to compute, as predicted when sent */
    double drain_ns;             /* predicted time to compute those */
    double recompute_ns;         /* predicted prefill of this prompt here with match_tokens held */
    double fetch_ns;       /* predicted transfer of the best other match; INFINITY: none better */
    double fetched_ns;     /* predicted prefill after that transfer; INFINITY: none better */
    uint32_t fetch_from;   /* worker that holds the best other match, or COP_NO_WORKER */
    uint32_t fetch_tokens; /* match after the fetch */
    double cost, tie_cost; /* set by the policy */
} cop_candidate;

typedef struct {
    uint64_t request;
    uint32_t worker;       /* the choice; COP_NO_WORKER: rejected */
    uint32_t candidates;   /* entries in cop_router_actions.candidates */
    bool tie;              /* another worker had the same cost and tie_cost */
    bool in_view;          /* the policy's choice used the directory as of now (no late events) */
    uint32_t match_tokens; /* at the choice */
    uint32_t best_match_tokens;  /* at the best holder */
    uint32_t ideal_match_tokens; /* an infinite cache fed by every earlier request of the tenant */
    double predicted_ttft_ns;    /* drain + transfer + prefill at the choice */
    const char *reject_reason;   /* static text; NULL unless rejected */
} cop_decision;

/* What one step asks for. Arrays are owned by the actions, valid until the next step. */
typedef struct {
    bool decided; /* the event was an arrival: decision and candidates are set */
    cop_decision decision;
    cop_candidate *candidates; /* cop_candidate[decision.candidates] */
    size_t candidates_capacity;
    uint64_t transfer; /* that the request waits for at decision.worker, or COP_NO_TRANSFER */
    cop_plan *plans;   /* to be sent to both ends, before the request */
    size_t plan_count, plans_capacity;
} cop_router_actions; /* zero-initialise; cop_router_actions_fini */

cop_status cop_router_open(cop_router **out, const cop_router_options *options, cop_error *err);
void cop_router_close(cop_router *router);
void cop_router_step(cop_router *router, const cop_router_event *event, cop_router_actions *out);
void cop_router_actions_fini(cop_router_actions *actions);

/* XXH3 chain over every decision and plan so far (request, choice, costs' bits, plans). */
uint64_t cop_router_digest(const cop_router *router);

/* Walks every invariant of the router and its directory. */
void cop_router_check(const cop_router *router);

/* Names in the registries, for --help and for the nearest name in errors. NULL past the end. */
const char *cop_route_policy_name(size_t i);
const char *cop_migrate_policy_name(size_t i);

#endif
