/* Room on the device: free blocks, and those that what is cached can leave. */
#include "base/check.h"
#include "core/worker_private.h"

/* What leaves, before it is told. A victim costs the cache one block at the most: itself, or the one
 * whose slot it takes. */
typedef struct {
    cop_evicted *gone, *demoted; /* [victims] */
    uint32_t *blocks, *slots;    /* u32[victims]: of demoted */
    uint32_t gone_count, demoted_count;
} leavers;

static void tell_evicted(cop_worker *w, cop_worker_actions *out, const leavers *l)
{
    cop_worker_action *action = cop_worker_act(out, COP_ACT_EVICTED);
    uint64_t *hashes = COP_ARENA_ARRAY(&out->arena, uint64_t, l->gone_count);
    uint32_t full = 0;
    for (uint32_t i = 0; i < l->gone_count; i++)
        if (l->gone[i].tokens == w->options.block_tokens)
            hashes[full++] = l->gone[i].hash;
    action->blocks.hashes = hashes;
    action->blocks.count = full;
    action->blocks.evicted = l->gone;
    action->blocks.evicted_count = l->gone_count;
    action->blocks.used_blocks = w->pool.capacity - w->pool.free_count;
}

static void tell_demoted(cop_worker *w, cop_worker_actions *out, const leavers *l)
{
    cop_worker_action *action = cop_worker_act(out, COP_ACT_MOVE_OUT);
    action->tier.blocks = l->blocks;
    action->tier.slots = l->slots;
    action->tier.demoted = l->demoted;
    action->tier.count = l->demoted_count;
    for (uint32_t i = 0; i < l->demoted_count; i++)
        w->leaving[l->slots[i]] = 0;
}

/* A slot that is free or is made so, or COP_NO_BLOCK. Its block may be one that is just leaving the
 * device: that one never reaches the host. */
static uint32_t take_slot(cop_worker *w, leavers *l, int64_t now_ns)
{
    cop_evicted victim;
    if (w->host.free_count > 0)
        return cop_pool_take(&w->host);
    if (!cop_tree_victim(w->tree, COP_TIER_HOST, now_ns, &victim))
        return COP_NO_BLOCK;
    cop_tree_remove(w->tree, victim.block);
    uint32_t slot = victim.block - w->options.capacity_blocks, place = w->leaving[slot];
    if (place) {
        uint32_t last = --l->demoted_count;
        victim = l->demoted[place - 1];
        l->demoted[place - 1] = l->demoted[last];
        l->blocks[place - 1] = l->blocks[last];
        l->slots[place - 1] = l->slots[last];
        w->leaving[l->slots[last]] = place;
        w->leaving[slot] = 0;
    }
    l->gone[l->gone_count++] = victim;
    return slot;
}

/* The device's victim goes to the host, or for good. None that has something below it on the host
 * finds no slot: what is below it is as unpinned as itself, and ends in a victim of the host. */
static void make_leave(cop_worker *w, leavers *l, int64_t now_ns)
{
    cop_evicted victim;
    bool found = cop_tree_victim(w->tree, COP_TIER_DEVICE, now_ns, &victim);
    COP_CHECK(found);
    bool keep = w->options.host_blocks && victim.tokens == w->options.block_tokens;
    uint32_t slot = keep ? take_slot(w, l, now_ns) : COP_NO_BLOCK;
    if (slot == COP_NO_BLOCK) {
        cop_tree_remove(w->tree, victim.block);
        l->gone[l->gone_count++] = victim;
    } else {
        cop_tree_demote(w->tree, victim.block, w->options.capacity_blocks + slot);
        l->blocks[l->demoted_count] = victim.block;
        l->slots[l->demoted_count] = slot;
        l->demoted[l->demoted_count] = victim;
        w->leaving[slot] = ++l->demoted_count;
    }
    cop_pool_give(&w->pool, victim.block);
}

bool cop_worker_has_room(const cop_worker *w, uint32_t count)
{
    return (uint64_t)w->pool.free_count + cop_tree_evictable(w->tree) >= count;
}

bool cop_worker_reserve(cop_worker *w, uint32_t *blocks, uint32_t count, int64_t now_ns,
                        cop_worker_actions *out)
{
    if (!cop_worker_has_room(w, count))
        return false;
    uint32_t victims = count > w->pool.free_count ? count - w->pool.free_count : 0;
    if (victims) {
        leavers l = {.gone = COP_ARENA_ARRAY(&out->arena, cop_evicted, victims)};
        if (w->options.host_blocks) {
            l.demoted = COP_ARENA_ARRAY(&out->arena, cop_evicted, victims);
            l.blocks = COP_ARENA_ARRAY(&out->arena, uint32_t, victims);
            l.slots = COP_ARENA_ARRAY(&out->arena, uint32_t, victims);
        }
        for (uint32_t i = 0; i < victims; i++)
            make_leave(w, &l, now_ns);
        if (l.demoted_count)
            tell_demoted(w, out, &l);
        if (l.gone_count)
            tell_evicted(w, out, &l);
    }
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = cop_pool_take(&w->pool);
    return true;
}
