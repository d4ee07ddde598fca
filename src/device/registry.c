#include "base/text.h"
#include "device/device.h"

#include <string.h>

cop_status cop_device_find(const char *kind, const cop_device_ops **out, cop_error *err)
{
    static const char *const kinds[] = {"cpu", "cuda"};
    if (strcmp(kind, "cpu") == 0) {
        *out = &cop_device_cpu;
        return COP_OK;
    }
    if (strcmp(kind, "cuda") == 0)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "device 'cuda': this build has no CUDA plugin (coppice-cuda.so); "
                        "device 'cpu' is always there");
    return cop_unknown_name(err, "device.kind: unknown device", kind, kinds, 2);
}
