/* Times of session arrivals, as gaps of one of three renewal processes of the same mean rate.
 *
 *   poisson  gaps exponential
 *   gamma    gaps gamma with coefficient of variation `cv`: 1 is Poisson, above it bursts
 *   onoff    busy and silent periods, exponential with means on_s and off_s; Poisson arrivals while
 *            busy, faster by (on + off) / on so that the mean rate holds. This is the interrupted
 *            Poisson process (Kuczura, 1973), whose gaps are independent. */
#ifndef COP_WORKLOAD_ARRIVAL_H
#define COP_WORKLOAD_ARRIVAL_H

#include "base/rng.h"
#include "workload/workload.h"

#include <stdbool.h>

typedef struct {
    cop_rng rng;
    cop_arrival_process kind;
    double rate, cv, on_s, off_s;
    bool begun;
} cop_arrivals;

void cop_arrivals_init(cop_arrivals *a, const cop_workload_options *options);
double
cop_arrivals_gap_s(cop_arrivals *a); /* from the previous arrival, or the start, to the next */

#endif
