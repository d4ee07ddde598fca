/* Fetching KV from another worker: what it would take, whether it pays, and what is under way.
 * Routing and migration ask here, so that they never predict differently.
 *
 * Rule T1: fetch the m' extra tokens that worker j holds to worker i iff
 *
 *     W_link(j) + alpha + beta * bytes(m')  <  P_i(L, m_i) - P_i(L, m_i + m') - rho * E_i(m')
 *
 *     W_link  wait for the transfers planned before on the sender's link (base/link.h)
 *     alpha, beta  fitted from transfers measured to the end, so pack and unpack are in them
 *     P_i(L, m)    prefill of L tokens with m held (cost.h), times the worker's speed
 *     E_i     recompute of what must be evicted to make room: blocks above the pool, each
 *             valued at the mean depth of this prompt
 *
 * Mooncake (FAST'25) compares the same two times with a threshold set by hand; llm-d pulls on a
 * fixed lead in tokens. */
#ifndef COP_CORE_FETCH_H
#define COP_CORE_FETCH_H

#include "base/link.h"
#include "core/arrival.h"

/* A transfer that was planned and has not ended. */
typedef struct {
    cop_plan plan;
    int64_t arrives_ns; /* predicted */
} cop_flight;

typedef struct cop_fetches {
    cop_flight *flights; /* in order of id */
    size_t count, capacity;
    cop_link *links; /* [workers]: outgoing */
    uint32_t workers;
} cop_fetches;

void cop_fetches_init(cop_fetches *fetches, const cop_cost *cost, uint32_t workers);
void cop_fetches_fini(cop_fetches *fetches);

/* Fills fetch_* and fetched_ns of every candidate; the other fields are set already. When a longer
 * prefix than it holds is on its way to a worker, blocks of that are not fetched again: the fetch
 * is then either to wait for that transfer (if it is a pull: no request waits for a copy), or to
 * pull what the best holder has beyond it. */
void cop_fetch_predict(const cop_arrival *in, cop_candidate *candidates);

/* The right side of T1 for a candidate with a fetch: what the fetch saves. */
double cop_fetch_saved_ns(const cop_arrival *in, const cop_candidate *candidate);

/* T1, when fetching is possible at all: a better match, a policy that pulls, and room (blocks of
 * all outstanding requests and of this one fit the pool). */
bool cop_fetch_pays(const cop_arrival *in, const cop_candidate *candidate);

/* Longest transfer under way to `worker` of a prefix of this prompt beyond its `held` blocks. */
const cop_flight *cop_fetch_under_way(const cop_arrival *in, uint32_t worker, uint32_t held);

bool cop_fetch_has_room(const cop_arrival *in, uint32_t worker);

/* Enters a plan: the sender's link is busy for it from now on. */
void cop_fetches_start(cop_fetches *fetches, const cop_cost *cost, const cop_plan *plan);
void cop_fetches_end(cop_fetches *fetches, uint64_t id); /* must be under way */

void cop_fetches_check(const cop_fetches *fetches);

#endif
