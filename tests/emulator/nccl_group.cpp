/* Groups, sends and receives of the fake NCCL. See nccl.cpp for what it promises. */
#include "emulator.h"
#include "nccl_private.h"

#include <algorithm>

using namespace fake_nccl;

/* ---- groups ----------------------------------------------------------------------------- */

namespace
{

struct request { /* of a send or a receive */
    bool sends;
    int peer;
    char *data; /* borrowed until the operation is done */
    size_t bytes;
};

/* One group as an operation of a stream. A launch of a graph begins with a fresh copy. */
struct operation {
    shared comm;
    std::vector<request> requests;
    uint64_t ticket; /* 0: captured, a graph's launches have no order but their stream's */
    std::shared_ptr<size_t> open; /* sends and receives that aren't done; none: not begun */

    bool operator()();
    void begin();
};

/* What the groups of a thread have gathered for one communicator. */
struct gathered {
    shared comm;
    cudaStream_t stream;
    std::vector<request> requests;
};

struct group {
    int depth = 0;
    ncclResult_t error = ncclSuccess;
    std::vector<gathered> parts;
};

thread_local group current_group;

} // namespace

int fake_nccl::group_depth()
{
    return current_group.depth;
}

void operation::begin()
{
    open = std::make_shared<size_t>(requests.size());
    if (!ticket)
        comm->groups++;
    for (const request &r : requests) {
        wire *w = &comm->links[(size_t)r.peer];
        const bool stalls = r.sends && ++comm->sends == comm->stalled;
        (r.sends ? w->sends : w->receives).push_back({r.data, r.bytes, 0, stalls, open});
    }
}

bool operation::operator()()
{
    std::lock_guard<std::mutex> guard(comm->lock);
    if (comm->destroyed)
        emulator_abort("NCCL: a graph has operations of a communicator that was destroyed");
    if (comm->aborted)
        return true;
    if (!open && ticket && comm->turn + 1 != ticket)
        return false;
    if (!open)
        begin();
    for (wire &w : comm->links)
        wire_progress(&w);
    if (*open != 0)
        return false;
    comm->groups--;
    if (ticket)
        comm->turn = ticket;
    return true;
}

/* Whether the buffers of a group can be read and written side by side. */
static bool overlap(const std::vector<request> &requests)
{
    std::vector<request> sorted = requests;
    std::sort(sorted.begin(), sorted.end(),
              [](const request &x, const request &y) { return x.data < y.data; });
    const char *read_to = nullptr, *written_to = nullptr;
    for (const request &r : sorted) {
        if (r.bytes && (r.data < written_to || (!r.sends && r.data < read_to)))
            return true;
        const char *&end = r.sends ? read_to : written_to;
        end = std::max<const char *>(end, r.data + r.bytes);
    }
    return false;
}

/* Queues what a group has for one communicator. */
static ncclResult_t queue(const gathered *part)
{
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(part->stream, &capture) != cudaSuccess)
        return refuse(ncclUnhandledCudaError, "the stream can't be asked");
    if (overlap(part->requests))
        return refuse(ncclInvalidArgument, "buffers of one group overlap");
    communicator *c = part->comm.get();
    operation o = {part->comm, part->requests, 0, nullptr};
    const cudaStream_t stream = part->stream;
    {
        std::lock_guard<std::mutex> guard(c->lock);
        if (capture == cudaStreamCaptureStatusNone) {
            o.ticket = ++c->tickets;
            c->groups++;
        }
        if (!c->blocking) {
            c->unqueued.push_back([o, stream] { emulator_enqueue(stream, o); });
            c->state = ncclInProgress;
            return ncclInProgress;
        }
    }
    emulator_enqueue(stream, o);
    return ncclSuccess;
}

ncclResult_t ncclGroupStart()
{
    current_group.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd()
{
    group *g = &current_group;
    if (g->depth == 0)
        return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--g->depth > 0)
        return ncclSuccess;
    group ended;
    std::swap(*g, ended);
    if (ended.error == ncclSuccess && emulator_fails("ncclGroupEnd"))
        return ncclSystemError;
    ncclResult_t result = ended.error;
    for (size_t i = 0; i < ended.parts.size(); i++)
        if (result == ncclSuccess || result == ncclInProgress) {
            const ncclResult_t queued = queue(&ended.parts[i]);
            result = queued == ncclSuccess ? result : queued;
        }
    return result;
}

/* ---- sends and receives ----------------------------------------------------------------- */

static size_t size_of(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        return 0;
    }
}

static ncclResult_t gather(const shared &c, const request *r, cudaStream_t stream)
{
    for (gathered &part : current_group.parts)
        if (part.comm == c) {
            if (part.stream != stream)
                return refuse(ncclInvalidUsage, "the emulator has one stream in a group");
            part.requests.push_back(*r);
            return ncclSuccess;
        }
    current_group.parts.push_back({c, stream, {*r}});
    return ncclSuccess;
}

static ncclResult_t transfer(const char *call, bool sends, void *data, size_t count,
                             ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    const shared c = find(comm);
    const size_t bytes = count * size_of(type);
    if (!c || peer < 0 || peer >= c->size || size_of(type) == 0 || (!data && bytes))
        return refuse(ncclInvalidArgument, "%s: %s", call,
                      !c                            ? "not a communicator"
                      : size_of(type) == 0          ? "no such type"
                      : peer < 0 || peer >= c->size ? "no such peer"
                                                    : "no buffer");
    if (emulator_fails(call))
        return refuse(ncclSystemError, "%s: wanted by COP_EMULATOR_FAIL", call);
    {
        std::lock_guard<std::mutex> guard(c->lock);
        const ncclResult_t result = ready(c.get());
        if (result != ncclSuccess)
            return result;
        if (c->finalizing || c->finalized)
            return refuse(ncclInvalidArgument, "%s: the communicator is finalized", call);
    }
    if (bytes)
        emulator_need_device_memory(data, bytes, call);
    const request r = {sends, peer, static_cast<char *>(data), bytes};
    return gather(c, &r, stream);
}

/* Alone it is a group of its own; in a group its error is the group's. */
static ncclResult_t transfer_in_group(const char *call, bool sends, void *data, size_t count,
                                      ncclDataType_t type, int peer, ncclComm_t comm,
                                      cudaStream_t stream)
{
    const bool alone = current_group.depth == 0;
    if (alone)
        ncclGroupStart();
    const ncclResult_t result = transfer(call, sends, data, count, type, peer, comm, stream);
    if (result != ncclSuccess)
        current_group.error = result;
    return alone ? ncclGroupEnd() : result;
}

ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    return transfer_in_group("ncclSend", true, const_cast<void *>(data), count, type, peer, comm,
                             stream);
}

ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    return transfer_in_group("ncclRecv", false, data, count, type, peer, comm, stream);
}
