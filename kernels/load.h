/* The kernels of each file, to be loaded before they are launched. */
#ifndef COP_KERNELS_LOAD_H
#define COP_KERNELS_LOAD_H

#include <cuda_runtime_api.h>

/* Loads the code of kernels that would otherwise be loaded at their first launch: see
 * cop_cuda_load_kernels. */
template <typename... Kernels> static inline cudaError_t cop_load(Kernels... kernels)
{
    cudaFuncAttributes attributes;
    cudaError_t status = cudaSuccess;
    ((status = status == cudaSuccess ? cudaFuncGetAttributes(&attributes, (const void *)kernels)
                                     : status),
     ...);
    return status;
}

cudaError_t cop_load_norms();
cudaError_t cop_load_place_qkv();
cudaError_t cop_load_elementwise();
cudaError_t cop_load_prefill_attention();
cudaError_t cop_load_decode_attention();
cudaError_t cop_load_sample();
cudaError_t cop_load_probe();

#endif
