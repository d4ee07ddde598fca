/* Compute threads of a rank, and warnings about its placement. Every rank makes itself look badly
 * placed and reads what it would tell the user. */
#define _GNU_SOURCE /* CPU affinity */

#include "require.h"

#include "drive/launch.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

static void warnings(cop_bus *bus, uint32_t threads, bool spins, char *text, size_t size)
{
    FILE *file = tmpfile();
    REQUIRE(bus, file, "no temporary file");
    cop_log log = {.out = file, .rank = -1};
    cop_launch_warn(bus, &log, threads, spins);
    rewind(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void test_threads(cop_bus *bus)
{
    long share = sysconf(_SC_NPROCESSORS_ONLN) / cop_bus_local_size(bus);
    REQUIRE(bus, cop_launch_threads(bus, 3) == 3, "as configured");
    REQUIRE(bus, cop_launch_threads(bus, 0) == (uint32_t)(share > 1 ? share : 1), "%u threads",
            cop_launch_threads(bus, 0));
}

/* All ranks of the test are on one host: rank 0 may be a front end, then rank 1 is its worker 0. */
static void test_worker_of_host(cop_bus *bus)
{
    uint32_t rank = (uint32_t)cop_bus_rank(bus);
    REQUIRE(bus, cop_bus_local_first(bus) == 0, "%d", cop_bus_local_first(bus));
    REQUIRE(bus, cop_launch_worker_of_host(bus, 0) == rank, "%u",
            cop_launch_worker_of_host(bus, 0));
    REQUIRE(bus, rank == 0 || cop_launch_worker_of_host(bus, 1) == rank - 1, "%u",
            cop_launch_worker_of_host(bus, 1));
}

static void test_binding(cop_bus *bus)
{
    char text[1024];
    bool first = cop_bus_local_rank(bus) == 0;
    cpu_set_t before, one;
    REQUIRE(bus, sched_getaffinity(0, sizeof before, &before) == 0, "affinity");
    warnings(bus, (uint32_t)CPU_COUNT(&before), false, text, sizeof text);
    REQUIRE(bus, !strstr(text, "bound to"), "not bound, but: %s", text);
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    REQUIRE(bus, sched_setaffinity(0, sizeof one, &one) == 0, "affinity");
    warnings(bus, 1, false, text, sizeof text);
    REQUIRE(bus, !strstr(text, "bound to"), "one thread needs one core, but: %s", text);
    warnings(bus, 2, false, text, sizeof text);
    bool bound = sysconf(_SC_NPROCESSORS_ONLN) > 1 && first;
    REQUIRE(bus,
            !!strstr(text, "bound to 1 core with 2 compute threads: add --bind-to none") == bound,
            "said: %s", text);
    sched_setaffinity(0, sizeof before, &before);
}

static void test_spinning(cop_bus *bus)
{
    char text[1024];
    bool crowded = cop_bus_local_size(bus) > sysconf(_SC_NPROCESSORS_ONLN);
    warnings(bus, 1, false, text, sizeof text);
    REQUIRE(bus, text[0] == '\0', "nothing to warn of, but: %s", text);
    warnings(bus, 1, true, text, sizeof text);
    bool told = strstr(text, "loop.idle: spin");
    REQUIRE(bus, told == (crowded && cop_bus_local_rank(bus) == 0), "said: %s", text);
}

int main(int argc, char **argv)
{
    cop_bus *bus = open_bus(&argc, &argv);
    test_threads(bus);
    test_worker_of_host(bus);
    test_binding(bus);
    test_spinning(bus);
    cop_bus_close(bus);
    return 0;
}
