#include "base/text.h"
#include "device/cpu_kernels.h"

#include <string.h>

enum { ISAS = 3 };

typedef struct {
    const char *name;
    const cop_kernels *kernels; /* [2]; NULL: not in this build */
    bool here;                  /* this machine can run them */
} isa;

/* Best first. */
static void list_isas(isa out[ISAS])
{
#ifdef __x86_64__
    out[0] = (isa){"avx512bf16", cop_kernels_avx512,
                   __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")};
    out[1] = (isa){"avx2", cop_kernels_avx2,
                   __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")};
#else
    out[0] = (isa){"avx512bf16", NULL, false};
    out[1] = (isa){"avx2", NULL, false};
#endif
    out[2] = (isa){"baseline", cop_kernels_baseline, true};
}

cop_status cop_kernels_find(const char *name, bool float32, const cop_kernels **out, cop_error *err)
{
    isa isas[ISAS];
    const char *names[ISAS + 1] = {"auto"}, *best = NULL;
    list_isas(isas);
    for (int i = 0; i < ISAS; i++) {
        names[i + 1] = isas[i].name;
        if (isas[i].here && !best)
            best = isas[i].name;
    }
    if (!name || strcmp(name, "auto") == 0)
        name = best;
    for (int i = 0; i < ISAS; i++) {
        if (strcmp(name, isas[i].name) != 0)
            continue;
        if (!isas[i].here)
            return cop_fail(err, COP_ERR_UNSUPPORTED,
                            "this machine cannot run device.isa '%s'; the best it has is '%s'",
                            name, best);
        *out = &isas[i].kernels[float32];
        return COP_OK;
    }
    const char *near = cop_nearest(name, names, ISAS + 1);
    return cop_fail(err, COP_ERR_INVALID, "unknown device.isa '%s'; did you mean '%s'?", name,
                    near ? near : "auto");
}
