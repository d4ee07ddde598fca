/* How the launcher placed this rank: how many compute threads it gets, and the mistakes of
 * placement that cost the most (measured: a rank of two threads bound to one core computes half as
 * fast; ranks that spin while idle, twice as many as cores, halve those that compute). */
#ifndef COP_DRIVE_LAUNCH_H
#define COP_DRIVE_LAUNCH_H

#include "base/log.h"
#include "transport/transport.h"

#include <stdbool.h>
#include <stdint.h>

/* device.threads: `configured`, or for 0 an even share of the node's cores, at least 1. */
uint32_t cop_launch_threads(const cop_bus *bus, int64_t configured);

/* Which of its host's workers this rank is, counted from 0: a dedicated front end is none. For ranks
 * >= first_rank, that of worker 0. */
uint32_t cop_launch_worker_of_host(const cop_bus *bus, uint32_t first_rank);

/* Warns, from the first rank of each node, when it is bound to fewer cores than it has compute
 * threads, and when there are more ranks than cores and idle ones spin (loop.idle). */
void cop_launch_warn(const cop_bus *bus, const cop_log *log, uint32_t threads, bool idle_spins);

#endif
