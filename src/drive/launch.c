#define _GNU_SOURCE /* CPU affinity */

#include "drive/launch.h"

#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

static uint32_t online_cores(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 ? (uint32_t)cores : 1;
}

uint32_t cop_launch_threads(const cop_bus *bus, int64_t configured)
{
    if (configured > 0)
        return (uint32_t)configured;
    uint32_t share = online_cores() / (uint32_t)cop_bus_local_size(bus);
    return share > 0 ? share : 1;
}

uint32_t cop_launch_worker_of_host(const cop_bus *bus, uint32_t first_rank)
{
    uint32_t others = (uint32_t)cop_bus_local_first(bus) < first_rank;
    return (uint32_t)cop_bus_local_rank(bus) - others;
}

/* Cores this process may run on; more than a cpu_set_t holds counts as all of them. */
static uint32_t allowed_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return online_cores();
    return (uint32_t)CPU_COUNT(&set);
}

void cop_launch_warn(const cop_bus *bus, const cop_log *log, uint32_t threads, bool idle_spins)
{
    if (cop_bus_local_rank(bus) != 0)
        return;
    uint32_t allowed = allowed_cores(), cores = online_cores();
    if (allowed < threads && allowed < cores)
        cop_log_warn(log,
                     "bound to %u core%s with %u compute threads: add --bind-to none to mpirun",
                     allowed, allowed == 1 ? "" : "s", threads);
    if ((uint32_t)cop_bus_local_size(bus) > cores && idle_spins)
        cop_log_warn(log,
                     "loop.idle: spin with %d ranks on %u core%s: idle ranks take the cores of "
                     "those that compute; loop.idle: sleep leaves them",
                     cop_bus_local_size(bus), cores, cores == 1 ? "" : "s");
}
