#include "cuda/check.h"

#include <string.h>

/* A call as it stands in the source, up to its arguments. */
static int name_length(const char *call)
{
    return (int)strcspn(call, "(");
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

cop_status cop_cuda_fail(cop_error *err, cudaError_t error, const char *call, const char *file,
                         int line)
{
    const cop_status status =
        error == cudaErrorMemoryAllocation ? COP_ERR_NO_MEMORY : COP_ERR_DEVICE;
    return cop_fail(err, status, "%.*s: %s (%s), %s:%d", name_length(call), call,
                    cudaGetErrorString(error), cudaGetErrorName(error), file_name(file), line);
}

cop_status cop_cublas_fail(cop_error *err, cublasStatus_t error, const char *call, const char *file,
                           int line)
{
    return cop_fail(err, COP_ERR_DEVICE, "%.*s: %s (%s), %s:%d", name_length(call), call,
                    cublasLtGetStatusString(error), cublasLtGetStatusName(error), file_name(file),
                    line);
}
