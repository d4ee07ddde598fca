/* Events: a mark in a stream that others wait for. A wait is for the newest record at its time. */
#include "runtime.h"
#include <algorithm>
#include <time.h>

static double now_ms()
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    *event = new CUevent_st{flags, NULL, NULL, {}};
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    *event = new CUevent_st{0, NULL, NULL, {}};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    emulator_call call(__func__);
    if (!event)
        return call.end(cudaErrorInvalidResourceHandle);
    delete event;
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (call.fails)
        return call.end(call.failure);
    if (!event || !stream)
        return call.end(cudaErrorInvalidResourceHandle);
    event->capture = stream->capture;
    event->tail = stream->tail;
    if (stream->capture)
        return cudaSuccess;
    auto record = std::make_shared<emulator_record>();
    event->record = record;
    emulator_add_work(stream, [record] {
        record->done = true;
        record->time_ms = now_ms();
        return EMULATOR_DONE;
    });
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned)
{
    return cudaEventRecord(event, stream);
}

/* The stream takes part in the capture from here on. */
static cudaError_t join_capture(const std::shared_ptr<CUstream_st> &stream, cudaEvent_t event)
{
    const std::shared_ptr<emulator_capture> &capture = event->capture;
    if (stream->capture && stream->capture != capture) {
        stream->capture->broken = cudaErrorStreamCaptureMerge;
        return cudaErrorStreamCaptureMerge;
    }
    if (!stream->capture) {
        stream->capture = capture;
        capture->streams.push_back(stream);
    }
    for (size_t node : event->tail)
        if (std::find(stream->tail.begin(), stream->tail.end(), node) == stream->tail.end())
            stream->tail.push_back(node);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned)
{
    emulator_call call(__func__);
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (call.fails)
        return call.end(call.failure);
    if (!event || !stream)
        return call.end(cudaErrorInvalidResourceHandle);
    if (event->capture)
        return call.end(join_capture(stream, event));
    if (stream->capture && event->record) {
        stream->capture->broken = cudaErrorStreamCaptureIsolation;
        return call.end(cudaErrorStreamCaptureIsolation);
    }
    if (!event->record)
        return cudaSuccess;
    std::shared_ptr<emulator_record> record = event->record;
    emulator_add_work(stream, [record] { return record->done ? EMULATOR_DONE : EMULATOR_WAITS; });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (!event)
        return call.end(cudaErrorInvalidResourceHandle);
    if (event->capture)
        return call.end(cudaErrorCapturedEvent);
    emulator_progress();
    return call.end(event->record && !event->record->done ? cudaErrorNotReady : cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (!event)
        return call.end(cudaErrorInvalidResourceHandle);
    if (event->capture)
        return call.end(cudaErrorCapturedEvent);
    std::shared_ptr<emulator_record> record = event->record;
    if (record)
        emulator_run_until([&] { return record->done; });
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (!start || !end || !start->record || !end->record ||
        (start->flags | end->flags) & cudaEventDisableTiming)
        return call.end(cudaErrorInvalidResourceHandle);
    if (!start->record->done || !end->record->done)
        return call.end(cudaErrorNotReady);
    *ms = (float)(end->record->time_ms - start->record->time_ms);
    return cudaSuccess;
}
