/* What blocks take from worker to worker, measured the way they will go: through the mover, each worker
 * to its next, a pair at a time. For the cost model; a transport between hosts' memories is measured
 * by cop_bus_measure_ns instead. */
#ifndef COP_DRIVE_LINK_PROBE_H
#define COP_DRIVE_LINK_PROBE_H

#include "drive/mover.h"

typedef struct {
    double block_ns; /* of each block more */
    double start_ns; /* of a transfer beside its blocks */
} cop_link_times;

/* Collective over all ranks of the bus. mover: NULL on a rank without a pool (those below
 * first_rank). blocks: of the pool. *out is that of the slowest pair, at rank 0; zeros if there is
 * one worker only. */
cop_status cop_link_probe(cop_bus *bus, cop_mover *mover, uint32_t first_rank, uint32_t blocks,
                          cop_link_times *out, cop_error *err);

#endif
