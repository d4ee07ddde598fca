/* The calls of the CUDA runtime that concern devices, memory and copies. Streams, graphs and events
 * have files of their own. Meanings and errors: CUDA Runtime API reference. */
#include "runtime.h"
#include <map>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SHARED = 227 * 1024, MULTIPROCESSOR_SHARED = 228 * 1024 };

static std::map<const void *, size_t> pinned; /* bytes, by address */
static std::set<const void *> loaded;         /* kernels */

/* Asked for each time: a test opens devices of several sizes. */
static int multiprocessors()
{
    return (int)emulator_environment("COP_EMULATOR_MULTIPROCESSORS", 4);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    emulator_call call(__func__, cudaErrorNoDevice);
    *count = call.fails ? 0 : emulator_device_count();
    return call.end(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (device < 0 || device >= emulator_device_count())
        return call.end(cudaErrorInvalidDevice);
    emulator_device() = device;
    return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    return call.end(device < 0 || device >= emulator_device_count() ? cudaErrorInvalidDevice
                                                                    : cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    emulator_call call(__func__);
    *device = emulator_device();
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaSetDeviceFlags(unsigned)
{
    emulator_call call(__func__);
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaDeviceReset()
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    emulator_drain(emulator_device());
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (device < 0 || device >= emulator_device_count())
        return call.end(cudaErrorInvalidDevice);
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "emulated GPU");
    memcpy(properties->uuid.bytes, "coppice emulator", 16);
    properties->uuid.bytes[15] = (char)device;
    properties->totalGlobalMem = emulator_memory_total();
    properties->sharedMemPerBlock = 48 * 1024;
    properties->sharedMemPerBlockOptin = MOST_SHARED;
    properties->sharedMemPerMultiprocessor = MULTIPROCESSOR_SHARED;
    properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->maxBlocksPerMultiProcessor = 32;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = INT32_MAX;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->major = 9;
    properties->multiProcessorCount = multiprocessors();
    properties->l2CacheSize = 1 << 20;
    properties->asyncEngineCount = 2;
    properties->concurrentKernels = 1;
    properties->unifiedAddressing = 1;
    properties->canMapHostMemory = 1;
    properties->hostRegisterSupported = 1;
    properties->streamPrioritiesSupported = 1;
    properties->memoryPoolsSupported = 1;
    properties->pciBusID = device + 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (device < 0 || device >= emulator_device_count())
        return call.end(cudaErrorInvalidDevice);
    static const std::map<int, int> values = {
        {cudaDevAttrMaxThreadsPerBlock, 1024},
        {cudaDevAttrMaxBlockDimX, 1024},
        {cudaDevAttrMaxBlockDimY, 1024},
        {cudaDevAttrMaxBlockDimZ, 64},
        {cudaDevAttrMaxGridDimX, INT32_MAX},
        {cudaDevAttrMaxGridDimY, 65535},
        {cudaDevAttrMaxGridDimZ, 65535},
        {cudaDevAttrMaxSharedMemoryPerBlock, 48 * 1024},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, MOST_SHARED},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, MULTIPROCESSOR_SHARED},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
        {cudaDevAttrMaxRegistersPerBlock, 65536},
        {cudaDevAttrClockRate, 1000000},
        {cudaDevAttrMemoryClockRate, 1000000},
        {cudaDevAttrGlobalMemoryBusWidth, 256},
        {cudaDevAttrL2CacheSize, 1 << 20},
        {cudaDevAttrAsyncEngineCount, 2},
        {cudaDevAttrConcurrentKernels, 1},
        {cudaDevAttrUnifiedAddressing, 1},
        {cudaDevAttrCanMapHostMemory, 1},
        {cudaDevAttrHostRegisterSupported, 1},
        {cudaDevAttrStreamPrioritiesSupported, 1},
        {cudaDevAttrMemoryPoolsSupported, 1},
        {cudaDevAttrComputeCapabilityMajor, 9},
        {cudaDevAttrComputeCapabilityMinor, 0},
    };
    auto found = values.find(attribute);
    *value = attribute == cudaDevAttrPciBusId              ? device + 1
             : attribute == cudaDevAttrMultiProcessorCount ? multiprocessors()
             : found == values.end()                       ? 0
                                                           : found->second;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (device < 0 || device >= emulator_device_count())
        return call.end(cudaErrorInvalidDevice);
    int needed = snprintf(id, (size_t)length, "0000:%02X:00.0", device + 1);
    return call.end(needed < length ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int, int)
{
    emulator_call call(__func__);
    *can = 0;
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    emulator_call call(__func__);
    *version = CUDART_VERSION;
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    emulator_call call(__func__);
    *version = CUDART_VERSION;
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    emulator_call call(__func__);
    *total = emulator_memory_total();
    *free_bytes = *total - emulator_memory_used(emulator_device());
    return call.end(call.fails ? call.failure : cudaSuccess);
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    emulator_call call(__func__, cudaErrorMemoryAllocation);
    if (call.fails)
        return call.end(call.failure);
    if (emulator_forbidden_by_capture())
        return call.end(cudaErrorStreamCaptureUnsupported);
    return call.end(emulator_allocate(p, bytes));
}

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t)
{
    emulator_call call(__func__, cudaErrorMemoryAllocation);
    return call.end(call.fails ? call.failure : emulator_allocate(p, bytes));
}

/* Waits for the device first, as the real one does. */
cudaError_t cudaFree(void *p)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (emulator_forbidden_by_capture())
        return call.end(cudaErrorStreamCaptureUnsupported);
    const emulator_allocation *a = emulator_find(p);
    if (a)
        emulator_drain(a->device);
    emulator_release(p, "cudaFree");
    return cudaSuccess;
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    emulator_enqueue(stream, [p] {
        emulator_release(p, "cudaFreeAsync");
        return true;
    });
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    emulator_call call(__func__, cudaErrorMemoryAllocation);
    if (call.fails)
        return call.end(call.failure);
    if (posix_memalign(p, 4096, bytes ? bytes : 1))
        return call.end(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    pinned[*p] = bytes;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *p)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (!p)
        return cudaSuccess;
    emulator_drain(emulator_device());
    if (pinned.erase(p) == 0)
        return call.end(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    emulator_call call(__func__, cudaErrorMemoryAllocation);
    if (call.fails)
        return call.end(call.failure);
    bool fresh = pinned.insert({p, bytes}).second;
    return call.end(fresh ? cudaSuccess : cudaErrorHostMemoryAlreadyRegistered);
}

cudaError_t cudaHostUnregister(void *p)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    return call.end(pinned.erase(p) ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    memset(attributes, 0, sizeof *attributes);
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = emulator_device();
    attributes->hostPointer = (void *)p;
    const emulator_allocation *a = emulator_find(p);
    auto next = pinned.upper_bound(p);
    if (a) {
        attributes->type = cudaMemoryTypeDevice;
        attributes->device = a->device;
        attributes->devicePointer = (void *)p;
        attributes->hostPointer = NULL;
    } else if (next != pinned.begin() &&
               (uintptr_t)p - (uintptr_t)std::prev(next)->first < std::prev(next)->second) {
        attributes->type = cudaMemoryTypeHost;
        attributes->devicePointer = (void *)p;
    }
    return cudaSuccess;
}

/* A copy of rows; reads and writes when it runs, not when it is queued. */
static cudaError_t copy(const char *name, void *to, size_t to_pitch, const void *from,
                        size_t from_pitch, size_t width, size_t height, cudaMemcpyKind kind,
                        cudaStream_t handle)
{
    if (width == 0 || height == 0)
        return cudaSuccess;
    if (width > to_pitch || width > from_pitch)
        return cudaErrorInvalidPitchValue;
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (!stream)
        return cudaErrorInvalidResourceHandle;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault) {
        to_device = emulator_find(to) != NULL;
        from_device = emulator_find(from) != NULL;
    }
    auto check = [=] {
        emulator_check_copy(to, to_pitch * (height - 1) + width, to_device, name);
        emulator_check_copy(from, from_pitch * (height - 1) + width, from_device, name);
    };
    check();
    emulator_add_work(stream, [=] {
        check();
        for (size_t y = 0; y < height; y++)
            memmove((char *)to + y * to_pitch, (const char *)from + y * from_pitch, width);
        return EMULATOR_DONE;
    });
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    return call.end(copy(__func__, to, bytes, from, bytes, bytes, 1, kind, stream));
}

cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t bytes,
                                cudaStream_t stream)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    return call.end(
        copy(__func__, to, bytes, from, bytes, bytes, 1, cudaMemcpyDeviceToDevice, stream));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    return call.end(copy(__func__, to, to_pitch, from, from_pitch, width, height, kind, stream));
}

static cudaError_t wait_for_default()
{
    std::shared_ptr<CUstream_st> stream = emulator_stream(NULL);
    uint64_t target = stream->queued;
    emulator_run_until([&] { return stream->completed >= target; });
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (emulator_forbidden_by_capture())
        return call.end(cudaErrorStreamCaptureUnsupported);
    cudaError_t status = copy(__func__, to, bytes, from, bytes, bytes, 1, kind, NULL);
    return call.end(status == cudaSuccess ? wait_for_default() : status);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (emulator_forbidden_by_capture())
        return call.end(cudaErrorStreamCaptureUnsupported);
    cudaError_t status = copy(__func__, to, to_pitch, from, from_pitch, width, height, kind, NULL);
    return call.end(status == cudaSuccess ? wait_for_default() : status);
}

static cudaError_t fill(const char *name, void *p, size_t pitch, int value, size_t width,
                        size_t height, cudaStream_t handle)
{
    if (width == 0 || height == 0)
        return cudaSuccess;
    std::shared_ptr<CUstream_st> stream = emulator_stream(handle);
    if (!stream)
        return cudaErrorInvalidResourceHandle;
    size_t bytes = pitch * (height - 1) + width;
    emulator_check_copy(p, bytes, true, name);
    emulator_add_work(stream, [=] {
        emulator_check_copy(p, bytes, true, name);
        for (size_t y = 0; y < height; y++)
            memset((char *)p + y * pitch, value, width);
        return EMULATOR_DONE;
    });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    emulator_call call(__func__);
    return call.end(call.fails ? call.failure : fill(__func__, p, bytes, value, bytes, 1, stream));
}

cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream)
{
    emulator_call call(__func__);
    return call.end(call.fails ? call.failure
                               : fill(__func__, p, pitch, value, width, height, stream));
}

/* Asynchronous for device memory, as the real one. */
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (emulator_forbidden_by_capture())
        return call.end(cudaErrorStreamCaptureUnsupported);
    return call.end(fill(__func__, p, bytes, value, bytes, 1, NULL));
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (!function)
        return call.end(cudaErrorInvalidDeviceFunction);
    bool too_large =
        attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value > MOST_SHARED;
    return call.end(too_large ? cudaErrorInvalidValue : cudaSuccess);
}

/* A real runtime loads the function's code for this. */
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *function)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (!function)
        return call.end(cudaErrorInvalidDeviceFunction);
    *attributes = {};
    loaded.insert(function);
    return cudaSuccess;
}

bool emulator_must_be_loaded(const void *kernel)
{
    return emulator_environment("COP_EMULATOR_STRICT_LOADING", 0) && !loaded.count(kernel);
}

/* By shared memory and threads alone: registers are not known here. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int block_size,
                                                          size_t shared)
{
    emulator_call call(__func__);
    if (call.fails)
        return call.end(call.failure);
    if (block_size <= 0)
        return call.end(cudaErrorInvalidValue);
    int by_threads = 2048 / ((block_size + 31) / 32 * 32);
    int by_shared = (int)(MULTIPROCESSOR_SHARED / (shared + 1024));
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    if (*blocks > 32)
        *blocks = 32;
    return cudaSuccess;
}
