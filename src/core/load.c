#include "core/load.h"

#include "base/alloc.h"
#include "base/check.h"

#include <math.h>
#include <stdlib.h>

enum { NO_CHARGE = UINT32_MAX };

/* A single odd step (a page fault, a preemption) must not turn routing over. */
static const double slowest = 16, fastest = 0.25, weight = 1.0 / 8;

void cop_ledger_init(cop_ledger *ledger, uint32_t workers)
{
    *ledger = (cop_ledger){.workers = workers, .first_free = NO_CHARGE};
    ledger->loads = cop_calloc(workers, sizeof *ledger->loads);
    for (uint32_t i = 0; i < workers; i++)
        ledger->loads[i].speed = 1;
    cop_map_init(&ledger->index);
}

void cop_ledger_fini(cop_ledger *ledger)
{
    free(ledger->loads);
    free(ledger->charges);
    cop_map_fini(&ledger->index);
}

static uint32_t take_slot(cop_ledger *ledger)
{
    uint32_t slot = ledger->first_free;
    if (slot != NO_CHARGE) {
        ledger->first_free = ledger->charges[slot].next_free;
        return slot;
    }
    COP_GROW(ledger->charges, ledger->capacity, ledger->count + 1);
    return ledger->count++;
}

void cop_ledger_charge(cop_ledger *ledger, uint64_t request, uint32_t worker, uint32_t tokens,
                       uint32_t blocks, double prefill_ns)
{
    COP_CHECK(cop_map_get(&ledger->index, request) == NULL);
    uint32_t slot = take_slot(ledger);
    cop_charge *charge = &ledger->charges[slot];
    *charge = (cop_charge){.request = request,
                           .prefill_ns = (uint64_t)prefill_ns,
                           .worker = worker,
                           .tokens = tokens,
                           .blocks = blocks,
                           .live = true,
                           .computing = true};
    cop_map_put(&ledger->index, request, slot);
    cop_load *load = &ledger->loads[worker];
    load->requests++;
    load->tokens += tokens;
    load->prefill_ns += charge->prefill_ns;
    load->blocks += blocks;
}

static cop_charge *find(cop_ledger *ledger, uint64_t request, uint32_t worker)
{
    const uint32_t *slot = cop_map_get(&ledger->index, request);
    COP_CHECK(slot != NULL);
    COP_CHECK(ledger->charges[*slot].worker == worker);
    return &ledger->charges[*slot];
}

static void computed(cop_ledger *ledger, cop_charge *charge)
{
    if (!charge->computing)
        return;
    charge->computing = false;
    ledger->loads[charge->worker].tokens -= charge->tokens;
    ledger->loads[charge->worker].prefill_ns -= charge->prefill_ns;
}

void cop_ledger_first_token(cop_ledger *ledger, uint64_t request, uint32_t worker)
{
    computed(ledger, find(ledger, request, worker));
}

void cop_ledger_finished(cop_ledger *ledger, uint64_t request, uint32_t worker)
{
    cop_charge *charge = find(ledger, request, worker);
    computed(ledger, charge);
    ledger->loads[worker].requests--;
    ledger->loads[worker].blocks -= charge->blocks;
    *charge = (cop_charge){.next_free = ledger->first_free};
    ledger->first_free = (uint32_t)(charge - ledger->charges);
    cop_map_remove(&ledger->index, request);
}

void cop_ledger_stepped(cop_ledger *ledger, uint32_t worker, double predicted_ns,
                        double observed_ns)
{
    if (!(predicted_ns > 0) || !(observed_ns > 0))
        return;
    double ratio = fmin(fmax(observed_ns / predicted_ns, fastest), slowest);
    ledger->loads[worker].speed += weight * (ratio - ledger->loads[worker].speed);
}

void cop_ledger_check(const cop_ledger *ledger)
{
    cop_load *sums = cop_calloc(ledger->workers, sizeof *sums);
    size_t live = 0;
    for (uint32_t i = 0; i < ledger->count; i++) {
        const cop_charge *charge = &ledger->charges[i];
        if (!charge->live)
            continue;
        live++;
        const uint32_t *slot = cop_map_get(&ledger->index, charge->request);
        COP_CHECK(slot && *slot == i);
        cop_load *sum = &sums[charge->worker];
        sum->requests++;
        sum->blocks += charge->blocks;
        sum->tokens += charge->computing ? charge->tokens : 0;
        sum->prefill_ns += charge->computing ? charge->prefill_ns : 0;
    }
    COP_CHECK(live == ledger->index.count);
    for (uint32_t i = 0; i < ledger->workers; i++) {
        const cop_load *load = &ledger->loads[i];
        COP_CHECK(load->requests == sums[i].requests && load->blocks == sums[i].blocks);
        COP_CHECK(load->tokens == sums[i].tokens && load->prefill_ns == sums[i].prefill_ns);
        COP_CHECK(load->speed >= fastest && load->speed <= slowest);
    }
    free(sums);
}
