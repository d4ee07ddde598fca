/* The host tier's moves on a device: performed, timed, and waited for. Slots 0 .. host_blocks - 1 of
 * the device are the tier's. */
#ifndef COP_DRIVE_HOST_TIER_H
#define COP_DRIVE_HOST_TIER_H

#include "core/worker.h"
#include "device/device.h"

typedef struct {
    uint64_t id, ticket; /* the core's, the device's */
} cop_host_move;

typedef struct {
    const cop_device_ops *ops;
    cop_device *device;   /* borrowed */
    cop_host_move *moves; /* in, under way, in order */
    size_t count, capacity;
} cop_host_tier; /* ops and device set, else zero; cop_host_tier_fini */

void cop_host_tier_fini(cop_host_tier *tier);

/* A MOVE_OUT or MOVE_IN of the core. */
void cop_host_tier_perform(cop_host_tier *tier, const cop_worker_action *action);

/* The next move in that is done; false: none. Says each once. */
bool cop_host_tier_poll(cop_host_tier *tier, uint64_t *id);

/* How long moves in take: alpha + beta * bytes, from one block and from many. Only these: what is
 * brought back and what is computed need the same blocks, so the moves out that make room are the
 * same either way. Overwrites slots and blocks; no batch in flight. */
void cop_host_tier_probe(cop_host_tier *tier, uint32_t host_blocks, double *alpha_ns,
                         double *beta_ns);

#endif
