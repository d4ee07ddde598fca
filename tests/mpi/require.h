/* What the programs of this ring share. A rank that finds something wrong says so and ends the
 * whole job: the others would wait for it until the test's timeout. */
#ifndef COP_TESTS_MPI_REQUIRE_H
#define COP_TESTS_MPI_REQUIRE_H

#include "base/status.h"
#include "transport/transport.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(bus, condition, ...)                                              \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "%s:%d: rank %d: not true: %s: ", __FILE__, __LINE__, \
                    cop_bus_rank(bus), #condition);                               \
            fprintf(stderr, __VA_ARGS__);                                         \
            fputc('\n', stderr);                                                  \
            cop_bus_abort(bus, 1);                                                \
        }                                                                         \
    } while (0)

/* Open MPI unloads its components at the end, and a leak of an unloaded one has no name that
 * lsan.supp could know. */
#ifdef __SANITIZE_ADDRESS__
#include <dlfcn.h>
int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
#endif

static inline cop_bus *open_bus(int *argc, char ***argv)
{
    cop_bus *bus;
    cop_error err;
    if (cop_bus_open(&bus, argc, argv, &err) != COP_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return bus;
}

#endif
