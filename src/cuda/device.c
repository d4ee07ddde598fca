/* The CUDA device: opens, checks batches, and leaves the rest to the files beside it. */
#include "cuda/cuda_device.h"

int cop_cuda_device_index(const cop_device *d)
{
    return (int)d->options.index;
}

cop_status cop_cuda_enter(cop_device *d, cop_error *err)
{
    if (d->failure.status != COP_OK) {
        if (err)
            *err = d->failure;
        return d->failure.status;
    }
    COP_CUDA_TRY(err, cudaSetDevice((int)d->options.index));
    return COP_OK;
}

void cop_cuda_remember(cop_device *d, const cop_error *err)
{
    if (d->failure.status == COP_OK)
        d->failure = *err;
}

const cop_device_ops cop_cuda_device = {
    .abi = COP_DEVICE_ABI,
    .name = "cuda",
    .copy_block = cop_cuda_copy,
    .block_address = NULL,
    .host_memory = false,
    .read_block = cop_cuda_read,
    .write_block = cop_cuda_write,
    .host_slot = cop_cuda_host_slot,
    .move_out = cop_cuda_move_out,
    .move_in = cop_cuda_move_in,
    .moved = cop_cuda_moved,
};
