/* Errors of the CUDA runtime and of cuBLASLt as ours: the library's words, and where. In the text
 * of the program the rank comes before it. */
#ifndef COP_CUDA_CHECK_H
#define COP_CUDA_CHECK_H

#include "base/status.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

/* COP_ERR_DEVICE; COP_ERR_NO_MEMORY if that is what it says. */
cop_status cop_cuda_fail(cop_error *err, cudaError_t error, const char *call, const char *file,
                         int line);
cop_status cop_cublas_fail(cop_error *err, cublasStatus_t error, const char *call, const char *file,
                           int line);

/* Returns from the caller if the call fails. */
#define COP_CUDA_TRY(err, call)                                               \
    do {                                                                      \
        cudaError_t cop_error_ = (call);                                      \
        if (cop_error_ != cudaSuccess)                                        \
            return cop_cuda_fail(err, cop_error_, #call, __FILE__, __LINE__); \
    } while (0)

#define COP_CUBLAS_TRY(err, call)                                               \
    do {                                                                        \
        cublasStatus_t cop_error_ = (call);                                     \
        if (cop_error_ != CUBLAS_STATUS_SUCCESS)                                \
            return cop_cublas_fail(err, cop_error_, #call, __FILE__, __LINE__); \
    } while (0)

#endif
