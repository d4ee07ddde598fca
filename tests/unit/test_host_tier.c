/* The rules of the host tier, one by one, on a worker with blocks of 4 tokens whose engine steps are
 * done when the test says so. Tokens are the characters of a string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "core/worker.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4, TIMEOUT_NS = 1000, MOST = 32 };

typedef struct {
    cop_worker *core;
    cop_worker_actions actions;
    int64_t now_ns;
    uint64_t next_request;
    uint32_t step_count; /* sequences of the engine step in flight; each draws a token */
    /* What the last event gave rise to. */
    uint32_t out_blocks[MOST], out_slots[MOST], out_count;
    uint32_t in_blocks[MOST], in_slots[MOST], in_count;
    uint64_t move; /* the last MOVE_IN */
    uint64_t gone[MOST], inserted[MOST];
    uint32_t gone_count, inserted_count, evicted_count, gone_from_host;
    cop_worker_action offer, accept;
    uint32_t outcome, received; /* blocks posted to be received */
    cop_request_story stories[MOST];
    uint32_t story_count;
} bench;

static bench open_bench(uint32_t capacity, uint32_t host, uint32_t batch)
{
    bench b = {.now_ns = 1};
    cop_worker_options options = {.block_tokens = BLOCK,
                                  .capacity_blocks = capacity,
                                  .host_blocks = host,
                                  .max_batch = batch,
                                  .chunk_tokens = 64,
                                  .eviction = "lru",
                                  .cache_enabled = true,
                                  .partial_blocks = true,
                                  .transfer_timeout_ns = TIMEOUT_NS};
    cop_error err;
    assert_int_equal(cop_worker_open(&b.core, &options, &err), COP_OK);
    return b;
}

static void close_bench(bench *b)
{
    cop_worker_close(b->core);
    cop_worker_actions_fini(&b->actions);
}

static void note(bench *b, const cop_worker_action *a)
{
    switch (a->kind) {
    case COP_ACT_MOVE_OUT:
        assert_int_equal(b->in_count + b->evicted_count, 0); /* before all that needs the room */
        memcpy(b->out_blocks + b->out_count, a->tier.blocks, a->tier.count * sizeof(uint32_t));
        memcpy(b->out_slots + b->out_count, a->tier.slots, a->tier.count * sizeof(uint32_t));
        b->out_count += a->tier.count;
        break;
    case COP_ACT_MOVE_IN:
        memcpy(b->in_blocks + b->in_count, a->tier.blocks, a->tier.count * sizeof(uint32_t));
        memcpy(b->in_slots + b->in_count, a->tier.slots, a->tier.count * sizeof(uint32_t));
        b->in_count += a->tier.count;
        b->move = a->tier.id;
        break;
    case COP_ACT_EVICTED:
        memcpy(b->gone + b->gone_count, a->blocks.hashes, a->blocks.count * sizeof(uint64_t));
        b->gone_count += a->blocks.count;
        b->evicted_count += a->blocks.evicted_count;
        for (uint32_t i = 0; i < a->blocks.evicted_count; i++)
            b->gone_from_host += a->blocks.evicted[i].tier == COP_TIER_HOST;
        break;
    case COP_ACT_INSERTED:
        memcpy(b->inserted + b->inserted_count, a->blocks.hashes,
               a->blocks.count * sizeof(uint64_t));
        b->inserted_count += a->blocks.count;
        break;
    case COP_ACT_FINISHED:
        b->stories[b->story_count++] = a->story;
        break;
    case COP_ACT_OFFER:
        b->offer = *a;
        break;
    case COP_ACT_ACCEPT:
        b->accept = *a;
        break;
    case COP_ACT_RECEIVE:
        b->received = a->move.count;
        break;
    case COP_ACT_TRANSFER_ENDED:
        b->outcome = a->ended.outcome;
        break;
    case COP_ACT_COPY:
    case COP_ACT_SEND:
    case COP_ACT_FIRST_TOKEN:
        break;
    }
}

static void tell(bench *b, cop_worker_event *event)
{
    b->out_count = b->in_count = b->gone_count = b->inserted_count = b->evicted_count = 0;
    b->gone_from_host = 0;
    event->now_ns = ++b->now_ns;
    cop_worker_step(b->core, event, &b->actions);
    for (size_t i = 0; i < b->actions.count; i++)
        note(b, &b->actions.items[i]);
    if (b->actions.start_step)
        b->step_count = b->actions.step_count;
    cop_worker_check(b->core);
}

static uint32_t spell(const char *text, uint32_t tokens[64])
{
    uint32_t count = (uint32_t)strlen(text);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (unsigned char)text[i];
    return count;
}

static uint64_t submit(bench *b, const char *prompt, uint64_t transfer)
{
    uint32_t tokens[64];
    cop_worker_event event = {.kind = COP_WORKER_SUBMIT};
    event.submit.request = (cop_request){.id = b->next_request,
                                         .tokens = tokens,
                                         .prompt_tokens = spell(prompt, tokens),
                                         .output_tokens = 1};
    event.submit.transfer = transfer;
    tell(b, &event);
    return b->next_request++;
}

static void finish_step(bench *b)
{
    uint32_t drawn[MOST] = {0};
    assert_true(b->step_count > 0);
    b->step_count = 0;
    cop_worker_event event = {.kind = COP_WORKER_STEP_DONE,
                              .step = {.tokens = drawn, .started_ns = b->now_ns}};
    event.step.ended_ns = b->now_ns + 1;
    tell(b, &event);
}

static void moved_in(bench *b)
{
    tell(b, &(cop_worker_event){.kind = COP_WORKER_MOVED_IN, .moved = {.id = b->move}});
}

/* A whole request that waits for nothing. */
static cop_request_story compute(bench *b, const char *prompt)
{
    uint32_t before = b->story_count;
    submit(b, prompt, COP_NO_TRANSFER);
    finish_step(b);
    assert_int_equal(b->story_count, before + 1);
    return b->stories[before];
}

static uint64_t hash_of(const char *text)
{
    uint32_t tokens[64], count = spell(text, tokens);
    uint64_t hash = cop_hash_root(0);
    for (uint32_t i = 0; i + BLOCK <= count; i += BLOCK)
        hash = cop_hash_block(hash, tokens + i, BLOCK);
    return hash;
}

static uint32_t matched(const bench *b, const char *text)
{
    uint32_t tokens[64], count = spell(text, tokens);
    return cop_worker_match(b->core, 0, tokens, count);
}

static cop_plan plan_of(const char *path, uint32_t have)
{
    return (cop_plan){.id = 7,
                      .end_block = (uint32_t)strlen(path) / BLOCK,
                      .have_block = have,
                      .last_hash = hash_of(path)};
}

static void offer(bench *b, const char *path)
{
    uint32_t tokens[64];
    tell(b, &(cop_worker_event){.kind = COP_WORKER_PLAN_RECEIVE, .plan = plan_of(path, 0)});
    cop_worker_event event = {.kind = COP_WORKER_OFFER};
    event.offer.transfer = 7;
    event.offer.blocks = spell(path, tokens) / BLOCK;
    event.offer.tokens = tokens;
    tell(b, &event);
}

static void expect_used(const bench *b, uint32_t cached, uint32_t host)
{
    cop_worker_gauges gauges = cop_worker_read(b->core);
    assert_int_equal(gauges.cached_blocks, cached);
    assert_int_equal(gauges.host_blocks, host);
}

static const cop_cost dear_compute = {
    .per_token_ns = 100, .block_bytes = 10, .block_tokens = BLOCK};

/* Deepest first, full blocks alone, and nobody is told that anything has gone. */
static void test_a_full_victim_goes_to_the_host(void **state)
{
    bench b = open_bench(4, 4, 1);
    compute(&b, "aaaabbbbcc"); /* 2 full blocks and a partial one */
    expect_used(&b, 3, 0);
    submit(&b, "ddddeeeeffff", COP_NO_TRANSFER); /* needs 3, 1 is free: the partial one goes too */
    assert_int_equal(b.out_count, 1);
    assert_int_equal(b.evicted_count, 1);
    assert_int_equal(b.gone_count, 0);
    finish_step(&b);
    expect_used(&b, 4, 1);
    assert_int_equal(matched(&b, "aaaabbbbcc"), 8);
    close_bench(&b);
}

static void test_gone_is_what_neither_tier_has(void **state)
{
    bench b = open_bench(2, 2, 1);
    compute(&b, "aaaabbbb");
    compute(&b, "ccccdddd");
    expect_used(&b, 2, 2);
    submit(&b, "eeeeffff", COP_NO_TRANSFER);
    assert_int_equal(b.gone_count, 2); /* of the host, the deeper first */
    assert_int_equal(b.gone_from_host, 2);
    assert_true(b.gone[0] == hash_of("aaaabbbb") && b.gone[1] == hash_of("aaaa"));
    assert_int_equal(b.out_count, 2);
    assert_int_equal(matched(&b, "ccccdddd"), 8);
    assert_int_equal(matched(&b, "aaaabbbb"), 0);
    close_bench(&b);
}

/* With fewer slots than victims the first go for good; no slot is named twice. */
static void test_a_slot_is_written_once_by_a_move_out(void **state)
{
    bench b = open_bench(4, 1, 1);
    compute(&b, "aaaabbbbccccdddd");
    submit(&b, "eeeeffffgggghhhh", COP_NO_TRANSFER);
    assert_int_equal(b.out_count, 1);
    assert_int_equal(b.gone_count, 3);
    assert_int_equal(b.gone_from_host, 0); /* they never were there */
    assert_true(b.gone[0] == hash_of("aaaabbbbccccdddd") && b.gone[2] == hash_of("aaaabbbb"));
    finish_step(&b);
    assert_int_equal(matched(&b, "aaaabbbbccccdddd"), 4);
    close_bench(&b);
}

static void test_what_was_demoted_comes_back(void **state)
{
    bench b = open_bench(4, 4, 1);
    compute(&b, "aaaabbbbccccd");
    compute(&b, "eeeeffffggggh");
    expect_used(&b, 4, 3);
    submit(&b, "aaaabbbbccccx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 3);
    assert_int_equal(b.out_count, 1); /* gggg, then ffff in its place: the only slot that can go */
    assert_true(b.gone_count == 1 && b.gone[0] == hash_of("eeeeffffgggg"));
    assert_int_equal(b.step_count, 0); /* the request waits */
    int64_t begun_ns = b.now_ns;
    b.now_ns += 50;
    moved_in(&b);
    assert_int_equal(b.step_count, 1);
    finish_step(&b);
    cop_request_story story = b.stories[2];
    assert_int_equal(story.hit_host, 12);
    assert_int_equal(story.hit_local + story.hit_migrated, 0);
    assert_int_equal(story.computed, 1);
    assert_int_equal(story.resident_tokens, 12);
    assert_int_equal(story.queue_end_ns, begun_ns);
    assert_int_equal(story.transfer_end_ns, begun_ns + 51);
    assert_int_equal(cop_worker_read(b.core).host_hit_tokens, 12);
    close_bench(&b);
}

/* It is all or nothing, by alpha + beta * bytes against what computing the tokens would take. */
static void test_the_cost_decides(void **state)
{
    bench b = open_bench(4, 4, 1);
    compute(&b, "aaaabbbbcccc");
    compute(&b, "eeeeffffggggh");
    assert_int_equal(matched(&b, "aaaabbbbccccx"), 12);
    expect_used(&b, 4, 3);
    cop_worker_set_cost(b.core, &dear_compute, 900, 10); /* 900 + 10 * 3 * 10 = 3 * 4 * 100 */
    cop_request_story story = compute(&b, "aaaabbbbccccx");
    assert_int_equal(story.hit_host, 0);
    assert_int_equal(story.computed, 13);
    compute(&b, "eeeeffffggggh");
    cop_worker_set_cost(b.core, &dear_compute, 899, 10);
    submit(&b, "aaaabbbbccccx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 3);
    close_bench(&b);
}

/* Then the slots are free, and the router, which knew of the blocks all along, hears nothing. */
static void test_computed_blocks_take_the_place_of_slots(void **state)
{
    bench b = open_bench(4, 4, 1);
    cop_worker_set_cost(b.core, &dear_compute, 1e9, 0);
    compute(&b, "aaaabbbbcccc");
    compute(&b, "eeeeffffgggg");
    expect_used(&b, 4, 2);
    submit(&b, "aaaabbbbccccdddd", COP_NO_TRANSFER); /* aaaa is still on the device */
    assert_int_equal(b.out_count, 3);
    assert_int_equal(b.evicted_count, 1); /* of 3 victims 2 find a free slot, the third takes one */
    finish_step(&b);
    assert_int_equal(b.stories[2].hit_local, 4);
    assert_int_equal(b.inserted_count, 2); /* of bbbb, cccc, dddd the host had one */
    expect_used(&b, 4, 3);
    close_bench(&b);
}

static void test_two_requests_share_a_move(void **state)
{
    bench b = open_bench(8, 8, 4);
    compute(&b, "aaaabbbbccccddddeeeeffff");
    compute(&b, "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH");
    expect_used(&b, 8, 6);
    submit(&b, "aaaabbbbccccx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 3);
    submit(&b, "aaaabbbby", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 0);
    assert_int_equal(b.step_count, 0);
    submit(&b, "zz", COP_NO_TRANSFER); /* others run */
    assert_int_equal(b.step_count, 1);
    moved_in(&b);
    finish_step(&b); /* then both are admitted */
    assert_int_equal(b.step_count, 2);
    finish_step(&b);
    assert_int_equal(b.stories[3].hit_host, 12);
    assert_int_equal(b.stories[4].hit_host, 8);
    close_bench(&b);
}

/* What the first move does not bring, a second does; there is no third. */
static void test_a_request_has_a_move_of_its_own_after_one_it_shared(void **state)
{
    bench b = open_bench(8, 8, 4);
    compute(&b, "aaaabbbbccccddddeeeeffff");
    compute(&b, "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH");
    submit(&b, "aaaabbbbx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 2);
    submit(&b, "aaaabbbbccccddddx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 0);
    moved_in(&b);
    assert_int_equal(b.in_count, 2);
    assert_int_equal(b.step_count, 1);
    moved_in(&b);
    finish_step(&b);
    finish_step(&b);
    assert_int_equal(b.stories[2].hit_host, 8);
    assert_int_equal(b.stories[3].hit_host, 16);
    close_bench(&b);
}

/* After its deadline a request computes what is still on its way; the move then frees what it was
 * to fill. */
static void test_a_late_move_is_not_waited_for(void **state)
{
    bench b = open_bench(8, 8, 1);
    compute(&b, "aaaabbbbcccc");
    compute(&b, "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH");
    submit(&b, "aaaabbbbccccx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 3);
    assert_int_equal(cop_worker_deadline_ns(b.core), b.now_ns + TIMEOUT_NS);
    int64_t begun_ns = b.now_ns;
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_TICK});
    assert_int_equal(b.step_count, 0);
    b.now_ns = begun_ns + TIMEOUT_NS - 1;
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_TICK});
    assert_int_equal(b.step_count, 1);
    finish_step(&b);
    assert_int_equal(b.inserted_count, 0); /* the router knew */
    cop_request_story story = b.stories[2];
    assert_int_equal(story.hit_host, 0);
    assert_int_equal(story.computed, 13);
    assert_int_equal(story.transfer_end_ns - story.queue_end_ns, TIMEOUT_NS);
    assert_false(cop_worker_idle(b.core));
    uint32_t host = cop_worker_read(b.core).host_blocks;
    moved_in(&b);
    assert_true(cop_worker_idle(b.core));
    assert_int_equal(cop_worker_read(b.core).host_blocks, host - 3);
    assert_int_equal(cop_worker_read(b.core).pinned_blocks, 0);
    assert_int_equal(matched(&b, "aaaabbbbccccx"), 13);
    close_bench(&b);
}

/* The pool is so tight, and the slots so few, that all slots are on their way in. */
static void test_no_slot_to_demote_to(void **state)
{
    bench b = open_bench(3, 2, 1);
    compute(&b, "aaaabbbb");
    compute(&b, "ccccddddeeee");
    expect_used(&b, 3, 2);
    submit(&b, "aaaabbbbx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 2);
    assert_int_equal(b.out_count, 0);
    assert_int_equal(b.gone_count, 2);
    moved_in(&b);
    assert_int_equal(b.out_count, 1); /* the slots are free by now */
    finish_step(&b);
    assert_int_equal(b.stories[2].hit_host, 8);
    close_bench(&b);
}

/* A request that waits for a place in the batch keeps what came for it, */
static void test_what_came_is_kept(void **state)
{
    bench b = open_bench(4, 4, 1);
    compute(&b, "aaaabbbb");
    compute(&b, "ccccddddeeee");
    submit(&b, "aaaabbbbx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 1);
    submit(&b, "q", COP_NO_TRANSFER);
    assert_int_equal(b.step_count, 1);
    moved_in(&b);
    offer(&b, "ffffgggg");
    assert_int_equal(b.outcome, COP_TRANSFER_NO_ROOM);
    finish_step(&b);
    finish_step(&b);
    assert_int_equal(b.stories[3].hit_host, 4);
    assert_int_equal(b.stories[3].hit_local, 4);
    assert_int_equal(cop_worker_read(b.core).pinned_blocks, 0);
    close_bench(&b);
}

/* but not from one before it. */
static void test_who_is_first_has_the_room(void **state)
{
    bench b = open_bench(4, 8, 1);
    compute(&b, "aaaabbbb");
    compute(&b, "ccccddddeeee");
    cop_plan plan = plan_of("ffff", 0);
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_PLAN_RECEIVE, .plan = plan});
    uint64_t first = submit(&b, "ffffgggghhhhiiii", plan.id);
    submit(&b, "aaaabbbbx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 1);
    submit(&b, "q", COP_NO_TRANSFER);
    moved_in(&b);
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_OFFER,
                                 .offer = {.transfer = plan.id, .outcome = COP_TRANSFER_GONE}});
    finish_step(&b);
    assert_int_equal(b.step_count, 1);
    finish_step(&b);
    assert_int_equal(b.stories[3].request, first);
    moved_in(&b); /* the other has had one move, and has another */
    finish_step(&b);
    assert_int_equal(b.stories[4].hit_host, 8);
    assert_int_equal(cop_worker_read(b.core).pinned_blocks, 0);
    close_bench(&b);
}

/* A block of which only a part is needed comes back too, to be copied, if there is room for both. */
static void test_a_part_of_a_block_comes_back(void **state)
{
    bench b = open_bench(4, 4, 1);
    compute(&b, "aaaabbbb");
    compute(&b, "ccccddddeeeeffff");
    submit(&b, "aaaabbx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 2);
    moved_in(&b);
    finish_step(&b);
    assert_int_equal(b.stories[2].hit_host, 6);
    close_bench(&b);

    b = open_bench(2, 4, 1);
    compute(&b, "aaaabbbb");
    compute(&b, "ccccdddd");
    submit(&b, "aaaabbx", COP_NO_TRANSFER);
    assert_int_equal(b.in_count, 1);
    moved_in(&b);
    finish_step(&b);
    assert_int_equal(b.stories[2].hit_host, 4);
    close_bench(&b);
}

static void test_a_source_offers_what_is_on_the_device(void **state)
{
    bench b = open_bench(4, 4, 1);
    compute(&b, "aaaabbbbcccc");
    compute(&b, "ddddeeee"); /* cccc goes to the host */
    expect_used(&b, 4, 1);
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_PLAN_SEND, .plan = plan_of("aaaabbbbcccc", 2)});
    assert_int_equal(b.offer.offer.blocks, 0);
    assert_int_equal(b.offer.offer.outcome, COP_TRANSFER_GONE);
    assert_true(cop_worker_idle(b.core));
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_PLAN_SEND, .plan = plan_of("aaaabbbbcccc", 1)});
    assert_int_equal(b.offer.offer.blocks, 2);
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_ACCEPT,
                                 .accept = {.transfer = 7, .from = 1, .count = 1}});
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_SENT, .transfer = {.transfer = 7}});
    assert_true(cop_worker_idle(b.core));
    close_bench(&b);
}

static void test_received_blocks_take_the_place_of_slots(void **state)
{
    bench b = open_bench(6, 6, 1);
    compute(&b, "aaaabbbb");
    compute(&b, "ddddeeeeffffgggghhhh");
    expect_used(&b, 6, 1);
    offer(&b, "aaaabbbb"); /* both tiers together have it */
    assert_int_equal(b.accept.move.count, 0);
    assert_int_equal(b.outcome, COP_TRANSFER_NEEDLESS);
    offer(&b, "aaaabbbbcccc");
    assert_int_equal(b.accept.move.from, 1);
    assert_int_equal(b.received, 2);
    expect_used(&b, 4, 3);
    tell(&b, &(cop_worker_event){.kind = COP_WORKER_RECEIVED,
                                 .transfer = {.transfer = 7, .intact = true}});
    assert_int_equal(b.inserted_count, 1);
    assert_true(b.inserted[0] == hash_of("aaaabbbbcccc"));
    expect_used(&b, 6, 2);
    close_bench(&b);
}

/* Both tiers are cut back; the list of cached blocks is of the device alone. */
static void test_truncation_covers_both_tiers(void **state)
{
    bench b = open_bench(4, 8, 1);
    uint32_t tokens[64];
    cop_cached_block cached[MOST];
    compute(&b, "aaaabbbbccccdddd");
    compute(&b, "eeeeffff");
    expect_used(&b, 4, 2);
    assert_int_equal(cop_worker_cached(b.core, cached), 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(cached[i].block < 4);
    assert_int_equal(cop_worker_truncate(b.core, 0, tokens, spell("aaaabbbbcccc", tokens)), 1);
    expect_used(&b, 4, 1);
    assert_int_equal(matched(&b, "aaaabbbbccccdddd"), 12);
    assert_int_equal(cop_worker_truncate(b.core, 0, tokens, spell("aaaabbbbcc", tokens)), 1);
    assert_int_equal(matched(&b, "aaaabbbbccccdddd"), 8); /* no part of a block on the host */
    expect_used(&b, 4, 0);
    assert_int_equal(cop_worker_truncate(b.core, 0, tokens, 0), 4);
    expect_used(&b, 0, 0);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_victim_goes_to_the_host),
        cmocka_unit_test(test_gone_is_what_neither_tier_has),
        cmocka_unit_test(test_a_slot_is_written_once_by_a_move_out),
        cmocka_unit_test(test_what_was_demoted_comes_back),
        cmocka_unit_test(test_the_cost_decides),
        cmocka_unit_test(test_computed_blocks_take_the_place_of_slots),
        cmocka_unit_test(test_two_requests_share_a_move),
        cmocka_unit_test(test_a_request_has_a_move_of_its_own_after_one_it_shared),
        cmocka_unit_test(test_a_late_move_is_not_waited_for),
        cmocka_unit_test(test_no_slot_to_demote_to),
        cmocka_unit_test(test_what_came_is_kept),
        cmocka_unit_test(test_who_is_first_has_the_room),
        cmocka_unit_test(test_a_part_of_a_block_comes_back),
        cmocka_unit_test(test_a_source_offers_what_is_on_the_device),
        cmocka_unit_test(test_received_blocks_take_the_place_of_slots),
        cmocka_unit_test(test_truncation_covers_both_tiers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
