#include "base/plugin.h"
#include "base/text.h"
#include "device/device.h"

#include <string.h>

static cop_status find_in_plugin(const cop_device_ops **out, cop_error *err)
{
    const void *ops;
    cop_error why;
    if (cop_plugin_find("coppice-cuda.so", "COPPICE_CUDA_PLUGIN", "cop_cuda_device", COP_DEVICE_ABI,
                        &ops, &why) != COP_OK)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "device.kind cuda: %s; device 'cpu' is always there", why.text);
    *out = ops;
    return COP_OK;
}

cop_status cop_device_find(const char *kind, const cop_device_ops **out, cop_error *err)
{
    static const char *const kinds[] = {"cpu", "cuda"};
    if (strcmp(kind, "cpu") == 0) {
        *out = &cop_device_cpu;
        return COP_OK;
    }
    if (strcmp(kind, "cuda") == 0)
        return find_in_plugin(out, err);
    return cop_unknown_name(err, "device.kind: unknown device", kind, kinds, 2);
}
