/* The communicator of the NCCL transport: made, connected, ended.
 *
 * Its ranks are those that have a pool. Open, on all ranks of the bus:
 *
 *     gather, broadcast   which GPU each rank has: two ranks on one are an error, or, if the
 *                         configuration allows it, a case that NCCL must be talked into
 *     broadcast           the unique id, from rank 0
 *     init                a non-blocking communicator: a peer that is gone ends in a time-out
 *     connect             one small message for each pair, so that no transfer pays for the
 *                         connection, and none waits in a call for its peer to make it
 *
 * NCCL refuses two ranks on one GPU of one host. NCCL_HOSTID, another for each rank, makes it take
 * them for ranks of different hosts; then it goes over its network transport, sockets if there is
 * nothing else. From 2.30 on NCCL_MULTI_RANK_GPU_ENABLE=1 allows them. Both must be in the
 * environment before NCCL is first asked for anything. */
#define _GNU_SOURCE /* setenv */

#include "cuda/nccl_private.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    IDENTITY_BYTES = 64,
    CLOSE_S = 5, /* patience with peers that close later, or not at all */
    ABORT_S = 2, /* and with the GPU, which drops what was aborted */
    WAIT_SLEEP_NS = 50 * COP_NS_PER_US,
};

/* What rank 0 broadcasts. */
typedef struct {
    ncclUniqueId id;
    cop_error error;
} invitation;

/* ---- state ------------------------------------------------------------------------------ */

cop_status cop_nccl_state(const cop_kv *kv, bool *busy, cop_error *err)
{
    ncclResult_t state;
    COP_NCCL_TRY(err, kv->comm, ncclCommGetAsyncError(kv->comm, &state));
    *busy = state == ncclInProgress;
    if (state != ncclSuccess && state != ncclInProgress)
        return cop_nccl_fail(err, state, kv->comm, "NCCL", __FILE__, __LINE__);
    return COP_OK;
}

static bool accepted(ncclResult_t result)
{
    return result == ncclSuccess || result == ncclInProgress;
}

static cop_status wait_until_ready(const cop_kv *kv, int64_t patience_ns, const char *what,
                                   cop_error *err)
{
    bool busy = true;
    for (int64_t until = cop_clock_ns() + patience_ns; busy;) {
        cop_status status = cop_nccl_state(kv, &busy, err);
        if (status != COP_OK)
            return status;
        if (busy && cop_clock_ns() > until)
            return cop_fail(err, COP_ERR_TRANSPORT,
                            "NCCL did not %s within %.1f s (transport.timeout_s): is every rank "
                            "still there?",
                            what, (double)patience_ns / COP_NS_PER_S);
        if (busy)
            cop_sleep_ns(WAIT_SLEEP_NS);
    }
    return COP_OK;
}

static cop_status wait_for_stream(const cop_kv *kv, int64_t patience_ns, cop_error *err)
{
    cudaError_t result = cudaStreamQuery(kv->stream);
    for (int64_t until = cop_clock_ns() + patience_ns;
         result == cudaErrorNotReady && cop_clock_ns() < until;) {
        cop_sleep_ns(WAIT_SLEEP_NS);
        result = cudaStreamQuery(kv->stream);
    }
    if (result == cudaErrorNotReady)
        return cop_fail(err, COP_ERR_TRANSPORT,
                        "NCCL did not connect all ranks within %.1f s (transport.timeout_s)",
                        (double)patience_ns / COP_NS_PER_S);
    if (result != cudaSuccess)
        return cop_cuda_fail(err, result, "cudaStreamQuery", __FILE__, __LINE__);
    return COP_OK;
}

/* ---- ranks on one GPU ------------------------------------------------------------------- */

/* The first two ranks on one GPU. */
static bool find_sharers(char (*gpus)[IDENTITY_BYTES], int size, int *first, int *second)
{
    for (*second = 1; *second < size; ++*second)
        for (*first = 0; *first < *second; ++*first)
            if (gpus[*second][0] && strcmp(gpus[*first], gpus[*second]) == 0)
                return true;
    return false;
}

static void persuade(cop_kv *kv, int rank, int first, int second, const char *gpu, int version)
{
    char host[64];
    snprintf(host, sizeof host, "coppice-rank-%d", rank);
    setenv("NCCL_HOSTID", host, 1);
    bool knows = version >= NCCL_VERSION(2, 30, 0);
    if (knows)
        setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
    snprintf(
        kv->note, sizeof kv->note,
        "nccl: ranks %d and %d share %s, which NCCL refuses; each rank got an NCCL_HOSTID of its "
        "own%s, so that blocks go over NCCL's network transport (sockets), not over NVLink",
        first, second, gpu, knows ? " and NCCL_MULTI_RANK_GPU_ENABLE=1" : "");
}

static cop_status look_at_gpus(cop_kv *kv, const cop_kv_options *o, int version, cop_error *err)
{
    const cop_bus_calls *bus = o->bus_calls;
    const int size = bus->size(o->bus), rank = bus->rank(o->bus);
    char mine[IDENTITY_BYTES] = {0};
    if (o->device)
        strncpy(mine, cop_cuda_device.identity(o->device), sizeof mine - 1);
    char(*gpus)[IDENTITY_BYTES] = cop_calloc((size_t)size, sizeof *gpus);
    bus->gather(o->bus, mine, sizeof mine, gpus);
    bus->broadcast(o->bus, gpus, (size_t)size * sizeof *gpus);
    int first, second;
    cop_status status = COP_OK;
    if (find_sharers(gpus, size, &first, &second) && !o->share_device)
        status = cop_fail(err, COP_ERR_INVALID,
                          "ranks %d and %d are both on %s: start one worker for each GPU, or allow "
                          "it with device.share: true",
                          first, second, gpus[first]);
    else if (second < size)
        persuade(kv, rank, first, second, gpus[first], version);
    free(gpus);
    return status;
}

/* ---- open ------------------------------------------------------------------------------- */

static cop_status share_id(const cop_kv_options *o, ncclUniqueId *id, cop_error *err)
{
    invitation letter = {0};
    if (o->bus_calls->rank(o->bus) == 0) {
        ncclResult_t result = ncclGetUniqueId(&letter.id);
        if (result != ncclSuccess)
            cop_nccl_fail(&letter.error, result, NULL, "ncclGetUniqueId", __FILE__, __LINE__);
    }
    o->bus_calls->broadcast(o->bus, &letter, sizeof letter);
    if (letter.error.status != COP_OK) {
        *err = letter.error;
        return err->status;
    }
    *id = letter.id;
    return COP_OK;
}

static cop_status allocate(cop_kv *kv, cop_error *err)
{
    int least, greatest;
    int headers = kv->size + 1 > IN_FLIGHT ? kv->size + 1 : IN_FLIGHT;
    COP_CUDA_TRY(err, cudaSetDevice(cop_cuda_device_index(kv->device)));
    COP_CUDA_TRY(err, cudaDeviceGetStreamPriorityRange(&least, &greatest));
    COP_CUDA_TRY(err, cudaStreamCreateWithPriority(&kv->stream, cudaStreamNonBlocking, greatest));
    for (int i = 0; i < IN_FLIGHT; i++) {
        COP_CUDA_TRY(err, cudaEventCreate(&kv->begun[i]));
        COP_CUDA_TRY(err, cudaEventCreate(&kv->ended[i]));
    }
    COP_CUDA_TRY(err, cudaMalloc((void **)&kv->headers, (size_t)headers * sizeof *kv->headers));
    COP_CUDA_TRY(
        err, cudaMemsetAsync(kv->headers, 0, (size_t)headers * sizeof *kv->headers, kv->stream));
    COP_CUDA_TRY(err,
                 cudaMallocHost((void **)&kv->headers_host, IN_FLIGHT * sizeof *kv->headers_host));
    return COP_OK;
}

/* A header from each rank to each other, of no meaning: headers[0] goes out. */
static cop_status connect(cop_kv *kv, cop_error *err)
{
    const size_t bytes = sizeof *kv->headers;
    ncclResult_t posted = ncclSuccess;
    COP_NCCL_TRY(err, kv->comm, ncclGroupStart());
    for (int peer = 0; peer < kv->size && accepted(posted); peer++) {
        if (peer == kv->rank)
            continue;
        posted = ncclSend(kv->headers, bytes, ncclUint8, peer, kv->comm, kv->stream);
        if (accepted(posted))
            posted = ncclRecv(kv->headers + 1 + peer, bytes, ncclUint8, peer, kv->comm, kv->stream);
    }
    ncclResult_t ended = ncclGroupEnd();
    if (!accepted(posted) || !accepted(ended))
        return cop_nccl_fail(err, accepted(posted) ? ended : posted, kv->comm, "connecting",
                             __FILE__, __LINE__);
    cop_status status = wait_until_ready(kv, kv->timeout_ns, "connect all ranks", err);
    return status == COP_OK ? wait_for_stream(kv, kv->timeout_ns, err) : status;
}

static cop_status join(cop_kv *kv, ncclUniqueId id, cop_error *err)
{
    cop_status status = allocate(kv, err);
    if (status != COP_OK)
        return status;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t result = ncclCommInitRankConfig(&kv->comm, kv->size, id, kv->rank, &config);
    if (!accepted(result))
        return cop_nccl_fail(err, result, NULL, "ncclCommInitRankConfig", __FILE__, __LINE__);
    status = wait_until_ready(kv, kv->timeout_ns, "make a communicator of all ranks", err);
    return status == COP_OK && kv->size > 1 ? connect(kv, err) : status;
}

cop_status cop_nccl_open(cop_kv **out, const cop_kv_options *o, cop_error *err)
{
    ncclUniqueId id;
    int version = 0;
    cop_kv *kv = cop_calloc(1, sizeof *kv);
    kv->device = o->device;
    kv->first_rank = o->first_rank;
    kv->rank = o->bus_calls->rank(o->bus) - o->first_rank;
    kv->size = o->bus_calls->size(o->bus) - o->first_rank;
    kv->block_bytes = o->block_bytes;
    kv->timeout_ns = (int64_t)(o->timeout_s * COP_NS_PER_S);
    cop_link_init(&kv->link, o->link_latency_us, o->link_bandwidth_mb_s);
    ncclGetVersion(&version);
    cop_status status = look_at_gpus(kv, o, version, err);
    if (status == COP_OK)
        status = share_id(o, &id, err);
    if (status == COP_OK && version < NCCL_VERSION(2, 18, 0))
        status = cop_fail(err, COP_ERR_UNSUPPORTED,
                          "transport.kv nccl: NCCL %d is too old, it takes 2.18", version);
    if (status == COP_OK && kv->rank >= 0)
        status = join(kv, id, err);
    if (status != COP_OK) {
        cop_nccl_give_up(kv);
        cop_nccl_close(kv);
        return status;
    }
    *out = kv;
    return COP_OK;
}

/* ---- close ------------------------------------------------------------------------------ */

void cop_nccl_give_up(cop_kv *kv)
{
    if (kv->comm)
        ncclCommAbort(kv->comm);
    kv->comm = NULL;
}

/* Finalize waits for the peers to close too. */
static void end_communicator(cop_kv *kv)
{
    bool busy = kv->launching || kv->turns.posted || kv->flying_count;
    if (busy || !accepted(ncclCommFinalize(kv->comm)) ||
        wait_until_ready(kv, CLOSE_S * (int64_t)COP_NS_PER_S, "end", NULL) != COP_OK) {
        cop_nccl_give_up(kv);
        return;
    }
    ncclCommDestroy(kv->comm);
    kv->comm = NULL;
}

static void free_transfer(cop_nccl_transfer *t)
{
    if (t)
        free(t->blocks);
    free(t);
}

/* What the GPU still has after an abort and the time given is left to it: freeing would wait. */
static void release(cop_kv *kv)
{
    if (kv->stream && wait_for_stream(kv, ABORT_S * (int64_t)COP_NS_PER_S, NULL) != COP_OK)
        return;
    for (int i = 0; i < IN_FLIGHT; i++) {
        if (kv->begun[i])
            cudaEventDestroy(kv->begun[i]);
        if (kv->ended[i])
            cudaEventDestroy(kv->ended[i]);
    }
    if (kv->headers_host)
        cudaFreeHost(kv->headers_host);
    if (kv->headers)
        cudaFree(kv->headers);
    if (kv->stream)
        cudaStreamDestroy(kv->stream);
}

void cop_nccl_close(cop_kv *kv)
{
    if (!kv)
        return;
    if (kv->comm)
        end_communicator(kv);
    release(kv);
    for (uint32_t i = 0; i < kv->flying_count; i++)
        free_transfer(kv->flying[(kv->oldest + i) % IN_FLIGHT]);
    for (size_t i = 0; i < kv->turns.count; i++)
        free_transfer(kv->turns.items[i].posted);
    cop_turns_fini(&kv->turns);
    free(kv);
}
