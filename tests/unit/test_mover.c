/* The mover on devices and a transport of the test's own, that do nothing until they are told to: a
 * world of ranks in one process, whose copies and messages end in random order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "drive/mover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 3, BLOCKS = 64, FIRST_SLOT = 5, MOST_SLOTS = 16, MOST = 256, SEED = 20241124 };

typedef struct {
    bool in;
    uint32_t blocks[MOST_SLOTS], slots[MOST_SLOTS], count;
} copy;

struct cop_device {
    uint64_t pool[BLOCKS], host[FIRST_SLOT + MOST_SLOTS]; /* a block is one number */
    copy copies[MOST];                                    /* [ticket - 1] */
    uint64_t asked, done;
};

typedef struct {
    uint64_t id;
    bool outgoing, ended;
    int peer;
    uint64_t *blocks[MOST];
    uint32_t count;
} message;

struct cop_kv {
    int rank;
    cop_kv **all; /* [RANKS] */
    message posted[MOST];
    uint32_t count;
    cop_kv_done done[MOST];
    uint32_t done_count, reported;
    uint64_t announced[MOST], forgotten[MOST];
    uint32_t announced_count, forgotten_count;
};

/* ---- the device ------------------------------------------------------------------------- */

static uint64_t ask(cop_device *d, bool in, const uint32_t *blocks, const uint32_t *slots,
                    uint32_t count)
{
    assert_true(d->asked < MOST && count > 0 && count <= MOST_SLOTS);
    copy *c = &d->copies[d->asked++];
    *c = (copy){.in = in, .count = count};
    memcpy(c->blocks, blocks, count * sizeof *blocks);
    memcpy(c->slots, slots, count * sizeof *slots);
    for (uint32_t i = 0; i < count; i++)
        assert_in_range(slots[i], FIRST_SLOT, FIRST_SLOT + MOST_SLOTS - 1);
    return d->asked;
}

static uint64_t move_out(cop_device *d, const uint32_t *blocks, const uint32_t *slots,
                         uint32_t count)
{
    return ask(d, false, blocks, slots, count);
}

static uint64_t move_in(cop_device *d, const uint32_t *blocks, const uint32_t *slots,
                        uint32_t count)
{
    return ask(d, true, blocks, slots, count);
}

static bool moved(cop_device *d, uint64_t ticket)
{
    return ticket <= d->done;
}

static void *host_slot(cop_device *d, uint32_t slot)
{
    return &d->host[slot];
}

static void *block_address(cop_device *d, uint32_t block)
{
    return &d->pool[block];
}

static void copy_one(cop_device *d)
{
    if (d->done == d->asked)
        return;
    const copy *c = &d->copies[d->done++];
    for (uint32_t i = 0; i < c->count; i++)
        if (c->in)
            d->pool[c->blocks[i]] = d->host[c->slots[i]];
        else
            d->host[c->slots[i]] = d->pool[c->blocks[i]];
}

static const cop_device_ops gpu = {.name = "gpu",
                                   .block_address = block_address,
                                   .host_slot = host_slot,
                                   .move_out = move_out,
                                   .move_in = move_in,
                                   .moved = moved};
static const cop_device_ops cpu = {
    .name = "cpu", .block_address = block_address, .host_memory = true};

/* ---- the transport ---------------------------------------------------------------------- */

/* As MPI's tags: two of one direction, peer and id at a time would be confused. */
static void post(cop_kv *kv, uint64_t id, bool outgoing, int peer, void *const *blocks,
                 uint32_t count)
{
    for (uint32_t i = 0; i < kv->count; i++) {
        const message *m = &kv->posted[i];
        assert_true(m->ended || m->id != id || m->outgoing != outgoing || m->peer != peer);
    }
    assert_true(kv->count < MOST);
    message *m = &kv->posted[kv->count++];
    *m = (message){.id = id, .outgoing = outgoing, .peer = peer, .count = count};
    memcpy(m->blocks, blocks, count * sizeof *blocks);
}

static void kv_send(cop_kv *kv, uint64_t id, int to, void *const *blocks, uint32_t count)
{
    post(kv, id, true, to, blocks, count);
}

static void kv_receive(cop_kv *kv, uint64_t id, int from, void *const *blocks, uint32_t count)
{
    post(kv, id, false, from, blocks, count);
}

static void end_message(cop_kv *kv, message *m)
{
    m->ended = true;
    kv->done[kv->done_count++] = (cop_kv_done){.transfer = m->id,
                                               .sent = m->outgoing,
                                               .bytes = m->count * sizeof(uint64_t),
                                               .wait_ns = 5,
                                               .wire_ns = 7};
}

/* Carries one message that both ends have posted, if there is any. */
static void carry(cop_kv *kv, cop_rng *rng)
{
    uint32_t first = kv->count ? (uint32_t)cop_rng_below(rng, kv->count) : 0;
    for (uint32_t i = 0; i < kv->count; i++) {
        message *m = &kv->posted[(first + i) % kv->count];
        cop_kv *peer = kv->all[m->peer];
        for (uint32_t k = 0; k < peer->count && m->outgoing && !m->ended; k++) {
            message *there = &peer->posted[k];
            if (there->outgoing || there->ended || there->id != m->id || there->peer != kv->rank)
                continue;
            assert_int_equal(there->count, m->count);
            for (uint32_t b = 0; b < m->count; b++)
                *there->blocks[b] = *m->blocks[b];
            end_message(kv, m);
            end_message(peer, there);
            return;
        }
    }
}

static cop_status kv_poll(cop_kv *kv, cop_kv_done *done, bool *ended, cop_error *err)
{
    *ended = kv->reported < kv->done_count;
    if (*ended)
        *done = kv->done[kv->reported++];
    return COP_OK;
}

static bool kv_idle(const cop_kv *kv)
{
    return kv->reported == kv->count;
}

static void kv_expect(cop_kv *kv, uint64_t id)
{
    kv->announced[kv->announced_count++] = id;
}

static void kv_forget(cop_kv *kv, uint64_t id)
{
    kv->forgotten[kv->forgotten_count++] = id;
}

static const cop_kv_ops over_host = {.name = "host",
                                     .send = kv_send,
                                     .receive = kv_receive,
                                     .poll = kv_poll,
                                     .idle = kv_idle,
                                     .expect = kv_expect,
                                     .forget = kv_forget};
static const cop_kv_ops over_gpu = {.name = "between_gpus",
                                    .device_memory = true,
                                    .send = kv_send,
                                    .receive = kv_receive,
                                    .poll = kv_poll,
                                    .idle = kv_idle,
                                    .expect = kv_expect,
                                    .forget = kv_forget};

/* ---- tests ------------------------------------------------------------------------------ */

typedef struct {
    cop_rng rng;
    cop_device devices[RANKS];
    cop_kv kvs[RANKS], *all[RANKS];
    cop_mover *movers[RANKS];
} world;

static void open_world(world *w, const cop_device_ops *device, const cop_kv_ops *kv, uint32_t slots,
                       uint64_t seed)
{
    memset(w, 0, sizeof *w);
    cop_rng_init(&w->rng, seed, 0);
    for (int r = 0; r < RANKS; r++) {
        w->all[r] = &w->kvs[r];
        w->kvs[r].rank = r;
        w->kvs[r].all = w->all;
        for (uint32_t b = 0; b < BLOCKS; b++)
            w->devices[r].pool[b] = (uint64_t)r << 32 | b;
        cop_mover_open(&w->movers[r], &(cop_mover_options){device, &w->devices[r], kv, &w->kvs[r],
                                                           FIRST_SLOT, slots});
    }
}

static void close_world(world *w)
{
    for (int r = 0; r < RANKS; r++)
        cop_mover_close(w->movers[r]);
}

static void test_who_works_with_whom(void **state)
{
    cop_error err;
    uint32_t slots = 9;
    assert_int_equal(cop_mover_slots(&cpu, &over_host, 64, &slots, &err), COP_OK);
    assert_int_equal(slots, 0);
    assert_int_equal(cop_mover_slots(&gpu, &over_gpu, 64, &slots, &err), COP_OK);
    assert_int_equal(slots, 0);
    assert_int_equal(cop_mover_slots(&gpu, &over_host, 64, &slots, &err), COP_OK);
    assert_int_equal(slots, 64);
    assert_int_equal(cop_mover_slots(&cpu, &over_gpu, 64, &slots, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "transport.kv between_gpus"));
    assert_non_null(strstr(err.text, "device.kind cpu"));
}

static void test_direct(void **state)
{
    static world w;
    static const uint32_t from[] = {3, 9, 4}, to[] = {60, 61, 1};
    open_world(&w, &gpu, &over_gpu, 0, 1);
    for (int r = 0; r < 2; r++) {
        cop_mover_expect(w.movers[r], 6);
        cop_mover_expect(w.movers[r], 8);
        cop_mover_forget(w.movers[r], 6);
        assert_int_equal(w.kvs[r].announced_count, 2); /* the transport keeps the order */
        assert_int_equal(w.kvs[r].forgotten[0], 6);
    }
    cop_mover_send(w.movers[0], 8, 1, from, 3);
    cop_mover_receive(w.movers[1], 8, 0, to, 3);
    assert_false(cop_mover_idle(w.movers[0]));
    carry(&w.kvs[0], &w.rng);
    for (int r = 0; r < 2; r++) {
        cop_kv_done done;
        bool ended;
        cop_error err;
        assert_int_equal(cop_mover_poll(w.movers[r], &done, &ended, &err), COP_OK);
        assert_true(ended && done.transfer == 8 && done.sent == (r == 0));
        assert_true(done.bytes == 24 && done.wait_ns == 5 && done.wire_ns == 7);
        assert_true(cop_mover_idle(w.movers[r]));
        assert_int_equal(w.devices[r].asked, 0);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(w.devices[1].pool[to[i]], from[i]);
    close_world(&w);
}

typedef struct {
    int src, dst;
    uint32_t from[BLOCKS], to[BLOCKS], count;
    bool dropped, announced[2], posted[2], ended[2];
} plan;

/* Half of each pool is only sent from, half received into, each block once. */
static uint32_t make_plans(world *w, plan *plans, uint32_t most)
{
    uint32_t next_in[RANKS] = {0}, count = 0;
    for (; count < most; count++) {
        plan *p = &plans[count];
        *p = (plan){.src = (int)cop_rng_below(&w->rng, RANKS)};
        p->dst = (p->src + 1 + (int)cop_rng_below(&w->rng, RANKS - 1)) % RANKS;
        p->count = 1 + (uint32_t)cop_rng_below(&w->rng, 12);
        p->dropped = cop_rng_below(&w->rng, 5) == 0;
        if (next_in[p->dst] + p->count > BLOCKS / 2)
            break;
        for (uint32_t i = 0; i < p->count; i++) {
            p->from[i] = BLOCKS / 2 + (uint32_t)cop_rng_below(&w->rng, BLOCKS / 2);
            p->to[i] = next_in[p->dst] + i;
        }
        next_in[p->dst] += p->dropped ? 0 : p->count;
    }
    return count;
}

/* The next plan that this end has not heard of, in order; or any that it has and not answered. */
static void act(world *w, plan *plans, uint32_t count, int rank)
{
    uint32_t first = (uint32_t)cop_rng_below(&w->rng, count);
    bool announce = cop_rng_below(&w->rng, 2) == 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = announce ? i : (first + i) % count;
        plan *p = &plans[at];
        int end = p->dst == rank;
        if (p->src != rank && p->dst != rank)
            continue;
        if (announce && !p->announced[end]) {
            p->announced[end] = true;
            cop_mover_expect(w->movers[rank], at + 1);
            return;
        }
        if (announce || !p->announced[end] || p->posted[end])
            continue;
        p->posted[end] = true;
        if (p->dropped)
            cop_mover_forget(w->movers[rank], at + 1);
        else if (end)
            cop_mover_receive(w->movers[rank], at + 1, p->src, p->to, p->count);
        else
            cop_mover_send(w->movers[rank], at + 1, p->dst, p->from, p->count);
        return;
    }
}

static uint32_t poll_once(world *w, plan *plans, uint32_t slots, int rank)
{
    cop_kv_done done;
    bool ended;
    cop_error err;
    assert_int_equal(cop_mover_poll(w->movers[rank], &done, &ended, &err), COP_OK);
    if (!ended)
        return 0;
    plan *p = &plans[done.transfer - 1];
    int end = p->dst == rank;
    assert_true(p->posted[end] && !p->ended[end] && !p->dropped && done.sent == (end == 0));
    p->ended[end] = true;
    assert_int_equal(done.bytes, p->count * sizeof(uint64_t));
    assert_int_equal(done.wait_ns, 5);
    assert_true(done.wire_ns >= 7);
    for (uint32_t i = 0; i < p->count && end; i++) /* in the pool already */
        assert_int_equal(w->devices[rank].pool[p->to[i]], (uint64_t)p->src << 32 | p->from[i]);
    return 1;
}

/* Everything ends, with the right content, whatever comes first; and copies of one part overlap the
 * wire of the other. */
static void run_staged(uint32_t slots, uint64_t seed, uint32_t *overlapped)
{
    static world w;
    static plan plans[24];
    open_world(&w, &gpu, &over_host, slots, seed);
    uint32_t count = make_plans(&w, plans, 24), left = 0;
    for (uint32_t i = 0; i < count; i++)
        left += plans[i].dropped ? 0 : 2;
    for (uint32_t turn = 0; left; turn++) {
        assert_true(turn < 200000); /* nothing stands still */
        int rank = (int)cop_rng_below(&w.rng, RANKS);
        uint64_t choice = cop_rng_below(&w.rng, 6);
        if (choice == 0)
            act(&w, plans, count, rank);
        else if (choice == 1)
            copy_one(&w.devices[rank]);
        else if (choice == 2)
            carry(&w.kvs[rank], &w.rng);
        else
            left -= poll_once(&w, plans, slots, rank);
        *overlapped += w.devices[rank].asked > w.devices[rank].done && w.kvs[rank].count &&
                       !w.kvs[rank].posted[w.kvs[rank].count - 1].ended;
    }
    for (int r = 0; r < RANKS; r++) {
        assert_true(cop_mover_idle(w.movers[r]));
        assert_int_equal(w.kvs[r].announced_count, 0);
    }
    close_world(&w);
}

static void test_staged(void **state)
{
    static const uint32_t slots[] = {2, 3, 8, 16};
    printf("seed %d\n", SEED);
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        uint32_t overlapped = 0;
        for (uint64_t seed = 0; seed < 200; seed++)
            run_staged(slots[i], SEED + seed, &overlapped);
        assert_true(overlapped > 1000);
    }
}

/* Closed in the middle: nothing leaks (under a sanitizer), nothing is called any more. */
static void test_close_in_the_middle(void **state)
{
    static world w;
    static const uint32_t blocks[] = {1, 2, 3, 4, 5};
    open_world(&w, &gpu, &over_host, 4, 1);
    cop_kv_done done;
    bool ended;
    cop_error err;
    cop_mover_expect(w.movers[0], 1);
    cop_mover_expect(w.movers[0], 2);
    cop_mover_send(w.movers[0], 2, 1, blocks, 5);
    assert_int_equal(cop_mover_poll(w.movers[0], &done, &ended, &err), COP_OK);
    assert_int_equal(w.devices[0].asked, 0); /* 1 comes first */
    cop_mover_send(w.movers[0], 1, 1, blocks, 5);
    assert_int_equal(cop_mover_poll(w.movers[0], &done, &ended, &err), COP_OK);
    assert_int_equal(w.devices[0].asked, 2); /* both halves */
    assert_false(cop_mover_idle(w.movers[0]));
    close_world(&w);
    cop_mover_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_works_with_whom),
        cmocka_unit_test(test_direct),
        cmocka_unit_test(test_staged),
        cmocka_unit_test(test_close_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
