/* State of a worker, shared by worker.c (events), worker_schedule.c (requests and steps),
 * worker_transfer.c (both ends of a transfer), worker_room.c (blocks for whoever needs some),
 * worker_host.c (what comes back from the host tier) and worker_cache.c (the cache from outside). */
#ifndef COP_CORE_WORKER_PRIVATE_H
#define COP_CORE_WORKER_PRIVATE_H

#include "core/block_pool.h"
#include "core/prefix_tree.h"
#include "core/worker.h"

/* One that was under way already, and one for what that did not bring. */
enum { COP_MOVES_AWAITED = 2 };

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
    uint64_t awaits_move;              /* its id, or 0 */
    uint64_t moves[COP_MOVES_AWAITED]; /* origins of blocks that moves it waited for brought */
    uint32_t moves_awaited;
    uint32_t held; /* pinned end of what they brought, while waiting to be admitted; COP_NO_BLOCK */
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

/* Blocks of one path on their way from the host, top first. Of them the first `taken` have a block
 * of their own on the device by now, computed or received; the others are in the tree as slots. */
typedef struct {
    uint64_t id;
    uint32_t node; /* the pinned end of the path */
    uint32_t count, taken;
    uint32_t *blocks; /* u32[count], reserved */
    uint32_t *slots;  /* u32[count] */
} cop_move;

typedef struct {
    cop_move *items;
    size_t count, capacity;
} cop_moves;

struct cop_worker {
    cop_worker_options options;
    cop_tree *tree;
    cop_pool pool, host; /* blocks of the device; slots of the host tier */
    cop_cost cost;       /* link_*: of the host tier; meaningless unless has_cost */
    bool has_cost;
    cop_moves moves;
    uint64_t last_move;
    uint32_t *leaving; /* [host_blocks]: 1 + place in the MOVE_OUT that is being made, or 0 */
    cop_job *waiting, **waiting_end; /* first come, first served */
    uint32_t waiting_count;
    cop_job **running; /* [max_batch], in order of admission */
    uint32_t running_count;
    cop_step_sequence *step; /* [max_batch], of the step in flight */
    cop_job **step_jobs;
    uint32_t step_count; /* 0: no step in flight */
    cop_legs outgoing, incoming;
    uint64_t prompt_tokens, hit_tokens, host_hit_tokens, computed_tokens;
};

static inline bool cop_worker_on_host(const cop_worker *w, uint32_t node)
{
    return node != COP_NO_BLOCK && node >= w->options.capacity_blocks;
}

static inline uint32_t cop_worker_matched_tokens(const cop_worker *w, const cop_match *match)
{
    return match->blocks * w->options.block_tokens + match->partial_tokens;
}

/* Blocks that a request needs for its prompt and its answer, whose last token is never read. */
static inline uint32_t cop_worker_blocks_of(const cop_worker *w, const cop_request *request)
{
    uint32_t tokens = request->prompt_tokens + request->output_tokens - 1;
    return (tokens + w->options.block_tokens - 1) / w->options.block_tokens;
}

/* worker.c: what the steps below say to the outside */
cop_worker_action *cop_worker_act(cop_worker_actions *out, cop_worker_action_kind kind);
/* Enters a block that was reserved (cop_tree_insert), frees what that made redundant, be it the block
 * itself, and tells of what is new. Returns the node that stands for the tokens. out NULL: tells
 * nobody. */
uint32_t cop_worker_enter(cop_worker *w, uint32_t parent, const uint32_t *tokens, uint32_t count,
                          uint32_t block, uint64_t origin, int64_t now_ns, cop_worker_actions *out);
void cop_worker_give(cop_worker *w, uint32_t node); /* frees a block, or a slot */

/* worker_schedule.c */
cop_job *cop_worker_enqueue(cop_worker *w, const cop_worker_event *event);
void cop_worker_finish_step(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out);
void cop_worker_admit(cop_worker *w, int64_t now_ns, cop_worker_actions *out);
void cop_worker_build_step(cop_worker *w, cop_worker_actions *out);
void cop_worker_free_job(cop_job *job);
cop_match cop_worker_match_prompt(const cop_worker *w, const cop_job *job);

/* worker_room.c */
bool cop_worker_has_room(const cop_worker *w, uint32_t count);
/* Blocks for `count` more, demoting and evicting what must go: false, and nothing taken, if there is
 * no room. */
bool cop_worker_reserve(cop_worker *w, uint32_t *blocks, uint32_t count, int64_t now_ns,
                        cop_worker_actions *out);

/* worker_host.c */
cop_match cop_worker_device_part(const cop_worker *w, const cop_match *match);
typedef enum { COP_HOST_WITHOUT, COP_HOST_AWAITED, COP_HOST_NO_ROOM } cop_host_verdict;
/* Has the host's part of a job's match brought back, if that pays. */
cop_host_verdict cop_worker_bring_back(cop_worker *w, cop_job *job, const cop_match *match,
                                       int64_t now_ns, cop_worker_actions *out);
/* Nothing is kept any more for the waiting jobs from this one on; whether something was. */
bool cop_worker_release_held(cop_worker *w, cop_job *job);
void cop_worker_moved_in(cop_worker *w, const cop_worker_event *event);
/* The block took the place of a slot, perhaps while its move is under way. */
void cop_worker_leave_slot(cop_worker *w, uint32_t slot_node, uint32_t block);
bool cop_worker_brought(const cop_job *job, uint64_t origin); /* by a move that it waited for */
void cop_worker_check_moves(const cop_worker *w, uint64_t *blocks, uint64_t *slots);
void cop_worker_free_moves(cop_moves *moves);

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
