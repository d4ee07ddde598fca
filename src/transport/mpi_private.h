/* What the files that speak MPI share. Nothing else in coppice includes mpi.h.
 *
 * Communicators (each a duplicate of MPI_COMM_WORLD that returns its errors):
 *     bus->messages     control messages, tag 0
 *     bus->collective   barriers, broadcasts, gathers, clock and ring measurements
 *     kv->blocks        KV blocks, a tag for each transfer */
#ifndef COP_TRANSPORT_MPI_PRIVATE_H
#define COP_TRANSPORT_MPI_PRIVATE_H

#include "transport/transport.h"

#include <mpi.h>

/* ---- errors ----------------------------------------------------------------------------- */

/* In functions that return a cop_status: returns COP_ERR_TRANSPORT, described in *err, from the
 * enclosing function when the call fails. */
#define COP_MPI_TRY(err, call)                                              \
    do {                                                                    \
        int cop_code_ = (call);                                             \
        if (cop_code_ != MPI_SUCCESS)                                       \
            return cop_mpi_fail(err, cop_code_, #call, __FILE__, __LINE__); \
    } while (0)

/* In functions that return none: says what failed and ends the job. No rank can go on when the
 * transport under all of them has failed. */
#define COP_MPI_MUST(call)                                      \
    do {                                                        \
        int cop_code_ = (call);                                 \
        if (cop_code_ != MPI_SUCCESS)                           \
            cop_mpi_stop(cop_code_, #call, __FILE__, __LINE__); \
    } while (0)

cop_status cop_mpi_fail(cop_error *err, int code, const char *call, const char *file, int line);
_Noreturn void cop_mpi_stop(int code, const char *call, const char *file, int line);

/* ---- the bus ---------------------------------------------------------------------------- */

/* A message that we own: to be sent, on its way, or to ourselves. */
typedef struct {
    uint8_t *bytes;
    size_t size, capacity;
} cop_parcel;

typedef struct {
    cop_parcel *items;
    size_t count, capacity;
} cop_parcels;

struct cop_bus {
    MPI_Comm messages, collective;
    int rank, size, local_rank, local_size, local_first;
    int64_t clock_offset_ns; /* rank 0's clock = ours + this; 0 until cop_bus_sync_clock */

    MPI_Request *requests; /* requests[i] sends outgoing.items[i] */
    size_t requests_capacity;
    cop_parcels outgoing;
    size_t next_tested; /* first of the outgoing that the next poll tests */

    cop_parcels local; /* to ourselves, oldest at local_head */
    size_t local_head;
    bool local_turn; /* whose turn it is to be polled first: ourselves or the others */

    cop_parcels spare; /* empty, to be used again */
    cop_parcel inbox;  /* what the last poll delivered */
    cop_parcels kept;  /* memory that MPI may still look at: freed after MPI_Finalize */
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
};

/* Waits without taking a core from those who compute: tests, then yields, then short sleeps. */
void cop_mpi_wait(MPI_Request *request, MPI_Status *status);

/* Takes over malloc'd memory of a request that was let go. */
void cop_bus_keep(cop_bus *bus, void *memory);

#endif
