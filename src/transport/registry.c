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
    return cop_unknown_name(err, "transport.kv: unknown transport", name, names, 2);
}
