/* Requests from the waiting list to the last token: admission, engine steps, completion. */
#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "core/worker_private.h"

#include <stdlib.h>
#include <string.h>

static bool uses_cache(const cop_worker *w, const cop_job *job)
{
    return w->options.cache_enabled && !job->no_cache;
}

/* Longest reusable prefix; at least one prompt token is left to compute. */
cop_match cop_worker_match_prompt(const cop_worker *w, const cop_job *job)
{
    if (!uses_cache(w, job))
        return (cop_match){.node = job->root, .partial_node = COP_NO_BLOCK};
    cop_match match =
        cop_tree_match(w->tree, job->root, job->tokens, job->request.prompt_tokens - 1);
    if (!w->options.partial_blocks) {
        match.partial_node = COP_NO_BLOCK;
        match.partial_tokens = 0;
    }
    return match;
}

cop_job *cop_worker_enqueue(cop_worker *w, const cop_worker_event *event)
{
    const cop_request *request = &event->submit.request;
    uint32_t room = request->prompt_tokens + request->output_tokens;
    cop_job *job = cop_calloc(1, sizeof *job);
    job->request = *request;
    job->no_cache = event->submit.no_cache;
    job->tokens = cop_malloc(room * sizeof *job->tokens);
    memcpy(job->tokens, request->tokens,
           (request->output_given ? room : request->prompt_tokens) * sizeof *job->tokens);
    job->request.tokens = job->tokens;
    job->held = COP_NO_BLOCK;
    job->root = job->node = cop_tree_root(w->tree, request->tenant);
    cop_match resident = cop_worker_match_prompt(w, job);
    job->story = (cop_request_story){
        .request = request->id,
        .transfer = event->submit.transfer,
        .received_ns = event->now_ns,
        .prompt_tokens = request->prompt_tokens,
        .output_tokens = request->output_tokens,
        .resident_tokens = cop_worker_matched_tokens(w, &resident),
        .first_token = COP_NO_TOKEN,
    };
    const cop_leg *leg = cop_worker_find_leg(&w->incoming, event->submit.transfer);
    job->awaits_transfer = leg != NULL;
    if (leg && leg->posted) /* it joins a transfer under way */
        job->story.queue_end_ns = event->now_ns;
    job->deadline_ns = event->now_ns + w->options.transfer_timeout_ns;
    *w->waiting_end = job;
    w->waiting_end = &job->next;
    w->waiting_count++;
    return job;
}

void cop_worker_free_job(cop_job *job)
{
    free(job->tokens);
    free(job->blocks);
    free(job);
}

/* Reserves all blocks of a job beyond a match, whose nodes are pinned meanwhile so that making room
 * cannot take them. On success the job's path is pinned for as long as it runs. */
static bool reserve_for(cop_worker *w, cop_job *job, const cop_match *match, int64_t now_ns,
                        cop_worker_actions *out)
{
    uint32_t total = cop_worker_blocks_of(w, &job->request);
    COP_CHECK(total <= w->pool.capacity);
    uint32_t *blocks = cop_malloc(total * sizeof *blocks);
    cop_tree_pin(w->tree, match->node);
    if (match->partial_tokens)
        cop_tree_pin(w->tree, match->partial_node);
    bool done = cop_worker_reserve(w, blocks + match->blocks, total - match->blocks, now_ns, out);
    if (match->partial_tokens)
        cop_tree_unpin(w->tree, match->partial_node);
    if (!done) {
        cop_tree_unpin(w->tree, match->node);
        free(blocks);
        return false;
    }
    cop_tree_path(w->tree, match->node, blocks);
    job->blocks = blocks;
    job->block_count = total;
    job->node = match->node;
    job->entered = match->blocks;
    job->computed = cop_worker_matched_tokens(w, match);
    return true;
}

/* Sorts what was matched by what brought it: the job's own transfer, a move that it waited for. */
static void class_hits(const cop_worker *w, cop_job *job, const cop_match *match)
{
    cop_request_story *story = &job->story;
    uint32_t migrated = 0, host = 0;
    if (story->transfer != COP_NO_TRANSFER || job->moves_awaited)
        for (uint32_t i = 0; i < job->entered; i++) {
            uint64_t origin = cop_tree_origin(w->tree, job->blocks[i]);
            migrated += story->transfer != COP_NO_TRANSFER && origin == story->transfer;
            host += cop_worker_brought(job, origin);
        }
    story->hit_migrated = migrated * w->options.block_tokens;
    story->hit_host = host * w->options.block_tokens;
    if (match->partial_tokens &&
        cop_worker_brought(job, cop_tree_origin(w->tree, match->partial_node)))
        story->hit_host += match->partial_tokens;
    story->hit_local = job->computed - story->hit_migrated - story->hit_host;
    story->computed = job->request.prompt_tokens - job->computed;
}

/* match: what is on the device. */
static bool admit(cop_worker *w, cop_job *job, cop_match match, int64_t now_ns,
                  cop_worker_actions *out)
{
    if (!reserve_for(w, job, &match, now_ns, out)) {
        if (!match.partial_tokens)
            return false;
        match.partial_tokens = 0; /* the pool is so tight that the partial block must go too */
        if (!reserve_for(w, job, &match, now_ns, out))
            return false;
    }
    cop_request_story *story = &job->story;
    if (story->queue_end_ns == 0)
        story->queue_end_ns = story->transfer_end_ns = now_ns;
    class_hits(w, job, &match);
    w->prompt_tokens += job->request.prompt_tokens;
    w->hit_tokens += job->computed;
    w->host_hit_tokens += story->hit_host;
    if (job->computed)
        cop_tree_touch(w->tree, match.partial_tokens ? match.partial_node : match.node, now_ns);
    if (match.partial_tokens) {
        cop_worker_action *copy = cop_worker_act(out, COP_ACT_COPY);
        copy->copy.src = match.partial_node;
        copy->copy.dst = job->blocks[match.blocks];
        copy->copy.tokens = match.partial_tokens;
    }
    return true;
}

/* Too late: it recomputes, and what comes will serve others. */
static void stop_waiting(cop_job *job, int64_t now_ns)
{
    job->awaits_transfer = false;
    if (job->awaits_move)
        job->moves_awaited = COP_MOVES_AWAITED;
    job->awaits_move = 0;
    if (job->story.queue_end_ns == 0)
        job->story.queue_end_ns = now_ns;
    job->story.transfer_end_ns = now_ns;
}

typedef enum { ADMITTED, AWAITS, NO_ROOM } verdict;

/* Admits a job, or has what the host holds for it brought back. For want of room nothing changes. */
static verdict try_to_admit(cop_worker *w, cop_job *job, int64_t now_ns, cop_worker_actions *out)
{
    uint32_t held = job->held;
    if (held != COP_NO_BLOCK)
        cop_tree_unpin(w->tree, held);
    job->held = COP_NO_BLOCK;
    cop_match match = cop_worker_match_prompt(w, job);
    cop_host_verdict host = cop_worker_bring_back(w, job, &match, now_ns, out);
    if (host == COP_HOST_AWAITED)
        return AWAITS;
    if (host == COP_HOST_WITHOUT && admit(w, job, cop_worker_device_part(w, &match), now_ns, out))
        return ADMITTED;
    if (held != COP_NO_BLOCK)
        cop_tree_pin(w->tree, held);
    job->held = held;
    return NO_ROOM;
}

static bool awaits(const cop_job *job)
{
    return job->awaits_transfer || job->awaits_move;
}

/* Also of those behind one that finds no room: a deadline that has passed must not come again. */
static void stop_late(cop_worker *w, int64_t now_ns)
{
    for (cop_job *job = w->waiting; job; job = job->next)
        if (awaits(job) && now_ns >= job->deadline_ns)
            stop_waiting(job, now_ns);
}

/* First come, first served among those that wait for no transfer or move; the first that finds no
 * room makes the others wait, so that large prompts are not starved. */
void cop_worker_admit(cop_worker *w, int64_t now_ns, cop_worker_actions *out)
{
    cop_job **at = &w->waiting;
    stop_late(w, now_ns);
    while (*at && w->running_count < w->options.max_batch) {
        cop_job *job = *at;
        if (awaits(job)) {
            at = &job->next;
            continue;
        }
        verdict done = try_to_admit(w, job, now_ns, out);
        if (done == AWAITS) {
            at = &job->next;
            continue;
        }
        if (done == NO_ROOM && cop_worker_release_held(w, job->next))
            continue; /* once more, with what was kept for those behind */
        if (done == NO_ROOM)
            break;
        *at = job->next;
        job->next = NULL;
        w->waiting_count--;
        w->running[w->running_count++] = job;
    }
    w->waiting_end = &w->waiting;
    while (*w->waiting_end)
        w->waiting_end = &(*w->waiting_end)->next;
}

static void add_to_step(cop_worker *w, cop_job *job, uint32_t count)
{
    uint32_t known = job->request.prompt_tokens + job->generated;
    job->in_step = count;
    w->step_jobs[w->step_count] = job;
    w->step[w->step_count++] = (cop_step_sequence){
        .request = job->request.id,
        .tokens = job->tokens + job->computed,
        .blocks = job->blocks,
        .start = job->computed,
        .count = count,
        .sample = job->computed + count == known,
        .decoding = job->generated > 0,
    };
}

void cop_worker_build_step(cop_worker *w, cop_worker_actions *out)
{
    uint32_t budget = w->options.chunk_tokens;
    for (uint32_t i = 0; i < w->running_count; i++)
        if (w->running[i]->generated > 0)
            add_to_step(w, w->running[i], 1);
    for (uint32_t i = 0; i < w->running_count && budget > 0; i++) {
        cop_job *job = w->running[i];
        if (job->generated > 0)
            continue;
        uint32_t left = job->request.prompt_tokens - job->computed;
        uint32_t count = left < budget ? left : budget;
        budget -= count;
        add_to_step(w, job, count);
    }
    out->start_step = w->step_count > 0;
    out->step = w->step;
    out->step_count = w->step_count;
}

/* Enters the blocks that are full now. Where the device holds the same tokens already (another
 * request computed them meanwhile, to the same bits), that block is used and ours is freed. */
static void enter_full_blocks(cop_worker *w, cop_job *job, int64_t now_ns, cop_worker_actions *out)
{
    uint32_t block_tokens = w->options.block_tokens, full = job->computed / block_tokens;
    uint32_t node = job->node;
    for (uint32_t i = job->entered; i < full; i++) {
        node = cop_worker_enter(w, node, job->tokens + (size_t)i * block_tokens, block_tokens,
                                job->blocks[i], COP_NO_TRANSFER, now_ns, out);
        job->blocks[i] = node;
    }
    if (full > job->entered) {
        cop_tree_pin(w->tree, node);
        cop_tree_unpin(w->tree, job->node);
        job->node = node;
        job->entered = full;
    }
}

/* The last, partly filled block stays as a partial leaf, so that the next turn of a conversation
 * resumes at the very token; everything else of the job's own is freed. */
static void release_blocks(cop_worker *w, cop_job *job, int64_t now_ns)
{
    uint32_t block_tokens = w->options.block_tokens, tail = job->computed % block_tokens;
    uint32_t first_free = job->entered;
    if (uses_cache(w, job) && w->options.partial_blocks && tail) {
        cop_worker_enter(w, job->node, job->tokens + (size_t)job->entered * block_tokens, tail,
                         job->blocks[job->entered], COP_NO_TRANSFER, now_ns, NULL);
        first_free++;
    }
    for (uint32_t i = first_free; i < job->block_count; i++)
        cop_pool_give(&w->pool, job->blocks[i]);
    cop_tree_unpin(w->tree, job->node);
}

static void take_token(cop_job *job, uint32_t drawn, const uint64_t *digest)
{
    uint32_t *place = &job->tokens[job->request.prompt_tokens + job->generated];
    if (job->generated == 0)
        job->story.first_token = drawn;
    if (!job->request.output_given)
        *place = drawn;
    if (digest)
        job->story.logits_digest = cop_hash(digest, sizeof *digest, job->story.logits_digest);
    job->generated++;
}

void cop_worker_finish_step(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out)
{
    int64_t ended_ns = event->step.ended_ns;
    for (uint32_t i = 0; i < w->step_count; i++) {
        cop_job *job = w->step_jobs[i];
        if (job->generated == 0)
            w->computed_tokens += job->in_step;
        job->computed += job->in_step;
        job->in_step = 0;
        if (!job->started)
            job->story.prefill_start_ns = event->step.started_ns;
        job->started = true;
        if (uses_cache(w, job))
            enter_full_blocks(w, job, event->now_ns, out);
        if (!w->step[i].sample)
            continue;
        take_token(job, event->step.tokens[i],
                   event->step.digests ? &event->step.digests[i] : NULL);
        if (event->step.ends && event->step.ends[i]) /* sooner than the room it reserved */
            job->request.output_tokens = job->story.output_tokens = job->generated;
        if (job->generated == 1) {
            job->story.prefill_end_ns = ended_ns;
            cop_worker_act(out, COP_ACT_FIRST_TOKEN)->story = job->story;
        }
        if (job->generated == job->request.output_tokens) {
            release_blocks(w, job, event->now_ns);
            job->story.finished_ns = ended_ns;
            cop_worker_act(out, COP_ACT_FINISHED)->story = job->story;
        }
    }
    w->step_count = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->running_count; i++) {
        cop_job *job = w->running[i];
        if (job->generated == job->request.output_tokens)
            cop_worker_free_job(job);
        else
            w->running[kept++] = job;
    }
    w->running_count = kept;
}
