/* A fake NCCL: point-to-point transfers between the ranks of one machine, as operations of the
 * emulator's streams. See nccl_private.h.
 *
 * What it keeps of the real one (version 2.28): a group is one operation of its stream, done when
 * all its sends and receives are; those of one group go on side by side; sends and receives of a
 * pair of ranks match in order; operations of one communicator run in the order in which they were
 * queued, whatever their streams; a peer that dies shows in ncclCommGetAsyncError alone, and what
 * waits for it waits until ncclCommAbort; two ranks on one GPU are refused.
 *
 * Stricter: a send is done when it was received, however small. Refused, or the end of the program,
 * with a text, are sizes that don't match, buffers of a group that overlap, bytes that are not in
 * device memory, and ncclCommDestroy where it would wait for ever. Not there: collectives, several
 * streams in a group, communicators made inside a group.
 *
 * A non-blocking communicator answers ncclInProgress, and its group is queued only when
 * ncclCommGetAsyncError has been asked: who uses the stream before that loses the order.
 *
 * Environment: COP_EMULATOR_NCCL_STALL=<rank>:<n> lets the n-th send of that rank (from 1, on each
 * communicator) hang for ever. NCCL_HOSTID is the host's name. TMPDIR holds the sockets. */
#include "emulator.h"
#include "nccl_private.h"

#include <random>
#include <set>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

using namespace fake_nccl;

struct ncclComm {
    shared inside;
};

namespace
{

const char id_magic[16] = "emulated NCCL 1";

thread_local std::string last_text;

std::mutex handles_lock;
std::set<ncclComm *> handles;

} // namespace

ncclResult_t fake_nccl::refuse(ncclResult_t result, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    last_text = text;
    fprintf(stderr, "NCCL (emulated): %s: %s\n", ncclGetErrorString(result), text);
    return result;
}

shared fake_nccl::find(ncclComm_t comm)
{
    std::lock_guard<std::mutex> guard(handles_lock);
    return handles.count(comm) ? comm->inside : nullptr;
}

static void forget(ncclComm_t comm)
{
    std::lock_guard<std::mutex> guard(handles_lock);
    handles.erase(comm);
    delete comm;
}

ncclResult_t fake_nccl::ready(const communicator *c)
{
    if (c->failure != ncclSuccess)
        return refuse(c->failure, "rank %d: the communicator has failed", c->rank);
    if (c->state == ncclInProgress)
        return refuse(ncclInvalidArgument,
                      "rank %d: Attempt to use communicator before the previous operation returned "
                      "ncclSuccess",
                      c->rank);
    return ncclSuccess;
}

/* ---- versions and texts ----------------------------------------------------------------- */

ncclResult_t ncclGetVersion(int *version)
{
    if (!version)
        return refuse(ncclInvalidArgument, "ncclGetVersion: no place for the version");
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    switch (result) {
    case ncclSuccess:
        return "no error";
    case ncclUnhandledCudaError:
        return "unhandled cuda error";
    case ncclSystemError:
        return "unhandled system error";
    case ncclInternalError:
        return "internal error";
    case ncclInvalidArgument:
        return "invalid argument";
    case ncclInvalidUsage:
        return "invalid usage";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    case ncclInProgress:
        return "NCCL operation in progress";
    default:
        return "unknown result code";
    }
}

const char *ncclGetLastError(ncclComm_t comm)
{
    if (const shared c = find(comm)) {
        std::lock_guard<std::mutex> guard(c->lock);
        if (!c->text.empty())
            last_text = c->text;
    }
    return last_text.c_str();
}

/* ---- making a communicator -------------------------------------------------------------- */

/* The id: 16 bytes of magic, then the path of a folder that no one has made yet. */
ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    if (!id)
        return refuse(ncclInvalidArgument, "ncclGetUniqueId: no place for the id");
    if (emulator_fails("ncclGetUniqueId"))
        return ncclSystemError;
    std::random_device random;
    const char *folder = getenv("TMPDIR");
    *id = {};
    memcpy(id->internal, id_magic, sizeof id_magic);
    const size_t room = sizeof id->internal - sizeof id_magic;
    const int length = snprintf(id->internal + sizeof id_magic, room, "%s/nccl-%08x%08x",
                                folder && *folder ? folder : "/tmp", random(), random());
    if (length >= (int)room)
        return refuse(ncclSystemError, "TMPDIR is too long for the path of a socket");
    return ncclSuccess;
}

static ncclResult_t check_config(const ncclConfig_t *config)
{
    const ncclConfig_t fresh = NCCL_CONFIG_INITIALIZER;
    if (config && (config->size != fresh.size || config->magic != fresh.magic ||
                   config->version > fresh.version))
        return refuse(ncclInvalidArgument,
                      "the config was not initialised with NCCL_CONFIG_INITIALIZER");
    if (config && config->blocking != NCCL_CONFIG_UNDEF_INT && config->blocking != 0 &&
        config->blocking != 1)
        return refuse(ncclInvalidArgument, "config.blocking is %d", config->blocking);
    return ncclSuccess;
}

static ncclResult_t make(shared *made, int ranks, const ncclUniqueId *id, int rank,
                         const ncclConfig_t *config)
{
    if (ranks < 1 || rank < 0 || rank >= ranks)
        return refuse(ncclInvalidArgument, "rank %d of %d", rank, ranks);
    if (memcmp(id->internal, id_magic, sizeof id_magic) != 0)
        return refuse(ncclInvalidArgument, "the unique id is none of ncclGetUniqueId");
    if (group_depth() > 0)
        return refuse(ncclInvalidUsage, "the emulator makes no communicator inside a group");
    const ncclResult_t result = check_config(config);
    if (result != ncclSuccess)
        return result;
    char bus_id[32] = "";
    shared c = std::make_shared<communicator>();
    if (emulator_fails("ncclCommInitRank") || cudaGetDevice(&c->device) != cudaSuccess ||
        cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, c->device) != cudaSuccess)
        return refuse(ncclUnhandledCudaError, "the current device can't be had");
    c->rank = rank;
    c->size = ranks;
    c->blocking = !config || config->blocking != 0;
    int stalling_rank;
    unsigned long stalled;
    const char *stall = getenv("COP_EMULATOR_NCCL_STALL");
    if (stall && sscanf(stall, "%d:%lu", &stalling_rank, &stalled) == 2 && stalling_rank == rank)
        c->stalled = stalled;
    c->join = join_begin(id->internal + sizeof id_magic, rank, ranks, bus_id);
    *made = std::move(c);
    return ncclSuccess;
}

/* Under the lock. The communicator's state, taken a step further. */
static ncclResult_t join_further(communicator *c)
{
    if (!c->join)
        return c->state;
    c->state = join_step(c->join.get(), &c->links, &c->text);
    if (c->state == ncclInProgress)
        return ncclInProgress;
    c->join.reset();
    if (c->state != ncclSuccess) {
        c->failure = c->state;
        refuse(c->state, "rank %d: %s", c->rank, c->text.c_str());
    }
    return c->state;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    if (!comm)
        return refuse(ncclInvalidArgument, "ncclCommInitRank: no place for the communicator");
    *comm = NULL;
    shared c;
    ncclResult_t result = make(&c, ranks, &id, rank, config);
    if (result != ncclSuccess)
        return result;
    std::lock_guard<std::mutex> guard(c->lock);
    while ((result = join_further(c.get())) == ncclInProgress && c->blocking)
        usleep(100);
    if (result != ncclSuccess && c->blocking)
        return result;
    std::lock_guard<std::mutex> handles_guard(handles_lock);
    *comm = new ncclComm{c};
    handles.insert(*comm);
    return result;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank)
{
    return ncclCommInitRankConfig(comm, ranks, id, rank, NULL);
}

/* ---- errors ----------------------------------------------------------------------------- */

/* Under the lock: a peer that is lost, or that left while something waits for it. */
static void notice_losses(communicator *c)
{
    for (wire &w : c->links) {
        wire_listen(&w);
        const bool awaited = !w.sends.empty() || !w.receives.empty() || !w.unreceived.empty();
        if (w.state == peer_state::LOST || (w.state == peer_state::LEFT && awaited)) {
            if (c->failure == ncclSuccess)
                c->text = "rank " + std::to_string(w.peer) + " is gone";
            c->failure = c->failure == ncclSuccess ? ncclRemoteError : c->failure;
        }
    }
}

/* What a communicator that was ended says to its peers. Under the lock. */
static void leave(communicator *c)
{
    for (wire &w : c->links)
        wire_goodbye(&w);
    c->finalizing = false;
    c->finalized = true;
    c->state = ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    const shared c = find(comm);
    if (!c || !error)
        return refuse(ncclInvalidArgument, "ncclCommGetAsyncError: not a communicator");
    std::vector<std::function<void()>> unqueued;
    bool finalizing;
    {
        std::lock_guard<std::mutex> guard(c->lock);
        finalizing = c->finalizing;
        if (join_further(c.get()) == ncclInProgress && !c->join && !finalizing)
            c->state = ncclSuccess;
        unqueued.swap(c->unqueued);
    }
    for (const std::function<void()> &enqueue : unqueued)
        enqueue();
    if (finalizing)
        emulator_progress();
    std::lock_guard<std::mutex> guard(c->lock);
    if (!c->finalized)
        notice_losses(c.get());
    if (c->finalizing && c->groups == 0)
        leave(c.get());
    *error = c->failure != ncclSuccess ? c->failure : c->state;
    return ncclSuccess;
}

/* ---- the end ---------------------------------------------------------------------------- */

/* Waits for all that was queued. ncclRemoteError if it can't end any more. */
static ncclResult_t flush(const shared &c)
{
    for (;;) {
        {
            std::lock_guard<std::mutex> guard(c->lock);
            if (c->groups == 0)
                return ncclSuccess;
            notice_losses(c.get());
            if (c->failure != ncclSuccess)
                return c->failure;
        }
        if (!emulator_progress())
            usleep(50);
    }
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    const shared c = find(comm);
    if (!c)
        return refuse(ncclInvalidArgument, "ncclCommFinalize: not a communicator");
    {
        std::lock_guard<std::mutex> guard(c->lock);
        const ncclResult_t result = ready(c.get());
        if (result != ncclSuccess || c->finalized)
            return result;
        c->finalizing = true;
        if (!c->blocking)
            return c->state = ncclInProgress;
    }
    const ncclResult_t result = flush(c);
    std::lock_guard<std::mutex> guard(c->lock);
    if (result == ncclSuccess)
        leave(c.get());
    return result;
}

/* Under the lock. What was queued is done at its next turn. */
static void drop(communicator *c)
{
    c->aborted = true;
    c->join.reset();
    c->unqueued.clear();
    for (wire &w : c->links)
        wire_close(&w);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    const shared c = find(comm);
    if (!c)
        return comm ? refuse(ncclInvalidArgument, "ncclCommDestroy: not a communicator")
                    : ncclSuccess;
    if (flush(c) != ncclSuccess)
        emulator_abort("ncclCommDestroy would wait for ever: rank %d has operations with a peer "
                       "that is gone, which ncclCommAbort alone can end",
                       c->rank);
    {
        std::lock_guard<std::mutex> guard(c->lock);
        if (!c->finalized)
            leave(c.get());
        c->destroyed = true;
        drop(c.get());
    }
    forget(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    const shared c = find(comm);
    if (!c)
        return comm ? refuse(ncclInvalidArgument, "ncclCommAbort: not a communicator")
                    : ncclSuccess;
    {
        std::lock_guard<std::mutex> guard(c->lock);
        drop(c.get());
    }
    forget(comm);
    return ncclSuccess;
}

/* ---- what a communicator is ------------------------------------------------------------- */

static ncclResult_t tell(ncclComm_t comm, int communicator::*member, int *value)
{
    const shared c = find(comm);
    if (!c || !value)
        return refuse(ncclInvalidArgument, "not a communicator");
    std::lock_guard<std::mutex> guard(c->lock);
    const ncclResult_t result = ready(c.get());
    if (result == ncclSuccess)
        *value = c.get()->*member;
    return result;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    return tell(comm, &communicator::size, count);
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device)
{
    return tell(comm, &communicator::device, device);
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
    return tell(comm, &communicator::rank, rank);
}

/* ---- memory ----------------------------------------------------------------------------- */

ncclResult_t ncclMemAlloc(void **data, size_t bytes)
{
    return cudaMalloc(data, bytes) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemFree(void *data)
{
    return cudaFree(data) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommRegister(const ncclComm_t comm, void *data, size_t bytes, void **handle)
{
    if (!find(comm) || !data || !handle)
        return refuse(ncclInvalidArgument, "ncclCommRegister: not a communicator or no buffer");
    emulator_need_device_memory(data, bytes, "ncclCommRegister");
    *handle = data;
    return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *handle)
{
    (void)handle;
    return find(comm) ? ncclSuccess
                      : refuse(ncclInvalidArgument, "ncclCommDeregister: not a communicator");
}
