/* Both ends of a transfer; the conversation is drawn in plan.h. */
#include "base/alloc.h"
#include "base/check.h"
#include "core/worker_private.h"

#include <stdlib.h>
#include <string.h>

cop_leg *cop_worker_find_leg(cop_legs *legs, uint64_t transfer)
{
    for (size_t i = 0; i < legs->count; i++)
        if (legs->items[i].plan.id == transfer)
            return &legs->items[i];
    return NULL;
}

/* The leg of a transfer; a new one if this is the first that is heard of it. */
static cop_leg *have_leg(cop_legs *legs, uint64_t transfer)
{
    cop_leg *leg = cop_worker_find_leg(legs, transfer);
    if (leg)
        return leg;
    COP_GROW(legs->items, legs->capacity, legs->count + 1);
    leg = &legs->items[legs->count++];
    *leg = (cop_leg){.plan.id = transfer, .node = COP_NO_BLOCK};
    return leg;
}

static void free_leg(cop_leg *leg)
{
    free(leg->blocks);
    free(leg->tokens);
    free(leg->checksums);
}

static void remove_leg(cop_legs *legs, cop_leg *leg)
{
    free_leg(leg);
    *leg = legs->items[--legs->count];
}

void cop_worker_free_legs(cop_legs *legs)
{
    for (size_t i = 0; i < legs->count; i++)
        free_leg(&legs->items[i]);
    free(legs->items);
    *legs = (cop_legs){0};
}

/* ---- source ------------------------------------------------------------------------------ */

static uint32_t *path_tokens(const cop_worker *w, cop_arena *arena, const uint32_t *path,
                             uint32_t blocks)
{
    uint32_t block_tokens = w->options.block_tokens, count;
    uint32_t *tokens = COP_ARENA_ARRAY(arena, uint32_t, (size_t)blocks * block_tokens);
    for (uint32_t i = 0; i < blocks; i++) {
        const uint32_t *own = cop_tree_tokens(w->tree, path[i], &count);
        COP_CHECK(count == block_tokens);
        memcpy(tokens + (size_t)i * block_tokens, own, block_tokens * sizeof *tokens);
    }
    return tokens;
}

/* Pins the path and offers it, as far as it is on the device, for a transport moves blocks of the
 * pool. Offers nothing if that is gone. */
void cop_worker_plan_send(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out)
{
    const cop_plan *plan = &event->plan;
    cop_worker_action *offer = cop_worker_act(out, COP_ACT_OFFER);
    offer->offer.transfer = plan->id;
    offer->offer.peer = plan->dst;
    offer->offer.outcome = COP_TRANSFER_GONE;
    uint32_t node = cop_tree_find(w->tree, plan->last_hash);
    if (node == COP_NO_BLOCK || cop_tree_depth(w->tree, node) != plan->end_block)
        return;
    node = cop_tree_on_device(w->tree, node);
    uint32_t blocks = cop_tree_depth(w->tree, node);
    if (blocks < plan->end_block && blocks <= plan->have_block)
        return;
    uint32_t *path = COP_ARENA_ARRAY(&out->arena, uint32_t, blocks);
    cop_tree_path(w->tree, node, path);
    cop_tree_pin(w->tree, node);
    cop_leg *leg = have_leg(&w->outgoing, plan->id);
    leg->plan = *plan;
    leg->plan.end_block = blocks;
    leg->node = node;
    offer->offer.tenant = cop_tree_tenant(w->tree, node);
    offer->offer.blocks = blocks;
    offer->offer.block_ids = path;
    offer->offer.tokens = path_tokens(w, &out->arena, path, blocks);
    offer->offer.outcome = COP_TRANSFER_DONE;
}

void cop_worker_accepted(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out)
{
    cop_leg *leg = cop_worker_find_leg(&w->outgoing, event->accept.transfer);
    COP_CHECK(leg);
    uint32_t from = event->accept.from, count = event->accept.count;
    if (count == 0) {
        cop_tree_unpin(w->tree, leg->node);
        remove_leg(&w->outgoing, leg);
        return;
    }
    COP_CHECK(from + count == leg->plan.end_block);
    uint32_t *path = COP_ARENA_ARRAY(&out->arena, uint32_t, leg->plan.end_block);
    cop_tree_path(w->tree, leg->node, path);
    cop_worker_action *send = cop_worker_act(out, COP_ACT_SEND);
    send->move.transfer = leg->plan.id;
    send->move.peer = leg->plan.dst;
    send->move.from = from;
    send->move.count = count;
    send->move.block_ids = path + from;
}

void cop_worker_sent(cop_worker *w, const cop_worker_event *event)
{
    cop_leg *leg = cop_worker_find_leg(&w->outgoing, event->transfer.transfer);
    COP_CHECK(leg);
    cop_tree_unpin(w->tree, leg->node);
    remove_leg(&w->outgoing, leg);
}

/* ---- destination ------------------------------------------------------------------------- */

/* The transfer is over, well or not: whoever waited for it goes on. */
static void end_transfer(cop_worker *w, cop_leg *leg, uint32_t outcome, int64_t now_ns,
                         cop_worker_actions *out)
{
    for (cop_job *job = w->waiting; job; job = job->next) {
        if (!job->awaits_transfer || job->story.transfer != leg->plan.id)
            continue;
        job->awaits_transfer = false;
        job->story.transfer_end_ns = now_ns;
        if (job->story.queue_end_ns == 0)
            job->story.queue_end_ns = now_ns;
    }
    cop_worker_action *action = cop_worker_act(out, COP_ACT_TRANSFER_ENDED);
    action->ended.transfer = leg->plan.id;
    action->ended.request = leg->plan.request;
    action->ended.outcome = outcome;
    action->ended.blocks = outcome == COP_TRANSFER_DONE ? leg->count : 0;
    action->ended.planned_ns = leg->plan.planned_ns;
    action->ended.offered_ns = leg->offered_ns;
    action->ended.posted_ns = leg->posted_ns;
    action->ended.ended_ns = now_ns;
    remove_leg(&w->incoming, leg);
}

static void start_waiting_clock(cop_worker *w, uint64_t transfer, int64_t now_ns)
{
    for (cop_job *job = w->waiting; job; job = job->next)
        if (job->awaits_transfer && job->story.transfer == transfer)
            job->story.queue_end_ns = now_ns;
}

static void answer(cop_worker_actions *out, cop_worker_action_kind kind, const cop_leg *leg)
{
    cop_worker_action *action = cop_worker_act(out, kind);
    action->move.transfer = leg->plan.id;
    action->move.peer = leg->plan.src;
    action->move.from = leg->from;
    action->move.count = leg->count;
    action->move.block_ids = leg->blocks;
    action->move.checksums = leg->checksums ? leg->checksums + leg->from : NULL;
}

/* Another transfer is bringing blocks that this offer has too and that are not here yet.
 *
 * Only one with a smaller id counts: a transport may start transfers in the order of their ids, and
 * hold those behind one that is not answered. To wait here for one of those would be to wait for
 * ever (base/turns.h). Then some blocks may come twice; the second copy is given back. */
static bool covered_meanwhile(const cop_worker *w, const cop_leg *leg, uint32_t held_blocks)
{
    uint32_t block_tokens = w->options.block_tokens;
    for (size_t i = 0; i < w->incoming.count; i++) {
        const cop_leg *other = &w->incoming.items[i];
        if (other->posted && other->plan.id < leg->plan.id &&
            other->offer_tenant == leg->offer_tenant && other->offer_blocks > held_blocks &&
            leg->offer_blocks > held_blocks &&
            memcmp(other->tokens, leg->tokens,
                   ((size_t)held_blocks + 1) * block_tokens * sizeof *leg->tokens) == 0)
            return true;
    }
    return false;
}

/* Reserves blocks for what is missing here and accepts, or declines; or waits for an earlier transfer
 * to end that brings some of it. What both tiers hold together is not needed: it comes back by
 * itself. But of what is needed something, all that is not on the device comes, to stand below
 * blocks of the device. The leg's arrays last as long as the transport needs them. */
static void answer_offer(cop_worker *w, cop_leg *leg, int64_t now_ns, cop_worker_actions *out)
{
    uint32_t blocks = leg->offer_blocks, outcome = COP_TRANSFER_NEEDLESS;
    if (blocks == 0) {
        end_transfer(w, leg, leg->offer_outcome, now_ns, out);
        return;
    }
    uint32_t root = cop_tree_root(w->tree, leg->offer_tenant);
    cop_match held = cop_tree_match(w->tree, root, leg->tokens, blocks * w->options.block_tokens);
    cop_match device = cop_worker_device_part(w, &held);
    leg->from = device.blocks;
    if (covered_meanwhile(w, leg, device.blocks))
        return;
    if (held.blocks < blocks) {
        uint32_t count = blocks - device.blocks;
        leg->blocks = cop_malloc(count * sizeof *leg->blocks);
        cop_tree_pin(w->tree, device.node);
        if (cop_worker_reserve(w, leg->blocks, count, now_ns, out)) {
            leg->node = device.node;
            leg->count = count;
            leg->posted = true;
            leg->posted_ns = now_ns;
            start_waiting_clock(w, leg->plan.id, now_ns);
            answer(out, COP_ACT_RECEIVE, leg);
            answer(out, COP_ACT_ACCEPT, leg);
            return;
        }
        cop_tree_unpin(w->tree, device.node);
        outcome = COP_TRANSFER_NO_ROOM;
    }
    answer(out, COP_ACT_ACCEPT, leg);
    end_transfer(w, leg, outcome, now_ns, out);
}

/* An answer may end and remove its leg, so the search starts again after each. */
static void answer_waiting_offers(cop_worker *w, int64_t now_ns, cop_worker_actions *out)
{
    for (size_t i = 0; i < w->incoming.count; i++) {
        cop_leg *leg = &w->incoming.items[i];
        if (!leg->planned || !leg->offered || leg->posted)
            continue;
        size_t before = w->incoming.count;
        answer_offer(w, leg, now_ns, out);
        if (w->incoming.count < before || w->incoming.items[i].posted)
            i = (size_t)-1;
    }
}

void cop_worker_plan_receive(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out)
{
    cop_leg *leg = have_leg(&w->incoming, event->plan.id);
    leg->plan = event->plan;
    leg->planned = true;
    if (leg->offered)
        answer_offer(w, leg, event->now_ns, out);
}

static void *copy_array(const void *array, size_t bytes)
{
    void *copy = array ? cop_malloc(bytes) : NULL;
    if (copy)
        memcpy(copy, array, bytes);
    return copy;
}

void cop_worker_offered(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out)
{
    cop_leg *leg = have_leg(&w->incoming, event->offer.transfer);
    size_t blocks = event->offer.blocks;
    leg->offered = true;
    leg->offered_ns = event->now_ns;
    leg->offer_blocks = event->offer.blocks;
    leg->offer_outcome = event->offer.outcome;
    leg->offer_tenant = event->offer.tenant;
    leg->tokens =
        copy_array(event->offer.tokens, blocks * w->options.block_tokens * sizeof *leg->tokens);
    leg->checksums = copy_array(event->offer.checksums, blocks * sizeof *leg->checksums);
    if (leg->planned)
        answer_offer(w, leg, event->now_ns, out);
}

/* Enters the received blocks, each below the one before; what came to be here meanwhile stays. */
static void enter_received(cop_worker *w, cop_leg *leg, int64_t now_ns, cop_worker_actions *out)
{
    uint32_t block_tokens = w->options.block_tokens, node = leg->node;
    for (uint32_t i = 0; i < leg->count; i++) {
        const uint32_t *tokens = leg->tokens + (size_t)(leg->from + i) * block_tokens;
        node = cop_worker_enter(w, node, tokens, block_tokens, leg->blocks[i], leg->plan.id, now_ns,
                                out);
    }
}

void cop_worker_received(cop_worker *w, const cop_worker_event *event, cop_worker_actions *out)
{
    cop_leg *leg = cop_worker_find_leg(&w->incoming, event->transfer.transfer);
    COP_CHECK(leg && leg->posted);
    uint32_t outcome = COP_TRANSFER_DONE;
    if (event->transfer.intact) {
        enter_received(w, leg, event->now_ns, out);
    } else {
        for (uint32_t i = 0; i < leg->count; i++)
            cop_pool_give(&w->pool, leg->blocks[i]);
        outcome = COP_TRANSFER_CORRUPT;
    }
    cop_tree_unpin(w->tree, leg->node);
    end_transfer(w, leg, outcome, event->now_ns, out);
    answer_waiting_offers(w, event->now_ns, out);
}
