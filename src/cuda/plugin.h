/* The plugin coppice-cuda.so: what its two halves, the device and the NCCL transport, know of each
 * other. It is made of this folder, the kernels, and the base and model modules; the program finds
 * the two symbols below with dlopen, so that it starts where no CUDA library exists. */
#ifndef COP_CUDA_PLUGIN_H
#define COP_CUDA_PLUGIN_H

#include "device/device.h"
#include "transport/transport.h"

#include <cuda_runtime_api.h>

extern const cop_device_ops cop_cuda_device;
extern const cop_kv_ops cop_cuda_kv;

int cop_cuda_device_index(const cop_device *device);

/* Whatever is queued on `stream` from now on comes after every copy and move of blocks that the
 * device was asked for so far: a transport calls it before it writes into the pool, since the old
 * content of those blocks may still be on its way elsewhere. Reads need no fence: only blocks of
 * batches that poll has reported are sent. */
cop_status cop_cuda_fence(cop_device *device, cudaStream_t stream, cop_error *err);

#endif
