#include "transport/transport.h"

#include "base/plugin.h"
#include "base/text.h"

#include <string.h>

static cop_status find_in_plugin(const cop_kv_ops **out, cop_error *err)
{
    const void *ops;
    cop_error why;
    if (cop_plugin_find("coppice-cuda.so", "COPPICE_CUDA_PLUGIN", "cop_cuda_kv", COP_KV_ABI, &ops,
                        &why) != COP_OK)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "transport.kv nccl: %s", why.text);
    *out = ops;
    return COP_OK;
}

cop_status cop_kv_find(const char *name, const cop_kv_ops **out, cop_error *err)
{
    static const char *const names[] = {"mpi", "nccl"};
    if (strcmp(name, "mpi") == 0) {
        *out = &cop_kv_mpi;
        return COP_OK;
    }
    if (strcmp(name, "nccl") == 0)
        return find_in_plugin(out, err);
    return cop_unknown_name(err, "transport.kv: unknown transport", name, names, 2);
}
