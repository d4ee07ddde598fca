/* Workers on a symbolic device. A KV slot holds a hash of all tokens up to its own: the value that
 * the real device would compute there, if every slot before it was right. Each engine step checks
 * the whole context of every sequence, so a wrong block, a stale copy, a block freed too early or a
 * transfer to the wrong place shows at once. Two or three workers exchange blocks by random plans,
 * some of which fail, arrive late or arrive broken; by a transport that carries them as they come, or
 * by one that carries them in the order of their ids (base/turns.h) and must never stand still. Some
 * answers end early, some requests keep out of the cache, and now and then a part of it is cut away
 * between two steps.
 *
 * Where there is a host tier, moves are done late, in the order of the calls: a move out reads its
 * blocks at the call, as the device orders it before whatever reuses them, but the slot is written
 * later; a move in breaks what its blocks held at the call and fills them later. What the worker told
 * the router of full blocks is compared with what it matches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/rng.h"
#include "base/turns.h"
#include "core/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 3, REQUESTS = 1000, MAX_TOKENS = 160, MAX_EVENTS = 64 };

typedef struct {
    uint32_t block_tokens, capacity, max_batch, chunk;
    bool cache, partial, faults;
    const char *eviction;
    bool in_turns; /* the transport */
    bool cuts;
    uint32_t host;
    double host_block_ns; /* what a move takes for each block, a token being 1; 0: no cost model */
} setting;

/* An event on its way to a worker, with copies of its arrays. From WORKERS: from the router. */
typedef struct {
    uint32_t from, to;
    cop_worker_event event;
    uint32_t *tokens;
    uint64_t *payload; /* u64[count * block_tokens]: slots of the blocks that travel */
    uint32_t payload_blocks;
} letter;

/* A move that the device has not done yet. */
typedef struct {
    bool in;
    uint64_t id;
    uint32_t *blocks, *slots, count;
    uint64_t *values; /* out: u64[count * block_tokens] */
} device_move;

typedef struct {
    cop_worker *core;
    cop_worker_actions actions;
    uint64_t *slots; /* [capacity * block_tokens] */
    uint64_t *host;  /* [host * block_tokens] */
    device_move *moves;
    size_t move_count, move_capacity;
    cop_map told; /* hashes that the router has heard of; 1: held */
    cop_step_sequence step[64];
    uint32_t step_count;
    uint32_t finished;
    uint64_t receiving_id[MAX_EVENTS]; /* transfers posted here */
    uint32_t *receiving_blocks[MAX_EVENTS];
    uint32_t receiving_count[MAX_EVENTS];
    cop_turns turns; /* posted: the letter of a send; for a receive the node itself */
} node;

typedef struct {
    setting s;
    cop_rng rng, look; /* look: which of the requests is compared */
    node nodes[WORKERS];
    letter *mail;
    size_t mail_count, mail_capacity;
    uint32_t *tokens[REQUESTS];
    uint32_t prompt[REQUESTS], output[REQUESTS], first_token[REQUESTS];
    uint64_t tenant[REQUESTS];
    uint32_t served_by[REQUESTS];
    bool done[REQUESTS], no_cache[REQUESTS];
    uint64_t ended_early, cut;
    uint64_t hits, migrated, transfers_done, transfers_failed, copies, evicted;
    uint64_t hit_host, moved_out, moved_in; /* tokens; blocks */
    int64_t now;
} world;

static uint64_t slot_value(uint64_t before, uint32_t token)
{
    return cop_hash(&token, sizeof token, before);
}

static letter *post(world *w, uint32_t from, uint32_t to, cop_worker_event_kind kind)
{
    COP_GROW(w->mail, w->mail_capacity, w->mail_count + 1);
    letter *l = &w->mail[w->mail_count++];
    *l = (letter){.from = from, .to = to, .event = {.kind = kind}};
    return l;
}

static uint64_t *slot(const world *w, const node *n, uint32_t block, uint32_t i)
{
    return &n->slots[(size_t)block * w->s.block_tokens + i];
}

/* Token drawn after a context: any function of the context alone will do. */
static uint32_t draw(uint64_t context)
{
    return (uint32_t)(context % 3);
}

static void start_step(world *w, node *n)
{
    n->step_count = n->actions.step_count;
    memcpy(n->step, n->actions.step, n->step_count * sizeof *n->step);
    uint32_t prefill = 0;
    for (uint32_t i = 0; i < n->step_count; i++) {
        const cop_step_sequence *s = &n->step[i];
        uint64_t value = cop_hash_root(w->tenant[s->request]);
        for (uint32_t p = 0; p < s->start; p++) {
            value = slot_value(value, w->tokens[s->request][p]);
            assert_int_equal(*slot(w, n, s->blocks[p / w->s.block_tokens], p % w->s.block_tokens),
                             value);
        }
        prefill += s->decoding ? 0 : s->count;
        assert_true(s->count >= 1);
    }
    assert_true(prefill <= w->s.chunk && n->step_count <= w->s.max_batch);
}

static uint32_t *copy_tokens(const uint32_t *tokens, size_t count)
{
    uint32_t *copy = cop_malloc((count + 1) * sizeof *copy);
    if (count)
        memcpy(copy, tokens, count * sizeof *copy);
    return copy;
}

static void act_offer(world *w, const cop_worker_action *a, uint32_t self)
{
    bool refuse = w->s.faults && cop_rng_below(&w->rng, 6) == 0;
    letter *l = post(w, self, a->offer.peer, COP_WORKER_OFFER);
    l->event.offer.transfer = a->offer.transfer;
    l->event.offer.tenant = a->offer.tenant;
    l->event.offer.outcome = refuse ? COP_TRANSFER_REFUSED : a->offer.outcome;
    l->event.offer.blocks = refuse ? 0 : a->offer.blocks;
    l->tokens = copy_tokens(a->offer.tokens, (size_t)a->offer.blocks * w->s.block_tokens);
    if (refuse && a->offer.blocks)
        post(w, self, self, COP_WORKER_ACCEPT)->event.accept.transfer = a->offer.transfer;
    if (refuse || !a->offer.blocks)
        cop_turns_forget(&w->nodes[self].turns, a->offer.transfer);
}

static void act_send(world *w, node *n, const cop_worker_action *a, uint32_t self)
{
    size_t values = (size_t)a->move.count * w->s.block_tokens;
    letter *l = post(w, self, a->move.peer, COP_WORKER_RECEIVED);
    l->event.transfer.transfer = a->move.transfer;
    l->event.transfer.intact = !w->s.faults || cop_rng_below(&w->rng, 5) > 0;
    l->payload = cop_malloc(values * sizeof *l->payload);
    l->payload_blocks = a->move.count;
    for (uint32_t b = 0; b < a->move.count; b++)
        memcpy(l->payload + (size_t)b * w->s.block_tokens, slot(w, n, a->move.block_ids[b], 0),
               w->s.block_tokens * sizeof *l->payload);
    if (!l->event.transfer.intact)
        l->payload[cop_rng_below(&w->rng, values)] ^= 1;
    if (w->s.in_turns) {
        letter *kept = cop_malloc(sizeof *kept);
        *kept = w->mail[--w->mail_count];
        cop_turns_post(&n->turns, a->move.transfer, kept);
        return;
    }
    cop_turns_forget(&n->turns, a->move.transfer);
    post(w, self, self, COP_WORKER_SENT)->event.transfer.transfer = a->move.transfer;
}

/* Carries the transfers whose turn it is at both ends. */
static void carry(world *w)
{
    for (uint32_t src = 0; src < WORKERS; src++) {
        node *n = &w->nodes[src];
        letter *l = cop_turns_next(&n->turns);
        if (!l || (void *)l == n)
            continue;
        node *to = &w->nodes[l->to];
        if (cop_turns_next(&to->turns) != to || to->turns.items[0].id != n->turns.items[0].id)
            continue;
        uint64_t id = n->turns.items[0].id;
        cop_turns_take(&n->turns);
        cop_turns_take(&to->turns);
        *post(w, l->from, l->to, COP_WORKER_RECEIVED) = *l;
        post(w, src, src, COP_WORKER_SENT)->event.transfer.transfer = id;
        free(l);
        src = (uint32_t)-1; /* others may have their turn now */
    }
}

static void act_receive(world *w, node *n, const cop_worker_action *a)
{
    if (w->s.in_turns)
        cop_turns_post(&n->turns, a->move.transfer, n);
    else
        cop_turns_forget(&n->turns, a->move.transfer);
    for (int i = 0; i < MAX_EVENTS; i++) {
        if (n->receiving_id[i])
            continue;
        n->receiving_id[i] = a->move.transfer;
        n->receiving_count[i] = a->move.count;
        n->receiving_blocks[i] = copy_tokens(a->move.block_ids, a->move.count);
        return;
    }
    fail_msg("too many transfers at once");
}

static void finish(world *w, const cop_request_story *story)
{
    uint64_t id = story->request;
    assert_false(w->done[id]);
    w->done[id] = true;
    assert_int_equal(story->hit_local + story->hit_migrated + story->hit_host + story->computed,
                     w->prompt[id]);
    assert_true(story->computed >= 1);
    assert_true((w->s.cache && !w->no_cache[id]) || story->computed == w->prompt[id]);
    assert_int_equal(story->output_tokens, w->output[id]);
    assert_true(story->received_ns <= story->queue_end_ns);
    assert_true(story->queue_end_ns <= story->transfer_end_ns);
    assert_true(story->transfer_end_ns <= story->prefill_start_ns);
    assert_true(story->prefill_start_ns <= story->prefill_end_ns);
    assert_true(story->prefill_end_ns <= story->finished_ns);
    w->hits += story->hit_local + story->hit_migrated + story->hit_host;
    w->migrated += story->hit_migrated;
    w->hit_host += story->hit_host;
}

static void act_move(world *w, node *n, const cop_worker_action *a)
{
    size_t block_values = w->s.block_tokens;
    COP_GROW(n->moves, n->move_capacity, n->move_count + 1);
    device_move *m = &n->moves[n->move_count++];
    *m = (device_move){.in = a->kind == COP_ACT_MOVE_IN,
                       .id = a->tier.id,
                       .blocks = copy_tokens(a->tier.blocks, a->tier.count),
                       .slots = copy_tokens(a->tier.slots, a->tier.count),
                       .count = a->tier.count};
    if (!m->in)
        m->values = cop_malloc(m->count * block_values * sizeof *m->values);
    for (uint32_t i = 0; i < m->count; i++) {
        assert_true(m->slots[i] < w->s.host && m->blocks[i] < w->s.capacity);
        uint64_t *block = slot(w, n, m->blocks[i], 0);
        if (m->in)
            memset(block, 0xa5, block_values * sizeof *block);
        else
            memcpy(m->values + i * block_values, block, block_values * sizeof *block);
    }
    *(m->in ? &w->moved_in : &w->moved_out) += m->count;
}

/* INSERTED and EVICTED alternate for every block. */
static void act_told(const world *w, node *n, const cop_worker_action *a)
{
    bool held = a->kind == COP_ACT_INSERTED;
    for (uint32_t i = 0; i < a->blocks.count; i++) {
        const uint32_t *before = cop_map_get(&n->told, a->blocks.hashes[i]);
        assert_true(w->cut || (before && *before) == !held);
        cop_map_put(&n->told, a->blocks.hashes[i], held);
    }
}

static void perform(world *w, uint32_t self)
{
    node *n = &w->nodes[self];
    for (size_t i = 0; i < n->actions.count; i++) {
        const cop_worker_action *a = &n->actions.items[i];
        switch (a->kind) {
        case COP_ACT_COPY:
            memcpy(slot(w, n, a->copy.dst, 0), slot(w, n, a->copy.src, 0),
                   a->copy.tokens * sizeof(uint64_t));
            w->copies++;
            break;
        case COP_ACT_OFFER:
            act_offer(w, a, self);
            break;
        case COP_ACT_ACCEPT: {
            letter *l = post(w, self, a->move.peer, COP_WORKER_ACCEPT);
            l->event.accept.transfer = a->move.transfer;
            l->event.accept.from = a->move.from;
            l->event.accept.count = a->move.count;
            break;
        }
        case COP_ACT_SEND:
            act_send(w, n, a, self);
            break;
        case COP_ACT_RECEIVE:
            act_receive(w, n, a);
            break;
        case COP_ACT_EVICTED:
            w->evicted += a->blocks.evicted_count;
            act_told(w, n, a);
            break;
        case COP_ACT_MOVE_OUT:
        case COP_ACT_MOVE_IN:
            act_move(w, n, a);
            break;
        case COP_ACT_FINISHED:
            finish(w, &a->story);
            n->finished++;
            break;
        case COP_ACT_FIRST_TOKEN:
            w->first_token[a->story.request] = a->story.first_token;
            break;
        case COP_ACT_TRANSFER_ENDED:
            if (!a->ended.posted_ns)
                cop_turns_forget(&n->turns, a->ended.transfer);
            w->transfers_done += a->ended.outcome == COP_TRANSFER_DONE;
            w->transfers_failed += a->ended.outcome != COP_TRANSFER_DONE;
            break;
        case COP_ACT_INSERTED:
            act_told(w, n, a);
            break;
        }
    }
    if (n->actions.start_step)
        start_step(w, n);
}

static void tell(world *w, uint32_t to, cop_worker_event *event)
{
    event->now_ns = ++w->now;
    cop_worker_step(w->nodes[to].core, event, &w->nodes[to].actions);
    perform(w, to);
    carry(w);
    cop_worker_check(w->nodes[to].core);
}

/* Writes what the step computed, draws tokens, reports. */
static void finish_step(world *w, uint32_t self)
{
    node *n = &w->nodes[self];
    uint32_t drawn[64];
    bool ends[64] = {false};
    for (uint32_t i = 0; i < n->step_count; i++) {
        const cop_step_sequence *s = &n->step[i];
        uint64_t value = cop_hash_root(w->tenant[s->request]);
        uint32_t *known = w->tokens[s->request];
        for (uint32_t p = 0; p < s->start + s->count; p++) {
            if (p >= s->start) {
                assert_int_equal(s->tokens[p - s->start], known[p]);
                *slot(w, n, s->blocks[p / w->s.block_tokens], p % w->s.block_tokens) =
                    slot_value(value, known[p]);
            }
            value = slot_value(value, known[p]);
        }
        drawn[i] = draw(value);
        if (s->sample)
            known[s->start + s->count] = drawn[i];
        uint32_t generated = s->start + s->count + 1 - w->prompt[s->request];
        ends[i] = s->sample && cop_rng_below(&w->rng, 20) == 0;
        if (ends[i]) {
            w->ended_early += generated < w->output[s->request];
            w->output[s->request] = generated;
        }
    }
    n->step_count = 0;
    cop_worker_event event = {.kind = COP_WORKER_STEP_DONE};
    event.step.tokens = drawn;
    event.step.ends = ends;
    event.step.started_ns = w->now;
    event.step.ended_ns = w->now + 1;
    tell(w, self, &event);
}

/* The device does the first of its moves. */
static void do_move(world *w, uint32_t self)
{
    node *n = &w->nodes[self];
    size_t block_values = w->s.block_tokens;
    device_move m = n->moves[0];
    memmove(n->moves, n->moves + 1, --n->move_count * sizeof *n->moves);
    for (uint32_t i = 0; i < m.count; i++) {
        uint64_t *host = n->host + m.slots[i] * block_values;
        if (m.in)
            memcpy(slot(w, n, m.blocks[i], 0), host, block_values * sizeof *host);
        else
            memcpy(host, m.values + i * block_values, block_values * sizeof *host);
    }
    free(m.blocks);
    free(m.slots);
    free(m.values);
    cop_worker_event event = {.kind = COP_WORKER_MOVED_IN, .moved = {.id = m.id}};
    if (m.in)
        tell(w, self, &event);
}

/* The router has heard of a block if and only if the worker has it, on either tier. Nobody tells it
 * of cuts. */
static void compare_told(const world *w, node *n, uint32_t id)
{
    uint32_t matched = cop_worker_match(n->core, w->tenant[id], w->tokens[id], w->prompt[id]);
    uint64_t hash = cop_hash_root(w->tenant[id]);
    for (uint32_t b = 0; (b + 1) * w->s.block_tokens <= w->prompt[id]; b++) {
        hash =
            cop_hash_block(hash, w->tokens[id] + (size_t)b * w->s.block_tokens, w->s.block_tokens);
        const uint32_t *told = cop_map_get(&n->told, hash);
        bool held = (b + 1) * w->s.block_tokens <= matched;
        assert_true((told && *told) == held || (w->cut && !held));
    }
}

/* Mail between a pair keeps its order, between pairs there is none: the oldest letter of a random
 * pair is delivered. */
static void deliver_one(world *w)
{
    const letter *any = &w->mail[cop_rng_below(&w->rng, w->mail_count)];
    uint32_t to = any->to;
    size_t i = 0;
    while (w->mail[i].to != to || w->mail[i].from != any->from)
        i++;
    letter l = w->mail[i];
    memmove(&w->mail[i], &w->mail[i + 1], (w->mail_count - i - 1) * sizeof *w->mail);
    w->mail_count--;
    node *n = &w->nodes[to];
    if (l.event.kind == COP_WORKER_PLAN_SEND || l.event.kind == COP_WORKER_PLAN_RECEIVE)
        cop_turns_expect(&n->turns, l.event.plan.id);
    if (l.event.kind == COP_WORKER_ACCEPT && !l.event.accept.count && l.from != to)
        cop_turns_forget(&n->turns, l.event.accept.transfer);
    if (l.event.kind == COP_WORKER_OFFER)
        l.event.offer.tokens = l.tokens;
    if (l.event.kind == COP_WORKER_RECEIVED) {
        int k = 0;
        while (n->receiving_id[k] != l.event.transfer.transfer)
            assert_true(++k < MAX_EVENTS);
        assert_int_equal(n->receiving_count[k], l.payload_blocks);
        for (uint32_t b = 0; b < l.payload_blocks; b++)
            memcpy(slot(w, n, n->receiving_blocks[k][b], 0),
                   l.payload + (size_t)b * w->s.block_tokens,
                   w->s.block_tokens * sizeof *l.payload);
        n->receiving_id[k] = 0;
        free(n->receiving_blocks[k]);
    }
    tell(w, to, &l.event);
    free(l.tokens);
    free(l.payload);
}

/* Prompts over a tiny alphabet that extend one another, so that partial overlaps are everywhere.
 * Returns how many tokens are shared with a request that worker *holder served. */
static uint32_t make_request(world *w, uint32_t id, uint32_t *holder)
{
    uint32_t longest = w->s.capacity * w->s.block_tokens / 2;
    longest = longest < MAX_TOKENS ? longest : MAX_TOKENS;
    w->tokens[id] = cop_calloc(2 * MAX_TOKENS + 2, sizeof(uint32_t));
    uint32_t length = 1 + (uint32_t)cop_rng_below(&w->rng, longest), shared = 0;
    w->tenant[id] = cop_rng_below(&w->rng, 2);
    if (id && cop_rng_below(&w->rng, 4)) {
        uint32_t recent = id < 12 ? id : 12,
                 other = id - 1 - (uint32_t)cop_rng_below(&w->rng, recent);
        uint32_t known = w->prompt[other] + (w->done[other] ? w->output[other] : 0);
        shared = (uint32_t)cop_rng_below(&w->rng, known + 1);
        shared = shared < length ? shared : length;
        memcpy(w->tokens[id], w->tokens[other], shared * sizeof(uint32_t));
        w->tenant[id] = w->tenant[other];
        *holder = w->served_by[other];
    }
    for (uint32_t p = shared; p < length; p++)
        w->tokens[id][p] = (uint32_t)cop_rng_below(&w->rng, 3);
    w->prompt[id] = length;
    w->output[id] = 1 + (uint32_t)cop_rng_below(&w->rng, 9);
    return shared < length ? shared : length - 1;
}

static void submit(world *w, uint32_t id, uint64_t *transfer)
{
    uint32_t src = (uint32_t)cop_rng_below(&w->rng, WORKERS);
    uint32_t shared = make_request(w, id, &src);
    uint32_t to = (src + 1 + (uint32_t)cop_rng_below(&w->rng, WORKERS - 1)) % WORKERS;
    uint32_t full = shared / w->s.block_tokens;
    w->served_by[id] = to;
    letter *l;
    uint64_t planned = COP_NO_TRANSFER;
    if (w->s.cache && full && cop_rng_below(&w->rng, 2)) {
        uint64_t hash = cop_hash_root(w->tenant[id]);
        uint32_t blocks = full;
        for (uint32_t b = 0; b < blocks; b++)
            hash = cop_hash_block(hash, w->tokens[id] + (size_t)b * w->s.block_tokens,
                                  w->s.block_tokens);
        planned = ++*transfer;
        cop_plan plan = {.id = planned,
                         .request = id,
                         .src = src,
                         .dst = to,
                         .end_block = blocks,
                         .last_hash = hash,
                         .planned_ns = w->now};
        post(w, WORKERS, src, COP_WORKER_PLAN_SEND)->event.plan = plan;
        post(w, WORKERS, to, COP_WORKER_PLAN_RECEIVE)->event.plan = plan;
    }
    l = post(w, WORKERS, to, COP_WORKER_SUBMIT);
    l->event.submit.transfer = planned;
    l->event.submit.no_cache = w->no_cache[id] = cop_rng_below(&w->rng, 12) == 0;
    l->event.submit.request = (cop_request){.id = id,
                                            .tenant = w->tenant[id],
                                            .prompt_tokens = w->prompt[id],
                                            .output_tokens = w->output[id]};
    l->tokens = NULL;
    /* The tokens are stable in w->tokens; generated ones are appended there as they are drawn. */
    l->event.submit.request.tokens = w->tokens[id];
}

/* Forgets what goes on from the beginning of some request; requests and transfers that wait, or are
 * under way, must not notice. */
static void truncate_some(world *w, uint32_t self, uint32_t submitted)
{
    node *n = &w->nodes[self];
    uint32_t id = (uint32_t)cop_rng_below(&w->rng, submitted);
    uint32_t count = (uint32_t)cop_rng_below(&w->rng, w->prompt[id] + 1);
    w->cut += cop_worker_truncate(n->core, w->tenant[id], w->tokens[id], count);
    cop_worker_check(n->core);
}

static uint32_t finished_requests(const world *w)
{
    uint32_t finished = 0;
    for (uint32_t i = 0; i < WORKERS; i++)
        finished += w->nodes[i].finished;
    return finished;
}

static bool all_idle(const world *w)
{
    for (uint32_t i = 0; i < WORKERS; i++)
        if (!cop_worker_idle(w->nodes[i].core) || w->nodes[i].move_count)
            return false;
    return w->mail_count == 0;
}

static void run_world(const setting *s, uint64_t seed, world *w)
{
    memset(w, 0, sizeof *w);
    w->s = *s;
    cop_rng_init(&w->rng, seed, 0);
    cop_rng_init(&w->look, seed, 1);
    cop_worker_options options = {.block_tokens = s->block_tokens,
                                  .capacity_blocks = s->capacity,
                                  .host_blocks = s->host,
                                  .max_batch = s->max_batch,
                                  .chunk_tokens = s->chunk,
                                  .eviction = s->eviction,
                                  .cache_enabled = s->cache,
                                  .partial_blocks = s->partial,
                                  .transfer_timeout_ns = 40};
    cop_error err;
    for (uint32_t i = 0; i < WORKERS; i++) {
        assert_int_equal(cop_worker_open(&w->nodes[i].core, &options, &err), COP_OK);
        w->nodes[i].slots = cop_calloc((size_t)s->capacity * s->block_tokens, sizeof(uint64_t));
        w->nodes[i].host = cop_calloc((size_t)s->host * s->block_tokens, sizeof(uint64_t));
        cop_map_init(&w->nodes[i].told);
        cop_cost cost = {.per_token_ns = 1, .block_bytes = 1, .block_tokens = s->block_tokens};
        if (s->host_block_ns > 0)
            cop_worker_set_cost(w->nodes[i].core, &cost, 1, s->host_block_ns);
    }
    uint32_t submitted = 0;
    uint64_t transfer = 0;
    for (uint64_t turn = 0; submitted < REQUESTS || !all_idle(w); turn++) {
        assert_true(turn < 2000000);
        uint64_t choice = cop_rng_below(&w->rng, 8);
        uint32_t any = (uint32_t)cop_rng_below(&w->rng, WORKERS);
        if (choice == 0 && submitted < REQUESTS && submitted < finished_requests(w) + 10)
            submit(w, submitted++, &transfer);
        else if (choice < 4 && w->mail_count)
            deliver_one(w);
        else if (choice < 7 && w->nodes[any].step_count)
            finish_step(w, any);
        else if (w->nodes[any].move_count && cop_rng_below(&w->rng, 4))
            do_move(w, any);
        else if (s->cuts && submitted && !w->nodes[any].step_count &&
                 cop_rng_below(&w->rng, 30) == 0)
            truncate_some(w, any, submitted);
        else if (cop_worker_deadline_ns(w->nodes[any].core) <= w->now)
            tell(w, any, &(cop_worker_event){.kind = COP_WORKER_TICK});
        else
            w->now++;
        if (submitted)
            compare_told(w, &w->nodes[any], (uint32_t)cop_rng_below(&w->look, submitted));
    }
    for (uint32_t id = 0; id < REQUESTS; id++)
        assert_true(w->done[id]);
}

static void end_world(world *w)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        cop_worker_gauges gauges = cop_worker_read(w->nodes[i].core);
        assert_int_equal(gauges.pinned_blocks, 0);
        if (!w->s.cuts) { /* every slot holds a block, and is given back with it */
            cop_worker_truncate(w->nodes[i].core, 0, NULL, 0);
            cop_worker_truncate(w->nodes[i].core, 1, NULL, 0);
            gauges = cop_worker_read(w->nodes[i].core);
            assert_int_equal(gauges.used_blocks + gauges.host_blocks, 0);
        }
        cop_worker_close(w->nodes[i].core);
        cop_worker_actions_fini(&w->nodes[i].actions);
        assert_int_equal(w->nodes[i].turns.count, 0);
        cop_turns_fini(&w->nodes[i].turns);
        free(w->nodes[i].slots);
        free(w->nodes[i].host);
        free(w->nodes[i].moves);
        cop_map_fini(&w->nodes[i].told);
    }
    for (uint32_t id = 0; id < REQUESTS; id++)
        free(w->tokens[id]);
    free(w->mail);
}

static void test_every_step_sees_the_right_context(void **state)
{
    static const setting settings[] = {
        {4, 200, 8, 16, true, true, false, "lru", false, true, 0, 0},
        {4, 90, 8, 7, true, true, true, "lru", false, true, 0, 0},
        {4, 90, 3, 1, true, false, true, "fifo", false, true, 0, 0},
        {1, 330, 4, 32, true, true, true, "lfu", false, true, 0, 0},
        {16, 24, 6, 256, true, true, true, "lru", false, true, 0, 0},
        {16, 22, 2, 5, true, true, false, "lfu", false, true, 0, 0},
        {5, 80, 16, 11, false, true, false, "fifo", false, true, 0, 0},
        {4, 200, 8, 16, true, true, false, "lru", true, true, 0, 0},
        {4, 90, 8, 7, true, true, true, "lru", true, true, 0, 0},
        {1, 330, 4, 32, true, true, true, "lfu", true, true, 0, 0},
    };
    static world w;
    uint64_t seed = 20240611;
    printf("seed %llu\n", (unsigned long long)seed);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        run_world(&settings[i], seed + i, &w);
        printf("setting %zu: %llu hit tokens (%llu migrated), %llu copies, %llu evicted, "
               "%llu transfers done, %llu not, %llu ended early, %llu cut\n",
               i, (unsigned long long)w.hits, (unsigned long long)w.migrated,
               (unsigned long long)w.copies, (unsigned long long)w.evicted,
               (unsigned long long)w.transfers_done, (unsigned long long)w.transfers_failed,
               (unsigned long long)w.ended_early, (unsigned long long)w.cut);
        assert_true(w.ended_early > 50);
        if (settings[i].cache) { /* the run must have exercised what it claims to check */
            assert_true(w.hits > 1000 && w.evicted > 100 && w.transfers_failed > 0);
            assert_true(w.cut > 20 && w.migrated > 0 && w.transfers_done > 0);
            assert_true(settings[i].block_tokens == 1 || !settings[i].partial || w.copies > 0);
        } else {
            assert_int_equal(w.hits + w.copies + w.transfers_done, 0);
        }
        end_world(&w);
    }
}

/* Host tiers large and of one slot, blocks of one token, moves for nothing and dear ones, no cost. */
static void test_two_tiers(void **state)
{
    static const setting settings[] = {
        {4, 90, 8, 16, true, true, false, "lru", false, false, 60, 0},
        {4, 90, 8, 7, true, true, true, "lru", true, true, 200, 1},
        {4, 90, 3, 16, true, false, true, "fifo", true, false, 30, 0.5},
        {1, 330, 4, 32, true, true, true, "lfu", false, true, 200, 0},
        {16, 24, 6, 256, true, true, true, "lru", true, false, 40, 6},
        {16, 22, 2, 5, true, true, false, "lfu", false, false, 1, 0},
        {4, 90, 8, 16, true, true, true, "lru", false, false, 60, 1e9},
    };
    static world w;
    uint64_t seed = 20241124;
    printf("seed %llu\n", (unsigned long long)seed);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        run_world(&settings[i], seed + i, &w);
        printf("setting %zu: %llu hit tokens (%llu migrated, %llu host), %llu moved out, %llu in, "
               "%llu evicted, %llu cut\n",
               i, (unsigned long long)w.hits, (unsigned long long)w.migrated,
               (unsigned long long)w.hit_host, (unsigned long long)w.moved_out,
               (unsigned long long)w.moved_in, (unsigned long long)w.evicted,
               (unsigned long long)w.cut);
        assert_true(w.moved_out > 500 && w.evicted > 100 && w.migrated > 0);
        if (settings[i].host_block_ns < 1e6)
            assert_true(w.hit_host > 0 && w.moved_in > 0);
        else
            assert_int_equal(w.hit_host + w.moved_in, 0);
        end_world(&w);
    }
}

/* The tokens that are generated depend on the prompt alone: with and without the cache. */
static void test_first_tokens_do_not_depend_on_the_cache(void **state)
{
    static world with;
    setting s = {4, 200, 8, 16, true, true, true, "lru", false, true, 0, 0};
    run_world(&s, 5, &with);
    for (uint32_t id = 0; id < REQUESTS; id++) {
        uint64_t value = cop_hash_root(with.tenant[id]);
        for (uint32_t p = 0; p < with.prompt[id]; p++)
            value = slot_value(value, with.tokens[id][p]);
        assert_int_equal(with.first_token[id], draw(value));
    }
    end_world(&with);
}

/* What a worker answers when the offer of transfer `id` comes: the number of blocks that it posts a
 * receive for, 0 if it waits or declines. */
static uint32_t offer(cop_worker *core, uint64_t id, const uint32_t *tokens, uint32_t blocks)
{
    cop_worker_actions actions = {0};
    uint32_t posted = 0;
    cop_worker_event event = {.kind = COP_WORKER_PLAN_RECEIVE, .now_ns = (int64_t)id};
    event.plan = (cop_plan){.id = id, .end_block = blocks};
    cop_worker_step(core, &event, &actions);
    event = (cop_worker_event){.kind = COP_WORKER_OFFER, .now_ns = (int64_t)id};
    event.offer.transfer = id;
    event.offer.tokens = tokens;
    event.offer.blocks = blocks;
    cop_worker_step(core, &event, &actions);
    for (size_t i = 0; i < actions.count; i++)
        if (actions.items[i].kind == COP_ACT_RECEIVE)
            posted += actions.items[i].move.count;
    cop_worker_actions_fini(&actions);
    return posted;
}

/* Transfers may be started in the order of their ids, so an answer may wait for a smaller one to
 * bring the same blocks, and never for a larger one. */
static void test_answers_wait_for_smaller_transfers_only(void **state)
{
    static const uint32_t tokens[] = {1, 2, 3, 4};
    cop_worker_options options = {.block_tokens = 1,
                                  .capacity_blocks = 16,
                                  .max_batch = 1,
                                  .chunk_tokens = 1,
                                  .eviction = "lru",
                                  .cache_enabled = true};
    cop_worker *core;
    cop_error err;
    assert_int_equal(cop_worker_open(&core, &options, &err), COP_OK);
    assert_int_equal(offer(core, 5, tokens, 3), 3);
    assert_int_equal(offer(core, 7, tokens, 4), 0); /* 5 brings three of the four */
    assert_int_equal(offer(core, 2, tokens, 2), 2);
    cop_worker_event received = {.kind = COP_WORKER_RECEIVED, .now_ns = 8};
    cop_worker_actions actions = {0};
    received.transfer.intact = true;
    static const uint64_t ids[] = {2, 5, 7};
    for (int i = 0; i < 3; i++) {
        received.transfer.transfer = ids[i];
        cop_worker_step(core, &received, &actions);
        cop_worker_check(core);
    }
    cop_worker_gauges gauges = cop_worker_read(core);
    assert_int_equal(gauges.cached_blocks, 4); /* two came twice and were given back */
    assert_int_equal(gauges.used_blocks, 4);
    assert_true(cop_worker_idle(core));
    cop_worker_actions_fini(&actions);
    cop_worker_close(core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_step_sees_the_right_context),
        cmocka_unit_test(test_two_tiers),
        cmocka_unit_test(test_first_tokens_do_not_depend_on_the_cache),
        cmocka_unit_test(test_answers_wait_for_smaller_transfers_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
