/* Moves KV blocks, named by their places in the pool, between this worker's device and its peers.
 *
 * Direct, where the transport reaches the memory that the pool is in:
 *
 *     pool ====> transport ====> pool
 *
 * Staged, where the pool is a GPU's and the transport knows host memory only. A window of host
 * slots is used in two halves, by parts of at most half a window each, so that one part is copied
 * while the other is on the wire:
 *
 *     pool --move_out--> half 0 or 1 ====> transport ====> half 0 or 1 --move_in--> pool
 *
 * Parts use the halves alternately, in the order (transfer, part), which is the same for all ranks:
 * so no two ranks can wait for each other's halves (turns.h). Both ends cut a transfer into the
 * same parts, as the window comes from the configuration.
 *
 * All calls come from one thread. The mover borrows device and transport. */
#ifndef COP_DRIVE_MOVER_H
#define COP_DRIVE_MOVER_H

#include "device/device.h"
#include "transport/transport.h"

typedef struct cop_mover cop_mover;

typedef struct {
    const cop_device_ops *device_ops;
    cop_device *device;
    const cop_kv_ops *kv_ops;
    cop_kv *kv;
    uint32_t first_slot, slots; /* of the device's host slots: the window */
} cop_mover_options;

/* Host slots that the mover needs of the device: `window`, or 0 where blocks go directly.
 * COP_ERR_INVALID, naming device.kind and transport.kv, if these two can't work together. */
cop_status cop_mover_slots(const cop_device_ops *device_ops, const cop_kv_ops *kv_ops,
                           uint32_t window, uint32_t *out, cop_error *err);

void cop_mover_open(cop_mover **out, const cop_mover_options *options);
void cop_mover_close(cop_mover *mover); /* NULL is legal; call it after the transport's close */

/* Transfers so far had ids up to `last`; from here on the callers count from 1 again. Idle. */
void cop_mover_begin_after(cop_mover *mover, uint64_t last);

/* As cop_kv_ops has it. */
void cop_mover_expect(cop_mover *mover, uint64_t transfer);
void cop_mover_forget(cop_mover *mover, uint64_t transfer);
/* blocks: u32[count], copied, count >= 1. Their KV must stay until poll reports the transfer. */
void cop_mover_send(cop_mover *mover, uint64_t transfer, int to, const uint32_t *blocks,
                    uint32_t count);
void cop_mover_receive(cop_mover *mover, uint64_t transfer, int from, const uint32_t *blocks,
                       uint32_t count);
/* One report for each transfer, received blocks being in the pool. Staged: wait_ns is the first
 * part's, wire_ns goes from its first byte to the end of the last part's copy. */
cop_status cop_mover_poll(cop_mover *mover, cop_kv_done *done, bool *ended, cop_error *err);
bool cop_mover_idle(const cop_mover *mover);

#endif
