/* What comes back from the host tier; worker.h has the rules. */
#include "base/alloc.h"
#include "base/check.h"
#include "core/worker_private.h"

#include <stdlib.h>

cop_match cop_worker_device_part(const cop_worker *w, const cop_match *match)
{
    cop_match part = *match;
    part.node = cop_tree_on_device(w->tree, match->node);
    if (part.node != match->node || cop_worker_on_host(w, match->partial_node)) {
        part.blocks = cop_tree_depth(w->tree, part.node);
        part.partial_node = COP_NO_BLOCK;
        part.partial_tokens = 0;
    }
    return part;
}

/* ---- moves under way --------------------------------------------------------------------- */

/* Of all moves. */
static uint64_t origin_of(uint64_t move)
{
    return move | (uint64_t)1 << 63; /* no transfer has such an id */
}

bool cop_worker_brought(const cop_job *job, uint64_t origin)
{
    for (uint32_t i = 0; i < job->moves_awaited; i++)
        if (job->moves[i] && job->moves[i] == origin)
            return true;
    return false;
}

static cop_move *find_move(cop_worker *w, uint64_t id)
{
    for (size_t i = 0; i < w->moves.count; i++)
        if (w->moves.items[i].id == id)
            return &w->moves.items[i];
    return NULL;
}

/* The move that is bringing a node, if its turn on the path is next; a slot is read by one at most. */
static cop_move *move_of(cop_worker *w, uint32_t slot_node)
{
    uint32_t slot = slot_node - w->options.capacity_blocks;
    for (size_t i = 0; i < w->moves.count; i++) {
        cop_move *move = &w->moves.items[i];
        if (move->taken < move->count && move->slots[move->taken] == slot)
            return move;
    }
    return NULL;
}

void cop_worker_leave_slot(cop_worker *w, uint32_t slot_node, uint32_t block)
{
    cop_move *move = move_of(w, slot_node);
    if (!move) {
        cop_worker_give(w, slot_node);
        return;
    }
    move->taken++;
    if (move->node == slot_node)
        move->node = block;
}

void cop_worker_free_moves(cop_moves *moves)
{
    for (size_t i = 0; i < moves->count; i++) {
        free(moves->items[i].blocks);
        free(moves->items[i].slots);
    }
    free(moves->items);
    *moves = (cop_moves){0};
}

/* ---- a request goes on from the host ----------------------------------------------------- */

/* What could be brought: blocks of the path beyond the device's part, down to `end`. */
typedef struct {
    uint32_t end, blocks;
    uint32_t tokens; /* matched with it */
} host_part;

/* Time won, or any measure of it if nothing is known of times. */
static double gain_of(const cop_worker *w, const cop_job *job, uint32_t device_tokens,
                      const host_part *part)
{
    uint32_t prompt = job->request.prompt_tokens;
    if (!w->has_cost)
        return part->tokens - device_tokens;
    return cop_cost_prefill_ns(&w->cost, prompt, device_tokens) -
           cop_cost_prefill_ns(&w->cost, prompt, part->tokens) -
           cop_cost_transfer_ns(&w->cost, part->blocks);
}

/* The whole blocks of the host's part, those and the one that is matched in part (there must be a
 * block to spare for it, as the request copies it), or none: blocks 0. */
static host_part best_part(const cop_worker *w, const cop_job *job, const cop_match *match,
                           const cop_match *device, bool spare)
{
    uint32_t device_tokens = device->blocks * w->options.block_tokens;
    host_part best = {0};
    double best_gain = 0;
    host_part options[2] = {
        {.end = match->node,
         .blocks = match->blocks - device->blocks,
         .tokens = match->blocks * w->options.block_tokens},
        {.end = match->partial_node,
         .blocks = match->blocks - device->blocks + 1,
         .tokens = cop_worker_matched_tokens(w, match)},
    };
    for (int i = 0; i < (spare && match->partial_tokens ? 2 : 1); i++) {
        double gain = options[i].blocks ? gain_of(w, job, device_tokens, &options[i]) : 0;
        if (gain > best_gain) {
            best = options[i];
            best_gain = gain;
        }
    }
    return best;
}

static void await(const cop_worker *w, cop_job *job, const cop_move *move, int64_t now_ns)
{
    job->awaits_move = move->id;
    job->moves[job->moves_awaited++] = origin_of(move->id);
    job->deadline_ns = now_ns + w->options.transfer_timeout_ns;
    if (job->story.queue_end_ns == 0)
        job->story.queue_end_ns = now_ns;
}

/* The path down to the part's end is pinned until the move is done. */
static cop_move *start_move(cop_worker *w, const host_part *part, uint32_t *slots, int64_t now_ns,
                            cop_worker_actions *out)
{
    uint32_t *blocks = cop_malloc(part->blocks * sizeof *blocks);
    cop_tree_pin(w->tree, part->end);
    bool reserved = cop_worker_reserve(w, blocks, part->blocks, now_ns, out);
    COP_CHECK(reserved); /* there was room for more */
    COP_GROW(w->moves.items, w->moves.capacity, w->moves.count + 1);
    cop_move *move = &w->moves.items[w->moves.count++];
    *move = (cop_move){.id = ++w->last_move,
                       .node = part->end,
                       .count = part->blocks,
                       .blocks = blocks,
                       .slots = slots};
    cop_worker_action *action = cop_worker_act(out, COP_ACT_MOVE_IN);
    action->tier.id = move->id;
    action->tier.blocks = blocks;
    action->tier.slots = slots;
    action->tier.count = part->blocks;
    return move;
}

cop_host_verdict cop_worker_bring_back(cop_worker *w, cop_job *job, const cop_match *match,
                                       int64_t now_ns, cop_worker_actions *out)
{
    bool some = cop_worker_on_host(w, match->partial_node) ||
                cop_tree_on_device(w->tree, match->node) != match->node;
    if (!some || job->moves_awaited == COP_MOVES_AWAITED)
        return COP_HOST_WITHOUT;
    cop_match device = cop_worker_device_part(w, match);
    uint32_t need = cop_worker_blocks_of(w, &job->request) - device.blocks;
    cop_tree_pin(w->tree, device.node);
    bool room = cop_worker_has_room(w, need), spare = cop_worker_has_room(w, need + 1);
    cop_tree_unpin(w->tree, device.node);
    if (!room)
        return COP_HOST_NO_ROOM;
    host_part part = best_part(w, job, match, &device, spare);
    if (part.blocks == 0)
        return COP_HOST_WITHOUT;
    uint32_t *slots = cop_malloc(part.blocks * sizeof *slots), node = part.end;
    for (uint32_t i = part.blocks; i > 0; i--, node = cop_tree_parent(w->tree, node))
        slots[i - 1] = node - w->options.capacity_blocks;
    cop_move *move = move_of(w, slots[0] + w->options.capacity_blocks);
    if (move)
        free(slots);
    else
        move = start_move(w, &part, slots, now_ns, out);
    await(w, job, move, now_ns);
    return COP_HOST_AWAITED;
}

static void hold(cop_worker *w, cop_job *job)
{
    cop_match match = cop_worker_match_prompt(w, job), part = cop_worker_device_part(w, &match);
    bool brought_partial =
        part.partial_tokens && cop_worker_brought(job, cop_tree_origin(w->tree, part.partial_node));
    uint32_t before = job->held;
    job->held = brought_partial ? part.partial_node : part.node;
    cop_tree_pin(w->tree, job->held);
    if (before != COP_NO_BLOCK)
        cop_tree_unpin(w->tree, before);
}

bool cop_worker_release_held(cop_worker *w, cop_job *job)
{
    bool some = false;
    for (; job && w->options.host_blocks; job = job->next)
        if (job->held != COP_NO_BLOCK) {
            cop_tree_unpin(w->tree, job->held);
            job->held = COP_NO_BLOCK;
            some = true;
        }
    return some;
}

/* Top first, so that each comes below a block of the device. */
void cop_worker_moved_in(cop_worker *w, const cop_worker_event *event)
{
    cop_move *move = find_move(w, event->moved.id);
    COP_CHECK(move);
    for (uint32_t i = 0; i < move->count; i++) {
        uint32_t slot_node = move->slots[i] + w->options.capacity_blocks;
        if (i < move->taken) {
            cop_pool_give(&w->pool, move->blocks[i]);
        } else {
            cop_tree_promote(w->tree, slot_node, move->blocks[i], origin_of(move->id));
            if (move->node == slot_node)
                move->node = move->blocks[i];
        }
        cop_worker_give(w, slot_node);
    }
    for (cop_job *job = w->waiting; job; job = job->next)
        if (job->awaits_move == move->id) {
            job->awaits_move = 0;
            job->story.transfer_end_ns = event->now_ns;
            hold(w, job);
        }
    cop_tree_unpin(w->tree, move->node);
    free(move->blocks);
    free(move->slots);
    *move = w->moves.items[--w->moves.count];
}

void cop_worker_check_moves(const cop_worker *w, uint64_t *blocks, uint64_t *slots)
{
    for (size_t i = 0; i < w->moves.count; i++) {
        const cop_move *move = &w->moves.items[i];
        uint32_t node = move->node, tokens;
        COP_CHECK(move->taken <= move->count);
        for (uint32_t k = move->count; k > move->taken; k--) {
            COP_CHECK(node == move->slots[k - 1] + w->options.capacity_blocks);
            COP_CHECK(cop_tree_tokens(w->tree, node, &tokens) &&
                      tokens == w->options.block_tokens && cop_tree_pinned(w->tree, node));
            node = cop_tree_parent(w->tree, node);
        }
        COP_CHECK(node < w->options.capacity_blocks || cop_tree_depth(w->tree, node) == 0);
        for (uint32_t k = 0; k < move->count; k++) {
            COP_CHECK(w->pool.taken[move->blocks[k]] && w->host.taken[move->slots[k]]);
        }
        *blocks += move->count;
        *slots += move->taken;
    }
    for (uint32_t slot = 0; slot < w->options.host_blocks; slot++)
        COP_CHECK(w->leaving[slot] == 0);
}
