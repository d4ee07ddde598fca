/* What moves messages and KV blocks between ranks.
 *
 * cop_bus: control messages. Reliable, ordered for each pair of ranks, of any size below 2 GiB;
 * sending never blocks. cop_kv_ops: KV blocks, straight from and to the pools; posted on both sides
 * with the same transfer id and the same number of blocks, then polled. All calls come from one
 * thread. mpi_bus.c and mpi_kv.c implement them, on duplicated communicators; `nccl` is the symbol
 * cop_cuda_kv of the plugin coppice-cuda.so. A call that has no
 * status to return and finds MPI failing says so and ends the job. */
#ifndef COP_TRANSPORT_TRANSPORT_H
#define COP_TRANSPORT_TRANSPORT_H

#include "base/link.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- control messages ------------------------------------------------------------------- */

typedef struct cop_bus cop_bus;

/* Starts MPI (FUNNELED). Works without mpirun: then there is one rank. */
cop_status cop_bus_open(cop_bus **out, int *argc, char ***argv, cop_error *err);
void cop_bus_close(cop_bus *bus); /* collective: drains what was sent, then MPI_Finalize */
_Noreturn void cop_bus_abort(cop_bus *bus, int exit_status); /* ends every rank of the job */

int cop_bus_rank(const cop_bus *bus);
int cop_bus_size(const cop_bus *bus);
int cop_bus_local_rank(const cop_bus *bus); /* among the ranks of this host */
int cop_bus_local_size(const cop_bus *bus);
int cop_bus_local_first(const cop_bus *bus);     /* lowest rank of this host */
const char *cop_bus_version(const cop_bus *bus); /* "Open MPI v4.1.4 ..." */

void cop_bus_send(cop_bus *bus, int to, const void *message, size_t bytes); /* copies */
/* Delivers at most one message; false: none has come. *message is valid until the next call. */
bool cop_bus_poll(cop_bus *bus, int *from, const void **message, size_t *bytes);
bool cop_bus_idle(const cop_bus *bus); /* nothing of ours is still being sent */

void cop_bus_barrier(cop_bus *bus);
/* Rank 0's bytes to every rank. */
void cop_bus_broadcast(cop_bus *bus, void *bytes, size_t count);
/* Each rank's `count` bytes to rank 0: all is u8[size][count], used at rank 0 only. */
void cop_bus_gather(cop_bus *bus, const void *mine, size_t count, void *all);

/* Offset of rank 0's clock from ours: rank 0's time = ours + offset, by the fastest of many round
 * trips (Cristian's algorithm); *error_ns is half of that round trip. Collective. */
void cop_bus_sync_clock(cop_bus *bus, int64_t *offset_ns, int64_t *error_ns);

/* One-way time of `bytes` to the next rank, measured by ping-pong around the ring; rank 0 gets the
 * largest of the medians. For the cost model's alpha and beta. Collective. */
double cop_bus_measure_ns(cop_bus *bus, size_t bytes);

/* The bus for those who cannot link it. */
typedef struct {
    int (*rank)(const cop_bus *bus);
    int (*size)(const cop_bus *bus);
    void (*broadcast)(cop_bus *bus, void *bytes, size_t count);
    void (*gather)(cop_bus *bus, const void *mine, size_t count, void *all);
} cop_bus_calls;
extern const cop_bus_calls cop_bus_calls_mpi;

/* ---- KV blocks -------------------------------------------------------------------------- */

enum { COP_KV_ABI = 1 };

typedef struct cop_kv cop_kv;

typedef struct {
    uint64_t transfer;
    bool sent; /* we were the source */
    uint64_t bytes;
    int64_t wait_ns; /* posted -> first byte could go (link shared with transfers before it) */
    int64_t wire_ns; /* first byte -> last byte there; between hosts, after cop_bus_sync_clock */
} cop_kv_done;

struct cop_device;

typedef struct {
    cop_bus *bus;                   /* borrowed */
    const cop_bus_calls *bus_calls; /* for transports in a plugin, which cannot link the bus */
    struct cop_device *device;      /* whose blocks move; borrowed; NULL: this rank has no pool */
    int first_rank;                 /* ranks below it have no pool */
    size_t block_bytes;
    double link_latency_us, link_bandwidth_mb_s; /* link model; 0, 0: as fast as they go */
    double timeout_s;  /* without any progress of a posted transfer: an error */
    bool share_device; /* ranks may share one GPU */
} cop_kv_options;

typedef struct {
    uint32_t abi; /* COP_KV_ABI */
    const char *name;
    bool device_memory; /* blocks are addresses on the device, else in host memory */
    /* Collective over all ranks of the bus. */
    cop_status (*open)(cop_kv **out, const cop_kv_options *options, cop_error *err);
    void (*close)(cop_kv *kv); /* NULL is legal; transfers in flight are cancelled */
    /* Announces a transfer that will be posted here, or forgotten. Every rank announces those that
     * it takes part in in the order of their ids (the router's global order), before it posts them.
     * A transport may hold a posted transfer until those announced before it are posted or
     * forgotten: with one order for all ranks, grouped sends and receives cannot deadlock. */
    void (*expect)(cop_kv *kv, uint64_t transfer);
    void (*forget)(cop_kv *kv, uint64_t transfer);
    /* blocks: `count` pointers; the array is copied, the memory is borrowed until poll reports the
     * transfer done. */
    void (*send)(cop_kv *kv, uint64_t transfer, int to, void *const *blocks, uint32_t count);
    void (*receive)(cop_kv *kv, uint64_t transfer, int from, void *const *blocks, uint32_t count);
    /* Makes progress; *ended: one transfer ended, and *done tells of it. COP_ERR_TRANSPORT: a peer
     * died or did not move for timeout_s; nothing but close may follow. */
    cop_status (*poll)(cop_kv *kv, cop_kv_done *done, bool *ended, cop_error *err);
    bool (*idle)(const cop_kv *kv); /* nothing posted is unfinished */
    /* What the user should know of how the blocks go, in a sentence; valid until close. The function
     * or what it returns may be NULL: nothing to say. */
    const char *(*note)(const cop_kv *kv);
} cop_kv_ops;

/* By config name (transport.kv). COP_ERR_UNSUPPORTED with the reason. */
cop_status cop_kv_find(const char *name, const cop_kv_ops **out, cop_error *err);

extern const cop_kv_ops cop_kv_mpi;

#endif
