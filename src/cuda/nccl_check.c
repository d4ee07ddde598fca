#include "cuda/nccl_check.h"

#include <string.h>

cop_status cop_nccl_fail(cop_error *err, ncclResult_t error, ncclComm_t comm, const char *call,
                         const char *file, int line)
{
    const char *slash = strrchr(file, '/'), *last = ncclGetLastError(comm);
    return cop_fail(err, COP_ERR_TRANSPORT, "%.*s: %s%s%s, %s:%d", (int)strcspn(call, "("), call,
                    ncclGetErrorString(error), last && last[0] ? ": " : "", last ? last : "",
                    slash ? slash + 1 : file, line);
}
