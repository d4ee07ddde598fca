/* A planned transfer of KV blocks: what the router says to both ends.
 *
 *     router ---plan--> src     pins the path, offers it
 *     router ---plan--> dst     knows who waits for it
 *     src ----offer---> dst     compares the tokens, reserves blocks for what it lacks
 *     dst ---accept---> src     {from, count}; count 0 declines
 *     src ===blocks===> dst     by the KV transport
 *     dst ----end-----> router  outcome, bytes, times
 *
 * Plan and offer have two senders, so either may come first. Blocks are named by the chain hash of
 * the last one (hash.h); tokens travel in the offer and are compared, so a hash collision can make a
 * transfer useless but never wrong. */
#ifndef COP_CORE_PLAN_H
#define COP_CORE_PLAN_H

#include <stdint.h>

typedef enum { COP_REASON_PULL, COP_REASON_REPLICATE } cop_transfer_reason;

typedef enum {
    COP_TRANSFER_DONE,
    COP_TRANSFER_GONE,     /* the source no longer had the blocks */
    COP_TRANSFER_NEEDLESS, /* the destination had them already */
    COP_TRANSFER_NO_ROOM,  /* the destination could not make room */
    COP_TRANSFER_CORRUPT,  /* a checksum did not match */
    COP_TRANSFER_REFUSED   /* injected fault */
} cop_transfer_outcome;

#define COP_NO_TRANSFER 0 /* ids start at 1 */

typedef struct {
    uint64_t id;         /* 1, 2, ... in the router's global order */
    uint64_t request;    /* pull: who waits; replicate: who triggered it */
    uint32_t src, dst;   /* workers */
    uint32_t reason;     /* cop_transfer_reason */
    uint32_t end_block;  /* blocks [have_block, end_block) of the path are wanted */
    uint32_t have_block; /* the destination is thought to hold this many already */
    uint32_t pad;
    uint64_t last_hash; /* chain hash of block end_block - 1 */
    int64_t planned_ns;
    double predicted_transfer_ns; /* wait + alpha + beta * bytes + unpack */
    double predicted_saved_ns;    /* recompute avoided, less the worth of what must be evicted */
} cop_plan;

#endif
