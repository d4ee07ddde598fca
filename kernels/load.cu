/* Loading of all kernels; a launch of one that is not named below aborts in the emulator. */
#include "load.h"

#include "kernels.h"

cudaError_t cop_cuda_load_kernels(void)
{
    static cudaError_t (*const files[])() = {cop_load_norms,
                                             cop_load_place_qkv,
                                             cop_load_elementwise,
                                             cop_load_prefill_attention,
                                             cop_load_decode_attention,
                                             cop_load_sample,
                                             cop_load_probe};
    cudaError_t status = cudaSuccess;
    for (auto load : files)
        status = status == cudaSuccess ? load() : status;
    return status;
}
