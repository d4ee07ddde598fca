/* Queues of deferred work, and who goes next. */
#include "executor.h"
#include "runtime.h"
#include <algorithm>
#include <map>
#include <sched.h>
#include <unistd.h>

namespace
{

std::vector<std::shared_ptr<CUstream_st>> streams; /* those destroyed stay until they are empty */
std::map<int, std::shared_ptr<CUstream_st>> default_streams;
std::vector<std::shared_ptr<emulator_capture>> captures; /* under way */

std::shared_ptr<CUstream_st> default_stream(int device)
{
    std::shared_ptr<CUstream_st> &stream = default_streams[device];
    if (!stream) {
        stream = std::make_shared<CUstream_st>();
        stream->device = device;
        streams.push_back(stream);
    }
    return stream;
}

bool is_default(const CUstream_st &stream)
{
    auto found = default_streams.find(stream.device);
    return found != default_streams.end() && found->second.get() == &stream;
}

bool is_ready(const CUstream_st &stream)
{
    if (stream.work.empty() || stream.busy)
        return false;
    for (const emulator_dependency &d : stream.work.front().after)
        if (d.stream->completed < d.completed)
            return false;
    return true;
}

/* The legacy default stream: it waits for what the blocking streams of its device have queued, and
 * they for what it has. */
std::vector<emulator_dependency> legacy_dependencies(const CUstream_st &stream)
{
    std::vector<emulator_dependency> after;
    if (stream.flags & cudaStreamNonBlocking)
        return after;
    bool from_default = is_default(stream);
    for (const auto &other : streams)
        if (other.get() != &stream && other->device == stream.device &&
            !(other->flags & cudaStreamNonBlocking) && (from_default || is_default(*other)) &&
            other->completed < other->queued)
            after.push_back({other, other->queued});
    return after;
}

/* One step of the operation at the head. */
emulator_outcome run_head(const std::shared_ptr<CUstream_st> &stream)
{
    emulator_work &work = stream->work.front();
    int device = emulator_device();
    emulator_device() = stream->device;
    stream->busy = true; /* a step may let go of the lock */
    emulator_outcome outcome = work.step();
    stream->busy = false;
    emulator_device() = device;
    if (outcome == EMULATOR_DONE) {
        stream->work.pop_front();
        stream->completed++;
    }
    return outcome;
}

void forget_destroyed()
{
    streams.erase(std::remove_if(streams.begin(), streams.end(),
                                 [](const auto &s) { return s->destroyed && s->work.empty(); }),
                  streams.end());
}

void add_node(const std::shared_ptr<CUstream_st> &stream, emulator_step step)
{
    std::vector<emulator_node> &nodes = stream->capture->graph->nodes;
    nodes.push_back({std::move(step), stream->tail});
    stream->tail = {nodes.size() - 1};
}

/* A launched graph: its nodes run in any order that their edges allow. */
struct graph_run {
    std::vector<emulator_node> nodes;
    std::vector<bool> done;

    bool ready(size_t i) const
    {
        return !done[i] && std::all_of(nodes[i].after.begin(), nodes[i].after.end(),
                                       [&](size_t other) { return done[other]; });
    }

    emulator_outcome step()
    {
        std::vector<size_t> choice;
        for (size_t i = 0; i < nodes.size(); i++)
            if (ready(i))
                choice.push_back(i);
        if (choice.empty())
            return EMULATOR_DONE; /* nodes follow only earlier ones: all are done */
        size_t first = emulator_random() % choice.size();
        bool progressed = false;
        for (size_t n = 0; n < choice.size() && !progressed; n++) {
            size_t i = choice[(first + n) % choice.size()];
            emulator_outcome outcome = nodes[i].step ? nodes[i].step() : EMULATOR_DONE;
            done[i] = outcome == EMULATOR_DONE;
            progressed = outcome != EMULATOR_WAITS;
        }
        if (!progressed)
            return EMULATOR_WAITS;
        bool all = std::all_of(done.begin(), done.end(), [](bool d) { return d; });
        return all ? EMULATOR_DONE : EMULATOR_PROGRESSED;
    }
};

/* Nodes that `tail` comes after, itself included. */
std::vector<bool> ancestors(const CUgraph_st &graph, const std::vector<size_t> &tail)
{
    std::vector<bool> found(graph.nodes.size());
    for (size_t i : tail)
        found[i] = true;
    for (size_t i = graph.nodes.size(); i-- > 0;)
        if (found[i])
            for (size_t other : graph.nodes[i].after)
                found[other] = true;
    return found;
}

void end_capture(const std::shared_ptr<emulator_capture> &capture)
{
    for (const auto &stream : capture->streams) {
        stream->capture.reset();
        stream->tail.clear();
    }
    captures.erase(std::find(captures.begin(), captures.end(), capture));
}

} // namespace

std::shared_ptr<CUstream_st> emulator_stream(cudaStream_t handle)
{
    if (!handle || handle == cudaStreamLegacy || handle == cudaStreamPerThread)
        return default_stream(emulator_device());
    for (const auto &stream : streams)
        if (stream.get() == handle && !stream->destroyed)
            return stream;
    return NULL;
}

const std::vector<std::shared_ptr<CUstream_st>> &emulator_streams()
{
    return streams;
}

void emulator_add_work(const std::shared_ptr<CUstream_st> &stream, emulator_step step)
{
    if (stream->capture) {
        add_node(stream, std::move(step));
        return;
    }
    std::vector<emulator_dependency> after = legacy_dependencies(*stream);
    stream->queued++;
    stream->work.push_back({std::move(step), std::move(after)});
}

void emulator_enqueue(cudaStream_t handle, std::function<bool()> step)
{
    std::lock_guard<emulator_mutex> guard(emulator_lock());
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (!stream)
        emulator_abort("an operation is queued on %p, which is no stream", (void *)handle);
    emulator_add_work(stream, [step] { return step() ? EMULATOR_DONE : EMULATOR_WAITS; });
}

bool emulator_progress()
{
    std::lock_guard<emulator_mutex> guard(emulator_lock());
    std::vector<std::shared_ptr<CUstream_st>> choice;
    for (const auto &stream : streams)
        if (is_ready(*stream))
            choice.push_back(stream);
    if (choice.empty())
        return false;
    size_t first = emulator_random() % choice.size();
    bool progressed = false;
    for (size_t i = 0; i < choice.size() && !progressed; i++) {
        const auto &stream = choice[(first + i) % choice.size()];
        progressed = is_ready(*stream) && run_head(stream) != EMULATOR_WAITS;
    }
    forget_destroyed();
    return progressed;
}

/* Work that waits, waits for another process or thread: they get the processor and the lock. */
void emulator_run_until(const std::function<bool()> &done)
{
    for (int idle = 0; !done();) {
        if (emulator_progress()) {
            idle = 0;
            continue;
        }
        int held = emulator_lock().release();
        if (++idle < 64)
            sched_yield();
        else
            usleep(50);
        emulator_lock().retake(held);
    }
}

void emulator_drain(int device)
{
    std::vector<emulator_dependency> all;
    for (const auto &stream : streams)
        if (stream->device == device)
            all.push_back({stream, stream->queued});
    emulator_run_until([&] {
        return std::all_of(all.begin(), all.end(), [](const emulator_dependency &d) {
            return d.stream->completed >= d.completed;
        });
    });
}

bool emulator_forbidden_by_capture()
{
    bool forbidden = false;
    for (const auto &capture : captures)
        if (capture->mode != cudaStreamCaptureModeRelaxed) {
            capture->broken = cudaErrorStreamCaptureInvalidated;
            forbidden = true;
        }
    return forbidden;
}

static cudaError_t create_stream(cudaStream_t *handle, unsigned flags, int priority)
{
    auto stream = std::make_shared<CUstream_st>();
    stream->device = emulator_device();
    stream->flags = flags;
    stream->priority = priority;
    streams.push_back(stream);
    *handle = stream.get();
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    emulator_call call(__func__);
    return call.end(call.fails ? call.failure : create_stream(stream, 0, 0));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    emulator_call call(__func__);
    return call.end(call.fails ? call.failure : create_stream(stream, flags, 0));
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    emulator_call call(__func__);
    return call.end(call.fails ? call.failure : create_stream(stream, flags, priority));
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (!handle || !stream)
        return call.end(cudaErrorInvalidResourceHandle);
    if (stream->capture)
        stream->capture->broken = cudaErrorStreamCaptureInvalidated;
    stream->destroyed = true;
    forget_destroyed();
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (call.fails)
        return call.end(call.failure);
    if (!stream)
        return call.end(cudaErrorInvalidResourceHandle);
    if (stream->capture) {
        stream->capture->broken = cudaErrorStreamCaptureInvalidated;
        return call.end(cudaErrorStreamCaptureUnsupported);
    }
    uint64_t target = stream->queued;
    emulator_run_until([&] { return stream->completed >= target; });
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (call.fails)
        return call.end(call.failure);
    if (!stream)
        return call.end(cudaErrorInvalidResourceHandle);
    if (stream->capture) {
        stream->capture->broken = cudaErrorStreamCaptureInvalidated;
        return call.end(cudaErrorStreamCaptureUnsupported);
    }
    emulator_progress();
    return call.end(stream->completed < stream->queued ? cudaErrorNotReady : cudaSuccess);
}

cudaError_t cudaDeviceSynchronize()
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (emulator_forbidden_by_capture())
        return call.end(cudaErrorStreamCaptureUnsupported);
    emulator_drain(emulator_device());
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void *data)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (call.fails)
        return call.end(call.failure);
    if (!stream)
        return call.end(cudaErrorInvalidResourceHandle);
    emulator_add_work(stream, [=] {
        int held = emulator_lock().release(); /* the program may take locks of its own */
        function(data);
        emulator_lock().retake(held);
        return EMULATOR_DONE;
    });
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (call.fails)
        return call.end(call.failure);
    if (!stream)
        return call.end(cudaErrorInvalidResourceHandle);
    if (stream->capture)
        return call.end(cudaErrorIllegalState);
    if (is_default(*stream))
        return call.end(cudaErrorStreamCaptureUnsupported);
    auto capture = std::make_shared<emulator_capture>();
    *capture = {new CUgraph_st, handle, mode, cudaSuccess, {stream}};
    stream->capture = capture;
    captures.push_back(capture);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (!stream || !stream->capture)
        return call.end(cudaErrorIllegalState);
    std::shared_ptr<emulator_capture> capture = stream->capture;
    if (capture->origin != handle)
        return call.end(cudaErrorStreamCaptureUnmatched);
    *graph = NULL;
    std::vector<bool> joined = ancestors(*capture->graph, stream->tail);
    cudaError_t status = call.fails ? call.failure : capture->broken;
    if (status == cudaSuccess && std::find(joined.begin(), joined.end(), false) != joined.end())
        status = cudaErrorStreamCaptureUnjoined;
    end_capture(capture);
    if (status == cudaSuccess)
        *graph = capture->graph;
    else
        delete capture->graph;
    return call.end(status);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *status)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (!stream)
        return call.end(cudaErrorInvalidResourceHandle);
    *status = !stream->capture          ? cudaStreamCaptureStatusNone
              : stream->capture->broken ? cudaStreamCaptureStatusInvalidated
                                        : cudaStreamCaptureStatusActive;
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *graph, cudaGraph_t from, unsigned long long)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (!from)
        return call.end(cudaErrorInvalidValue);
    *graph = new CUgraphExec_st{from->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    emulator_call call(__func__);
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t handle)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (call.fails)
        return call.end(call.failure);
    if (!stream)
        return call.end(cudaErrorInvalidResourceHandle);
    graph_run run = {graph->nodes, std::vector<bool>(graph->nodes.size())};
    emulator_add_work(stream, [run]() mutable { return run.step(); });
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *, size_t *count)
{
    emulator_call call(__func__);
    *count = graph->nodes.size();
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    emulator_call call(__func__);
    delete graph;
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    emulator_call call(__func__);
    delete graph;
    return call.end(call.fails ? call.failure : cudaSuccess);
}
