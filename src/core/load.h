/* What the router believes every worker has to do: charged when a request is sent, released when
 * the worker says so.
 *
 *     charge(request, worker)   requests +1, blocks +, tokens +, prefill_ns +
 *     first token               tokens -, prefill_ns -         (its prompt is computed)
 *     finished                  requests -1, blocks -          (and the above, if not yet)
 *
 * Sums are integers, so that they return to exactly 0. A prompt half computed still counts in full,
 * as workers say nothing between. */
#ifndef COP_CORE_LOAD_H
#define COP_CORE_LOAD_H

#include "base/map.h"
#include "core/cost.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint32_t requests;    /* sent and not finished */
    uint64_t tokens;      /* prompt tokens to compute, as predicted when sent */
    uint64_t prefill_ns;  /* predicted time for those, at speed 1 */
    uint64_t blocks;      /* of prompts and outputs of those requests, shared ones counted again */
    uint32_t used_blocks; /* of the pool, as the worker last said */
    double speed;         /* observed over predicted step time, exponential mean */
} cop_load;

typedef struct {
    uint64_t request, prefill_ns;
    uint32_t worker, tokens, blocks;
    bool live;
    bool computing; /* no first token yet */
    uint32_t next_free;
} cop_charge;

typedef struct {
    cop_load *loads; /* [workers] */
    uint32_t workers;
    cop_charge *charges;
    uint32_t count, first_free;
    size_t capacity;
    cop_map index; /* request -> charge */
} cop_ledger;

void cop_ledger_init(cop_ledger *ledger, uint32_t workers);
void cop_ledger_fini(cop_ledger *ledger);

/* `request` must not be charged already. */
void cop_ledger_charge(cop_ledger *ledger, uint64_t request, uint32_t worker, uint32_t tokens,
                       uint32_t blocks, double prefill_ns);

/* `request` must be charged to `worker`. */
void cop_ledger_first_token(cop_ledger *ledger, uint64_t request, uint32_t worker);
void cop_ledger_finished(cop_ledger *ledger, uint64_t request, uint32_t worker);

/* One engine step of `worker` took `observed_ns`. */
void cop_ledger_stepped(cop_ledger *ledger, uint32_t worker, double predicted_ns,
                        double observed_ns);

void cop_ledger_check(const cop_ledger *ledger);

#endif
