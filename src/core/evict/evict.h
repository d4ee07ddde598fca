/* Eviction policies: a key per block, the lowest leaves first. A policy is one file and one row.
 *
 * The key is computed when a block becomes an unpinned end of its tier (a leaf, or on the device one
 * with blocks of the host alone below it), and again when such a block is touched. That suffices:
 * nothing else changes what a key is made of, and a block above an end is none. Sequence numbers are unique and count every touch and insertion of the tree; a path is
 * touched deepest first, so that of two blocks used together the deeper has the lower number and
 * goes first. */
#ifndef COP_CORE_EVICT_EVICT_H
#define COP_CORE_EVICT_EVICT_H

#include "base/heap.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t inserted_ns, used_ns;    /* used_ns = inserted_ns while uses == 0 */
    uint64_t inserted_seq, used_seq; /* likewise */
    uint32_t uses, depth, tokens;
} cop_block_meta;

typedef struct {
    const char *name;   /* in configs */
    const char *source; /* paper or system */
    cop_heap_key (*key)(const cop_block_meta *block);
} cop_evict_ops;

extern const cop_evict_ops cop_evict_lru, cop_evict_fifo, cop_evict_lfu;

const cop_evict_ops *cop_evict_at(size_t i); /* NULL past the end */

/* COP_ERR_INVALID with the nearest name and the list of names if there is no such policy. */
cop_status cop_evict_find(const char *name, const cop_evict_ops **out, cop_error *err);

#endif
