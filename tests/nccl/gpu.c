#include "gpu.h"

#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>

struct cop_device {
    int index;
    char identity[64];
};

cop_device *gpu_of_rank;
int gpu_first_rank;
double gpu_timeout_s = 60;

static void must(cudaError_t error, const char *call)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(error));
    exit(1);
}

static int gpu_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

bool gpu_shared(const cop_bus *bus)
{
    return cop_bus_local_size(bus) > gpu_count();
}

cop_device *gpu_open(const cop_bus *bus)
{
    if (gpu_count() == 0) {
        printf("skipped: no CUDA device\n");
        exit(77);
    }
    cop_device *d = cop_calloc(1, sizeof *d);
    d->index = cop_bus_local_rank(bus) % gpu_count();
    must(cudaDeviceGetPCIBusId(d->identity, sizeof d->identity, d->index), "cudaDeviceGetPCIBusId");
    must(cudaSetDevice(d->index), "cudaSetDevice");
    return d;
}

void gpu_close(cop_device *d)
{
    free(d);
}

static const char *identity(const cop_device *d)
{
    return d->identity;
}

const cop_device_ops cop_cuda_device = {.abi = COP_DEVICE_ABI, .name = "gpu", .identity = identity};

int cop_cuda_device_index(const cop_device *d)
{
    return d->index;
}

/* Nothing else moves the blocks of the test. */
cop_status cop_cuda_fence(cop_device *d, cudaStream_t stream, cop_error *err)
{
    return COP_OK;
}

void *memory_open(size_t bytes)
{
    void *memory;
    must(cudaMalloc(&memory, bytes), "cudaMalloc");
    return memory;
}

void memory_close(void *memory)
{
    must(cudaFree(memory), "cudaFree");
}

void memory_write(void *memory, const void *from, size_t bytes)
{
    must(cudaMemcpy(memory, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
}

void memory_read(void *to, const void *memory, size_t bytes)
{
    must(cudaMemcpy(to, memory, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

void complete_options(cop_kv_options *options)
{
    options->device = gpu_of_rank;
    options->first_rank = gpu_first_rank;
    options->timeout_s = gpu_timeout_s;
    options->share_device = true;
}
