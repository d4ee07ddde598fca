/* What this machine could do at best, measured with the threads, weights and kernels of an open CPU
 * device, for the benches. Call with no batch in flight; each call blocks until it is done. */
#ifndef COP_DEVICE_CPU_PROBE_H
#define COP_DEVICE_CPU_PROBE_H

#include "device/device.h"

typedef struct {
    int64_t ns;
    double work; /* floating-point operations, or bytes */
} cop_probe;

/* Products and sums in registers: BF16 where the kernels use it, else float32. */
cop_probe cop_cpu_probe_peak(cop_device *device, bool all_threads);
/* Reads every packed weight once. */
cop_probe cop_cpu_probe_read(cop_device *device);
/* The linear layers alone, all of them in order, on `rows` rows (<= max_batch_tokens); overwrites
 * the activations, not the KV. */
cop_probe cop_cpu_probe_linear(cop_device *device, uint32_t rows);

#endif
