#include "transport/transport.h"

#include "base/text.h"

#include <string.h>

cop_status cop_kv_find(const char *name, const cop_kv_ops **out, cop_error *err)
{
    static const char *const names[] = {"mpi", "nccl"};
    if (strcmp(name, "mpi") == 0) {
        *out = &cop_kv_mpi;
        return COP_OK;
    }
    if (strcmp(name, "nccl") == 0)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "transport.kv nccl: this build has no CUDA plugin coppice-cuda.so");
    const char *near = cop_nearest(name, names, 2);
    if (near)
        return cop_fail(err, COP_ERR_INVALID, "unknown KV transport '%s'; did you mean '%s'?", name,
                        near);
    return cop_fail(err, COP_ERR_INVALID, "unknown KV transport '%s'; there are: mpi, nccl", name);
}
