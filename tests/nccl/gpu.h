/* A device of which the transport needs little: an index, an identity, and blocks in its memory.
 * The n-th rank of a host has GPU n, and the first again where there are no more. */
#ifndef COP_TESTS_NCCL_GPU_H
#define COP_TESTS_NCCL_GPU_H

#include "cuda/plugin.h"
#include "transport/transport.h"

#include <stdbool.h>
#include <stddef.h>

/* Exits with 77, and says why, where there is no GPU. */
cop_device *gpu_open(const cop_bus *bus);
void gpu_close(cop_device *device);
bool gpu_shared(const cop_bus *bus); /* more ranks than GPUs */

void *memory_open(size_t bytes);
void memory_close(void *memory);
void memory_write(void *memory, const void *from, size_t bytes);
void memory_read(void *to, const void *memory, size_t bytes);

/* What the transport's options need besides: set before open_kv. */
extern cop_device *gpu_of_rank; /* NULL: this rank has none */
extern int gpu_first_rank;
extern double gpu_timeout_s;
void complete_options(cop_kv_options *options);

#define KV_OPS (&cop_cuda_kv)

#endif
