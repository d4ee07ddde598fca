/* Model of one directed link: latency, bandwidth, and transfers that share it in turn.
 *
 *     reserve(now, bytes):  start  = max(now, free_at)
 *                           finish = start + bytes / bandwidth;   free_at = finish
 *                           arrives at finish + latency
 *
 * The transport throttles real messages with it; the simulator computes transfers with it.
 * Bandwidth 0 means unlimited: then only the latency counts. */
#ifndef COP_BASE_LINK_H
#define COP_BASE_LINK_H

#include <stdint.h>

typedef struct {
    double ns_per_byte; /* 0: unlimited */
    int64_t latency_ns, free_at_ns;
} cop_link;

/* bandwidth in MB/s (10^6 bytes), latency in microseconds */
void cop_link_init(cop_link *link, double latency_us, double bandwidth_mb_s);

/* Occupies the link for `bytes` from `now_ns` on; returns the time of arrival of the last byte. */
int64_t cop_link_reserve(cop_link *link, int64_t now_ns, uint64_t bytes);

/* How long a transfer asked for now would wait for those before it. */
int64_t cop_link_wait_ns(const cop_link *link, int64_t now_ns);

#endif
