/* A run under mpirun, in real time.
 *
 *     rank 0:  workload --> router --> frames --> workers          record <-- frames <-- workers
 *     each worker's rank:   frames --> worker core --> device, KV transport --> frames
 *
 * One thread per rank calls MPI: it turns messages, device completions, transfer completions and
 * due arrivals into events, steps the cores, performs their actions, and rests when nothing
 * happened. With frontend: rank0 that rank is worker 0 as well; its messages to itself take the
 * same way. */
#ifndef COP_DRIVE_CLUSTER_H
#define COP_DRIVE_CLUSTER_H

#include "base/log.h"
#include "base/status.h"
#include "config/config.h"
#include "transport/transport.h"

#include <signal.h>

/* Collective. On COP_ERR_INTERRUPTED the record has been closed as incomplete. *together: every
 * rank returns with this failure, so the job can end in order; the first that met it has its text,
 * the others an empty one. Otherwise the other ranks know nothing of the failure yet. */
cop_status cop_cluster_run(cop_bus *bus, const cop_config *cfg, const cop_log *log,
                           const volatile sig_atomic_t *interrupted, bool *together,
                           cop_error *err);

#endif
