/* Errors of NCCL as ours. Apart from check.h, as the plugin is also built where NCCL is missing. */
#ifndef COP_CUDA_NCCL_CHECK_H
#define COP_CUDA_NCCL_CHECK_H

#include "base/status.h"

#include <nccl.h>

/* comm: for the words of ncclGetLastError; may be NULL. */
cop_status cop_nccl_fail(cop_error *err, ncclResult_t error, ncclComm_t comm, const char *call,
                         const char *file, int line);

/* Returns from the caller with COP_ERR_TRANSPORT if the call fails. */
#define COP_NCCL_TRY(err, comm, call)                                               \
    do {                                                                            \
        ncclResult_t cop_error_ = (call);                                           \
        if (cop_error_ != ncclSuccess)                                              \
            return cop_nccl_fail(err, cop_error_, comm, #call, __FILE__, __LINE__); \
    } while (0)

#endif
