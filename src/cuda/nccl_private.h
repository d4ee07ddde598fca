/* Inside of the NCCL transport: shared by nccl.c (transfers) and nccl_open.c (the communicator). */
#ifndef COP_CUDA_NCCL_PRIVATE_H
#define COP_CUDA_NCCL_PRIVATE_H

#include "base/link.h"
#include "base/turns.h"
#include "cuda/check.h"
#include "cuda/nccl_check.h"
#include "cuda/plugin.h"

enum {
    IN_FLIGHT = 8, /* transfers that are with NCCL at a time; the stream does one after another */
    GROUP_BLOCKS = 256, /* operations in a group; NCCL takes at most 2048 */
};

/* What the sender says before the blocks. A message of its own: see nccl.c.
 *     offset  type  meaning
 *      0      u64   transfer
 *      8      i64   wait_ns, which only the sender knows
 *     16      i64   hold_ns: from the header to the blocks, by the link model                  */
typedef struct {
    uint64_t transfer;
    int64_t wait_ns, hold_ns;
} cop_nccl_header;
_Static_assert(sizeof(cop_nccl_header) == 24, "the header is a message: see the table above");

typedef enum { COP_NCCL_HEADER, COP_NCCL_BLOCKS, COP_NCCL_LAUNCHED } cop_nccl_stage;

typedef struct {
    uint64_t id;
    bool outgoing, begun;
    int peer;      /* rank of the communicator */
    void **blocks; /* [count], the array is owned */
    uint32_t count, launched;
    cop_nccl_stage stage; /* what is launched next */
    uint32_t slot;        /* of headers and events */
    int64_t posted_ns, wait_ns;
    int64_t start_ns; /* outgoing: link free for us */
    int64_t due_ns;   /* modelled arrival of the last byte; incoming: once the header is here */
} cop_nccl_transfer;

struct cop_kv {
    cop_device *device; /* borrowed */
    ncclComm_t comm;    /* NULL: no pool here, or given up */
    int rank, size;     /* of the communicator */
    int first_rank;
    size_t block_bytes;
    int64_t timeout_ns;
    cop_link link; /* our outgoing one */
    char note[400];

    cudaStream_t stream;
    cudaEvent_t begun[IN_FLIGHT], ended[IN_FLIGHT]; /* header through; last block through */
    cop_nccl_header *headers_host;                  /* pinned, [IN_FLIGHT] */
    cop_nccl_header *headers;                       /* on the device, [max(IN_FLIGHT, 1 + size)] */

    cop_turns turns;                      /* announced, posted, not launched */
    cop_nccl_transfer *flying[IN_FLIGHT]; /* oldest at `oldest`, of the ring */
    uint32_t oldest, flying_count;
    uint64_t taken; /* transfers whose turn has come: slots go round */
    bool launching; /* NCCL is still at work on the last group */
    int64_t progress_ns;
};

cop_status cop_nccl_open(cop_kv **out, const cop_kv_options *options, cop_error *err);
void cop_nccl_close(cop_kv *kv);
/* Ends the communicator, whatever it is doing. Nothing but close may follow. */
void cop_nccl_give_up(cop_kv *kv);

/* The state of a non-blocking communicator. *busy: a call is still at work, nothing may be asked of
 * NCCL meanwhile. */
cop_status cop_nccl_state(const cop_kv *kv, bool *busy, cop_error *err);

#endif
