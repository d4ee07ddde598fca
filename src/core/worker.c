#include "core/worker.h"

#include "base/alloc.h"
#include "base/check.h"
#include "core/worker_private.h"

#include <stdlib.h>
#include <string.h>

cop_status cop_worker_open(cop_worker **out, const cop_worker_options *options, cop_error *err)
{
    cop_tree_options tree_options = {
        .block_tokens = options->block_tokens,
        .capacity_blocks = options->capacity_blocks,
        .host_blocks = options->host_blocks,
        .eviction = options->eviction,
    };
    cop_tree *tree;
    cop_status status = cop_tree_open(&tree, &tree_options, err);
    if (status != COP_OK)
        return status;
    cop_worker *w = cop_calloc(1, sizeof *w);
    w->options = *options;
    w->options.eviction = NULL; /* borrowed by the tree's open only */
    w->tree = tree;
    cop_pool_init(&w->pool, options->capacity_blocks);
    cop_pool_init(&w->host, options->host_blocks);
    w->leaving = cop_calloc(options->host_blocks, sizeof *w->leaving);
    w->waiting_end = &w->waiting;
    w->running = cop_calloc(options->max_batch, sizeof *w->running);
    w->step = cop_calloc(options->max_batch, sizeof *w->step);
    w->step_jobs = cop_calloc(options->max_batch, sizeof *w->step_jobs);
    *out = w;
    return COP_OK;
}

void cop_worker_close(cop_worker *w)
{
    if (!w)
        return;
    for (cop_job *job = w->waiting; job;) {
        cop_job *next = job->next;
        cop_worker_free_job(job);
        job = next;
    }
    for (uint32_t i = 0; i < w->running_count; i++)
        cop_worker_free_job(w->running[i]);
    cop_worker_free_legs(&w->outgoing);
    cop_worker_free_legs(&w->incoming);
    cop_worker_free_moves(&w->moves);
    cop_tree_close(w->tree);
    cop_pool_fini(&w->pool);
    cop_pool_fini(&w->host);
    free(w->leaving);
    free(w->running);
    free(w->step);
    free(w->step_jobs);
    free(w);
}

void cop_worker_set_cost(cop_worker *w, const cop_cost *cost, double host_alpha_ns,
                         double host_beta_ns)
{
    w->cost = *cost;
    w->cost.link_alpha_ns = host_alpha_ns;
    w->cost.link_beta_ns = host_beta_ns;
    w->has_cost = true;
}

void cop_worker_actions_fini(cop_worker_actions *actions)
{
    free(actions->items);
    cop_arena_fini(&actions->arena);
    *actions = (cop_worker_actions){0};
}

cop_worker_action *cop_worker_act(cop_worker_actions *out, cop_worker_action_kind kind)
{
    COP_GROW(out->items, out->capacity, out->count + 1);
    cop_worker_action *action = &out->items[out->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    return action;
}

/* Consecutive insertions become one action whose array grows by doubling inside the arena. */
static void tell_inserted(cop_worker *w, cop_worker_actions *out, uint32_t node)
{
    cop_worker_action *last = out->count ? &out->items[out->count - 1] : NULL;
    if (!last || last->kind != COP_ACT_INSERTED)
        last = cop_worker_act(out, COP_ACT_INSERTED);
    uint32_t n = last->blocks.count;
    if ((n & (n - 1)) == 0) {
        uint64_t *grown = COP_ARENA_ARRAY(&out->arena, uint64_t, n ? 2 * (size_t)n : 1);
        if (n)
            memcpy(grown, last->blocks.hashes, n * sizeof *grown);
        last->blocks.hashes = grown;
    }
    ((uint64_t *)last->blocks.hashes)[n] = cop_tree_hash(w->tree, node);
    last->blocks.count = n + 1;
    last->blocks.used_blocks = w->pool.capacity - w->pool.free_count;
}

void cop_worker_give(cop_worker *w, uint32_t node)
{
    if (cop_worker_on_host(w, node))
        cop_pool_give(&w->host, node - w->options.capacity_blocks);
    else
        cop_pool_give(&w->pool, node);
}

uint32_t cop_worker_enter(cop_worker *w, uint32_t parent, const uint32_t *tokens, uint32_t count,
                          uint32_t block, uint64_t origin, int64_t now_ns, cop_worker_actions *out)
{
    uint32_t superseded;
    uint32_t node =
        cop_tree_insert(w->tree, parent, tokens, count, block, origin, now_ns, &superseded);
    bool was_on_host = cop_worker_on_host(w, superseded);
    if (was_on_host)
        cop_worker_leave_slot(w, superseded, block);
    else if (superseded != COP_NO_BLOCK)
        cop_pool_give(&w->pool, superseded);
    if (node != block)
        cop_pool_give(&w->pool, block);
    else if (out && count == w->options.block_tokens && !was_on_host)
        tell_inserted(w, out, node);
    return node;
}

static void hear(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out)
{
    switch (event->kind) {
    case COP_WORKER_SUBMIT:
        cop_worker_enqueue(w, event);
        break;
    case COP_WORKER_STEP_DONE:
        cop_worker_finish_step(w, event, out);
        break;
    case COP_WORKER_PLAN_SEND:
        cop_worker_plan_send(w, event, out);
        break;
    case COP_WORKER_PLAN_RECEIVE:
        cop_worker_plan_receive(w, event, out);
        break;
    case COP_WORKER_OFFER:
        cop_worker_offered(w, event, out);
        break;
    case COP_WORKER_ACCEPT:
        cop_worker_accepted(w, event, out);
        break;
    case COP_WORKER_SENT:
        cop_worker_sent(w, event);
        break;
    case COP_WORKER_RECEIVED:
        cop_worker_received(w, event, out);
        break;
    case COP_WORKER_MOVED_IN:
        cop_worker_moved_in(w, event);
        break;
    case COP_WORKER_TICK:
    case COP_WORKER_KINDS:
        break;
    }
}

void cop_worker_step(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out)
{
    out->count = 0;
    out->start_step = false;
    cop_arena_reset(&out->arena);
    hear(w, event, out);
    if (w->step_count == 0) { /* requests are admitted between engine steps */
        cop_worker_admit(w, event->now_ns, out);
        cop_worker_build_step(w, out);
    }
#ifdef COP_WALK_INVARIANTS
    cop_worker_check(w);
#endif
}

cop_worker_gauges cop_worker_read(const cop_worker *w)
{
    return (cop_worker_gauges){
        .waiting = w->waiting_count,
        .running = w->running_count,
        .used_blocks = w->pool.capacity - w->pool.free_count,
        .pinned_blocks = w->pool.capacity - w->pool.free_count - cop_tree_evictable(w->tree),
        .cached_blocks = cop_tree_resident_on(w->tree, COP_TIER_DEVICE),
        .host_blocks = w->host.capacity - w->host.free_count,
        .prompt_tokens = w->prompt_tokens,
        .hit_tokens = w->hit_tokens,
        .host_hit_tokens = w->host_hit_tokens,
        .computed_tokens = w->computed_tokens,
    };
}

bool cop_worker_idle(const cop_worker *w)
{
    return !w->waiting && w->running_count == 0 && w->step_count == 0 && w->outgoing.count == 0 &&
           w->incoming.count == 0 && w->moves.count == 0;
}

int64_t cop_worker_deadline_ns(const cop_worker *w)
{
    int64_t deadline = INT64_MAX;
    if (w->step_count > 0)
        return deadline; /* its end will look at the deadlines */
    for (const cop_job *job = w->waiting; job; job = job->next)
        if ((job->awaits_transfer || job->awaits_move) && job->deadline_ns < deadline)
            deadline = job->deadline_ns;
    return deadline;
}

static void check_job(const cop_worker *w, const cop_job *job)
{
    uint32_t reserved = job->request.prompt_tokens + job->request.output_tokens - 1;
    COP_CHECK(job->block_count == cop_worker_blocks_of(w, &job->request) && !job->awaits_move);
    COP_CHECK(job->computed <= reserved);
    COP_CHECK(job->entered <= job->computed / w->options.block_tokens);
    COP_CHECK(job->entered == cop_tree_depth(w->tree, job->node));
    uint32_t *path = cop_malloc(job->entered * sizeof *path);
    cop_tree_path(w->tree, job->node, path);
    COP_CHECK(memcmp(path, job->blocks, job->entered * sizeof *path) == 0);
    free(path);
    for (uint32_t i = 0; i < job->block_count; i++)
        COP_CHECK(w->pool.taken[job->blocks[i]]);
}

/* Every block is free, or in the tree, or owned by exactly one job, incoming transfer or move; every
 * slot is free, or in the tree, or still read by a move. */
void cop_worker_check(const cop_worker *w)
{
    cop_pool_check(&w->pool);
    cop_pool_check(&w->host);
    cop_tree_check(w->tree);
    uint64_t owned = cop_tree_resident_on(w->tree, COP_TIER_DEVICE);
    uint64_t slots = cop_tree_resident_on(w->tree, COP_TIER_HOST);
    cop_worker_check_moves(w, &owned, &slots);
    COP_CHECK(slots + w->host.free_count == w->host.capacity);
    for (uint32_t i = 0; i < w->running_count; i++) {
        check_job(w, w->running[i]);
        owned += w->running[i]->block_count - w->running[i]->entered;
    }
    for (size_t i = 0; i < w->incoming.count; i++)
        owned += w->incoming.items[i].count;
    COP_CHECK(owned + w->pool.free_count == w->pool.capacity);
    uint32_t waiting = 0;
    for (const cop_job *job = w->waiting; job; job = job->next, waiting++)
        COP_CHECK(job->block_count == 0 &&
                  (job->held == COP_NO_BLOCK || cop_tree_pinned(w->tree, job->held)));
    COP_CHECK(waiting == w->waiting_count);
}
