#include "workload/arrival.h"

#include <math.h>

enum { STREAM_ARRIVALS = 0x61727276 };

void cop_arrivals_init(cop_arrivals *a, const cop_workload_options *o)
{
    *a = (cop_arrivals){
        .kind = o->arrival, .rate = o->rate, .cv = o->cv, .on_s = o->on_s, .off_s = o->off_s};
    cop_rng_init(&a->rng, o->seed, STREAM_ARRIVALS);
}

/* While busy, arrivals (at rate busy) race with the end of the busy period (at rate end). Of n lost
 * races before the first arrival won, each costs a silent period: n is geometric, the busy time is
 * the sum of n + 1 exponentials, the silent time of n. Drawing the sums at once keeps the cost of a
 * gap constant, however short the periods are. */
static double onoff_gap_s(cop_arrivals *a)
{
    double busy = a->rate * (a->on_s + a->off_s) / a->on_s, end = 1 / a->on_s;
    double lost = floor(-log1p(-cop_rng_double(&a->rng)) / log1p(busy / end));
    double gap_s = cop_rng_gamma(&a->rng, lost + 1, 1 / (busy + end));
    if (lost > 0 && a->off_s > 0)
        gap_s += cop_rng_gamma(&a->rng, lost, a->off_s);
    if (!a->begun && cop_rng_double(&a->rng) < a->off_s / (a->on_s + a->off_s))
        gap_s += cop_rng_exponential(&a->rng, a->off_s); /* the start falls in a silent period */
    return gap_s;
}

double cop_arrivals_gap_s(cop_arrivals *a)
{
    double gap_s;
    switch (a->kind) {
    case COP_ARRIVAL_GAMMA:
        gap_s = cop_rng_gamma(&a->rng, 1 / (a->cv * a->cv), a->cv * a->cv / a->rate);
        break;
    case COP_ARRIVAL_ONOFF:
        gap_s = onoff_gap_s(a);
        break;
    default:
        gap_s = cop_rng_exponential(&a->rng, 1 / a->rate);
        break;
    }
    a->begun = true;
    return gap_s;
}
