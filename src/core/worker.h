/* The worker: one shard of the prefix cache and the engine that uses it. Pure and deterministic:
 * it takes events and returns actions; the drive performs them on a device and a transport.
 *
 *     submitted --> waiting --(slot, blocks)--> prefilling --> decoding --> finished
 *        |             |  match in the prefix tree, pin the path,
 *        +-- transfer -+  copy a partial block, reserve the rest
 *            (a request may wait for its blocks to come, until its deadline)
 *
 * Continuous batching with chunked prefill: each step takes every decoding sequence (one token
 * each), then prefill chunks first come first served, up to chunk_tokens prompt tokens; at most
 * max_batch sequences run. Requests are admitted between steps.
 * Blocks for prompt and output are reserved on admission, so a running request never stalls. Full
 * blocks enter the tree as soon as they are computed. At least one prompt token is always computed.
 *
 * With a host tier, full blocks that must leave the device are kept in host slots:
 *
 *     making room:    victim of the device --MOVE_OUT--> a free slot, or that of the host's victim,
 *                     which goes for good; a partial block goes at once
 *     admission:      match = part on the device + part on the host. The latter is brought back, by
 *                     one MOVE_IN into reserved blocks, if that beats computing it:
 *                         alpha + beta * bytes < P(L, device) - P(L, device + host)
 *                     The gain grows faster than the cost with each block, so it is all of the part
 *                     or nothing (but for a block that would be used in part: it comes if it pays).
 *                     The request waits, others run; MOVED_IN renames the blocks.
 *
 * Who goes on from blocks whose move is under way waits for that. A request waits for two moves at
 * the most, and for each no longer than transfer_timeout_ns; then it computes. What they brought is
 * kept for it until it is admitted, unless one before it finds no other room. Blocks that are
 * computed or received while the host has them take its place. Moves are performed in the order of
 * the actions. The rest of the cluster sees the cache over both tiers: EVICTED says that a block has
 * gone from both. A source of a transfer offers what it has on the device. */
#ifndef COP_CORE_WORKER_H
#define COP_CORE_WORKER_H

#include "base/arena.h"
#include "base/request.h"
#include "base/status.h"
#include "core/cost.h"
#include "core/plan.h"
#include "core/prefix_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cop_worker cop_worker;

typedef struct {
    uint32_t block_tokens, capacity_blocks;
    uint32_t host_blocks; /* 0: no host tier */
    uint32_t max_batch, chunk_tokens;
    const char *eviction; /* evict registry */
    bool cache_enabled, partial_blocks;
    int64_t transfer_timeout_ns;
} cop_worker_options;

typedef enum {
    COP_WORKER_SUBMIT,    /* a request (tokens copied), perhaps waiting for a transfer */
    COP_WORKER_STEP_DONE, /* the device finished the step */
    COP_WORKER_PLAN_SEND, /* we are the source of a plan */
    COP_WORKER_PLAN_RECEIVE,
    COP_WORKER_OFFER,    /* destination: what the source has */
    COP_WORKER_ACCEPT,   /* source: what the destination wants */
    COP_WORKER_SENT,     /* source: the transport is done */
    COP_WORKER_RECEIVED, /* destination: the transport is done, checksums compared */
    COP_WORKER_MOVED_IN, /* the device has done a MOVE_IN */
    COP_WORKER_TICK,     /* nothing but the time: deadlines */
    COP_WORKER_KINDS
} cop_worker_event_kind;

typedef struct {
    cop_worker_event_kind kind;
    int64_t now_ns;
    union {
        struct {
            cop_request request;
            uint64_t transfer; /* COP_NO_TRANSFER: none to wait for */
            bool no_cache;     /* neither use what is cached nor keep what is computed */
        } submit;
        struct {
            const uint32_t *tokens;  /* u32[sequences of the step]: drawn tokens */
            const uint64_t *digests; /* u64[sequences] or NULL */
            const bool *ends;        /* [sequences] or NULL: the drawn token is the answer's last */
            int64_t started_ns, ended_ns;
        } step;
        cop_plan plan; /* PLAN_SEND, PLAN_RECEIVE */
        struct {
            uint64_t transfer;
            uint64_t tenant;
            const uint32_t *tokens; /* u32[blocks * block_tokens]: the whole path from the root */
            const uint64_t *checksums; /* u64[blocks], or NULL; handed back by RECEIVE */
            uint32_t blocks;           /* 0: the source has nothing to give */
            uint32_t outcome;          /* why not, when blocks is 0 */
        } offer;                       /* may come before the plan: they have two senders */
        struct {
            uint64_t transfer;
            uint32_t from, count; /* blocks of the path; count 0: declined */
        } accept;
        struct {
            uint64_t transfer;
            bool intact;
        } transfer; /* SENT, RECEIVED */
        struct {
            uint64_t id;
        } moved; /* MOVED_IN */
    };
} cop_worker_event;

/* One sequence of an engine step, to be computed by the device. */
typedef struct {
    uint64_t request;
    const uint32_t *tokens; /* u32[count], borrowed until STEP_DONE */
    const uint32_t *blocks; /* u32[ceil((start + count) / block_tokens)], likewise */
    uint32_t start, count;
    bool sample, decoding; /* decoding: one token after the prompt */
} cop_step_sequence;

typedef enum {
    COP_ACT_COPY,     /* copy the first `tokens` tokens of block src to dst; no step is in flight */
    COP_ACT_MOVE_OUT, /* blocks of the device to host slots; before the blocks are used again */
    COP_ACT_MOVE_IN,  /* host slots to blocks of the device; MOVED_IN when they can be used */
    COP_ACT_OFFER,    /* source: send an offer to worker `peer` */
    COP_ACT_ACCEPT,   /* destination: send accept {from, count} to `peer` */
    COP_ACT_SEND,     /* source: post these blocks to the transport */
    COP_ACT_RECEIVE,  /* destination: post these blocks to the transport */
    COP_ACT_INSERTED, /* tell the router: full blocks now held */
    COP_ACT_EVICTED,  /* tell the router; and record it */
    COP_ACT_FIRST_TOKEN,   /* tell the router */
    COP_ACT_FINISHED,      /* tell the router, with the whole story of the request */
    COP_ACT_TRANSFER_ENDED /* destination: tell the router */
} cop_worker_action_kind;

/* Everything a worker knows of a request when it ends; times on the worker's clock. */
typedef struct {
    uint64_t request, transfer;
    int64_t received_ns, queue_end_ns, transfer_end_ns, prefill_start_ns, prefill_end_ns,
        finished_ns;
    uint32_t prompt_tokens, output_tokens;
    uint32_t hit_local, hit_migrated, hit_host, computed; /* sum: prompt_tokens */
    uint32_t resident_tokens; /* match when the request was received, over both tiers */
    uint32_t first_token;
    uint64_t logits_digest; /* chain over every generated token's logits row */
} cop_request_story;

typedef struct {
    cop_worker_action_kind kind;
    union {
        struct {
            uint32_t src, dst, tokens;
        } copy;
        struct {
            uint64_t id;                /* MOVE_IN */
            const uint32_t *blocks;     /* u32[count] */
            const uint32_t *slots;      /* u32[count], 0 .. host_blocks - 1 */
            const cop_evicted *demoted; /* MOVE_OUT: [count], to be recorded */
            uint32_t count;
        } tier; /* MOVE_OUT, and MOVE_IN, whose arrays are valid until MOVED_IN */
        struct {
            uint64_t transfer;
            uint64_t tenant;
            uint32_t peer, blocks; /* tokens: u32[blocks * block_tokens] in data */
            uint32_t outcome;
            const uint32_t *tokens;
            const uint32_t *block_ids; /* u32[blocks]: for checksums */
        } offer;
        struct {
            uint64_t transfer;
            uint32_t peer, from, count;
            const uint32_t *block_ids; /* u32[count] */
            const uint64_t *checksums; /* RECEIVE: u64[count] of the offer, or NULL */
        } move;                        /* ACCEPT, SEND, RECEIVE */
        struct {
            const uint64_t *hashes; /* u64[count]: full blocks (for EVICTED too) */
            uint32_t count, used_blocks;
            const cop_evicted *evicted; /* EVICTED: [evicted_count], partial blocks too */
            uint32_t evicted_count;
        } blocks;
        cop_request_story story; /* FIRST_TOKEN (what is known so far), FINISHED */
        struct {
            uint64_t transfer, request;
            uint32_t outcome, blocks;
            int64_t planned_ns, offered_ns, posted_ns, ended_ns;
        } ended;
    };
} cop_worker_action;

/* Arrays are owned by the actions and valid until the next step, except those of the engine step,
 * which last until STEP_DONE. */
typedef struct {
    cop_worker_action *items;
    size_t count, capacity;
    bool start_step; /* hand `step` to the device, after the copies */
    cop_step_sequence *step;
    uint32_t step_count;
    cop_arena arena;  /* of the arrays that the items point to */
} cop_worker_actions; /* zero-initialise; cop_worker_actions_fini */

typedef struct {
    uint32_t waiting, running;
    uint32_t used_blocks, pinned_blocks, cached_blocks;  /* of the device */
    uint32_t host_blocks;                                /* slots in use */
    uint64_t prompt_tokens, hit_tokens, computed_tokens; /* since the start */
    uint64_t host_hit_tokens;                            /* of hit_tokens */
} cop_worker_gauges;

cop_status cop_worker_open(cop_worker **out, const cop_worker_options *options, cop_error *err);
void cop_worker_close(cop_worker *worker);
/* What the host tier's test goes by; without it all that is on the host is brought back. Moving n
 * blocks in takes host_alpha_ns + host_beta_ns * n * cost->block_bytes. */
void cop_worker_set_cost(cop_worker *worker, const cop_cost *cost, double host_alpha_ns,
                         double host_beta_ns);
void cop_worker_step(cop_worker *worker, const cop_worker_event *event, cop_worker_actions *out);
void cop_worker_actions_fini(cop_worker_actions *actions);

/* ---- The cache from outside, for whoever keeps it in a file or looks after it by hand. No step
 * may be in flight, unless said otherwise. */

/* Tokens of the longest cached prefix, over both tiers; recency stays as it is. Callable at any time. */
uint32_t cop_worker_match(const cop_worker *worker, uint64_t tenant, const uint32_t *tokens,
                          uint32_t count);
/* Forgets what is cached beyond tokens[count] on every path that begins with them: whole blocks go
 * first, and of the block in which the prefix ends the part behind it (one block stays, as a partial
 * leaf; but not on the host, which has whole blocks only). count 0: all of the tenant's. Blocks in use by a request stay. Nobody is told: a router
 * would still believe them here. Returns the blocks that went. */
uint32_t cop_worker_truncate(cop_worker *worker, uint64_t tenant, const uint32_t *tokens,
                             uint32_t count);

typedef struct {
    uint32_t block, parent; /* parent: COP_NO_BLOCK, the tenant's root */
    uint64_t tenant;
    const uint32_t *tokens; /* u32[count], borrowed */
    uint32_t count;         /* 1 .. block_tokens */
    uint32_t uses;          /* what eviction goes by: uses so far */
    uint32_t last_use;      /* and the place among all by their last use; 0: the longest ago */
} cop_cached_block;

/* Every cached block on the device, in the order of insertion, so parents before children; those on
 * the host, below them all, are left out.
 * out[gauges.cached_blocks]. */
uint32_t cop_worker_cached(const cop_worker *worker, cop_cached_block *out);
/* Enters a block that was computed elsewhere; `parent` is in this worker's ids (a full block),
 * block is ignored. Returns the id to fill with its KV; COP_NO_BLOCK: no free block, or the tree
 * holds it already. */
uint32_t cop_worker_adopt(cop_worker *worker, const cop_cached_block *block, int64_t now_ns);
/* Gives adopted blocks (`block`: their id here) the uses that they had, so that eviction goes on
 * where it stopped; equal places count in the order of the list. */
void cop_worker_recall(cop_worker *worker, const cop_cached_block *blocks, uint32_t count,
                       int64_t now_ns);

cop_worker_gauges cop_worker_read(const cop_worker *worker);
bool cop_worker_idle(const cop_worker *worker);           /* no request, step, transfer, move */
int64_t cop_worker_deadline_ns(const cop_worker *worker); /* next TICK wanted; INT64_MAX: none */

void cop_worker_check(const cop_worker *worker); /* walks every invariant */

#endif
