/* State of a worker, shared by worker.c (events), worker_schedule.c (requests and steps),
 * worker_transfer.c (both ends of a transfer) and worker_cache.c (the cache from outside). */
#ifndef COP_CORE_WORKER_PRIVATE_H
#define COP_CORE_WORKER_PRIVATE_H

#include "core/block_pool.h"
#include "core/prefix_tree.h"
#include "core/worker.h"

/* A request from SUBMIT to its last token. Blocks of the table below `entered` stand in the tree,
 * on the pinned path to `node`; the others are the request's own until they fill. */
typedef struct cop_job {
    struct cop_job *next; /* in the waiting list */
    cop_request request;
    uint32_t *tokens;     /* u32[prompt + output]: what was given, then what was generated */
    uint32_t *blocks;     /* u32[block_count]: the whole reservation */
    uint32_t block_count; /* 0 while waiting */
    uint32_t root, node, entered;
    uint32_t computed;  /* tokens whose KV is in the blocks */
    uint32_t generated; /* output tokens so far */
    uint32_t in_step;   /* tokens handed to the step in flight; 0: not in it */
    bool awaits_transfer;
    bool no_cache; /* matches nothing and enters nothing */
    bool started;  /* was in an engine step */
    int64_t deadline_ns;
    cop_request_story story;
} cop_job;

/* One end of a transfer. Source: `node` is the pinned end of the path. Destination: `node` is the
 * pinned end of what is held already, `blocks` the reservation that is being filled. */
typedef struct {
    cop_plan plan;
    uint32_t node, from, count;
    bool planned, offered, posted; /* destination: what has happened so far */
    uint32_t offer_blocks, offer_outcome;
    uint64_t offer_tenant;
    uint32_t *tokens;    /* u32[offer_blocks * block_tokens] */
    uint64_t *checksums; /* u64[offer_blocks], or NULL */
    uint32_t *blocks;    /* u32[count] */
    int64_t offered_ns, posted_ns;
} cop_leg;

typedef struct {
    cop_leg *items;
    size_t count, capacity;
} cop_legs;

struct cop_worker {
    cop_worker_options options;
    cop_tree *tree;
    cop_pool pool;
    cop_job *waiting, **waiting_end; /* first come, first served */
    uint32_t waiting_count;
    cop_job **running; /* [max_batch], in order of admission */
    uint32_t running_count;
    cop_step_sequence *step; /* [max_batch], of the step in flight */
    cop_job **step_jobs;
    uint32_t step_count; /* 0: no step in flight */
    cop_legs outgoing, incoming;
    uint64_t prompt_tokens, hit_tokens, computed_tokens;
};

/* worker.c: what the steps below say to the outside */
cop_worker_action *cop_worker_act(cop_worker_actions *out, cop_worker_action_kind kind);
void cop_worker_tell_inserted(cop_worker *w, cop_worker_actions *out, uint32_t node);

/* worker_schedule.c */
cop_job *cop_worker_enqueue(cop_worker *w, const cop_worker_event *event);
void cop_worker_finish_step(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out);
void cop_worker_admit(cop_worker *w, int64_t now_ns, cop_worker_actions *out);
void cop_worker_build_step(cop_worker *w, cop_worker_actions *out);
void cop_worker_free_job(cop_job *job);
/* Blocks for `count` more, evicting what must go: false, and nothing taken, if there is no room. */
bool cop_worker_reserve(cop_worker *w, uint32_t *blocks, uint32_t count, int64_t now_ns,
                        cop_worker_actions *out);

/* worker_transfer.c */
void cop_worker_plan_send(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out);
void cop_worker_plan_receive(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out);
void cop_worker_offered(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out);
void cop_worker_accepted(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out);
void cop_worker_sent(cop_worker *w, const cop_worker_event *event);
void cop_worker_received(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out);
cop_leg *cop_worker_find_leg(cop_legs *legs, uint64_t transfer);
void cop_worker_free_legs(cop_legs *legs);

#endif
