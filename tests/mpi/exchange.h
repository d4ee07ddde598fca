/* What every KV transport must do, included by the program of each: exact content, many transfers at
 * once that either end may post first, close in the middle. Every rank announces its transfers in the
 * order of their ids, as the engine does, and posts them in an order of its own. */
#ifndef COP_TESTS_MPI_EXCHANGE_H
#define COP_TESTS_MPI_EXCHANGE_H

#include "batch.h"

#include "base/clock.h"

enum {
    EACH_WAY = 12,    /* transfers from each rank to each other */
    MOST_BLOCKS = 80, /* more than the sender gives to MPI at once */
    MOST_JOBS = 2 * 3 * EACH_WAY,
};

/* One end of a transfer. */
typedef struct {
    batch *batch;
    int peer;
    bool out, ended;
} job;

static uint64_t id_of(int from, int to, int i)
{
    return 1 + ((uint64_t)from * 8 + (uint64_t)to) * EACH_WAY + (uint64_t)i;
}

static uint32_t count_of(uint64_t transfer) /* one in seven is empty */
{
    return transfer % 7 == 0 ? 0 : (uint32_t)(cop_splitmix64(transfer) % (MOST_BLOCKS + 1));
}

/* All ends of this rank, in an order of its own, so that either end may be posted first. */
static int make_jobs(cop_bus *bus, job *jobs, size_t block_bytes)
{
    int rank = cop_bus_rank(bus), n = 0;
    cop_rng rng;
    cop_rng_init(&rng, SEED, (uint64_t)rank);
    for (int i = 0; i < EACH_WAY; i++) {
        for (int peer = 0; peer < cop_bus_size(bus); peer++) {
            for (int out = 0; out < 2 && peer != rank; out++) {
                uint64_t id = out ? id_of(rank, peer, i) : id_of(peer, rank, i);
                int place = (int)cop_rng_below(&rng, (uint64_t)n + 1);
                jobs[n++] = jobs[place];
                jobs[place] =
                    (job){open_batch(id, count_of(id), block_bytes, out), peer, out, false};
            }
        }
    }
    return n;
}

/* All ids of this rank, ascending. */
static void announce(cop_bus *bus, cop_kv *kv, int each_way)
{
    int rank = cop_bus_rank(bus), size = cop_bus_size(bus);
    for (int from = 0; from < size; from++)
        for (int to = 0; to < size; to++)
            for (int i = 0; i < each_way && from != to && (from == rank || to == rank); i++)
                KV_OPS->expect(kv, id_of(from, to, i));
}

static void post(cop_kv *kv, const job *j)
{
    void *blocks[MOST_BLOCKS];
    if (j->batch->count)
        memcpy(blocks, j->batch->blocks, j->batch->count * sizeof *blocks);
    if (j->out)
        KV_OPS->send(kv, j->batch->transfer, j->peer, blocks, j->batch->count);
    else
        KV_OPS->receive(kv, j->batch->transfer, j->peer, blocks, j->batch->count);
    memset(blocks, 0, sizeof blocks); /* the array was copied */
}

static void note_end(cop_bus *bus, job *jobs, int posted, const cop_kv_done *done)
{
    int i = 0;
    while (i < posted && (jobs[i].batch->transfer != done->transfer || jobs[i].out != done->sent))
        i++;
    REQUIRE(bus, i < posted && !jobs[i].ended, "transfer %llu was not on its way",
            (unsigned long long)done->transfer);
    const batch *b = jobs[i].batch;
    REQUIRE(bus, done->bytes == b->count * b->block_bytes, "%llu bytes",
            (unsigned long long)done->bytes);
    REQUIRE(bus, done->wait_ns >= 0 && done->wire_ns >= 0, "wait %lld ns, wire %lld ns",
            (long long)done->wait_ns, (long long)done->wire_ns);
    jobs[i].ended = true;
}

static void exchange(cop_bus *bus, size_t block_bytes, double latency_us, double mb_s)
{
    cop_kv *kv = open_kv(bus, block_bytes, latency_us, mb_s);
    job jobs[MOST_JOBS];
    int n = make_jobs(bus, jobs, block_bytes), posted = 0, ended = 0;
    announce(bus, kv, EACH_WAY);
    REQUIRE(bus, KV_OPS->idle(kv), "nothing is posted");
    for (int turn = 0; ended < n; turn++) {
        cop_kv_done done;
        if (posted < n && turn % 3 == 0)
            post(kv, &jobs[posted++]);
        if (poll_kv(bus, kv, &done)) {
            note_end(bus, jobs, posted, &done);
            ended++;
        } else {
            REQUIRE(bus, posted == ended || !KV_OPS->idle(kv), "idle, though %d are on their way",
                    posted - ended);
            sched_yield();
        }
    }
    REQUIRE(bus, KV_OPS->idle(kv), "all have ended");
    for (int i = 0; i < n; i++) {
        require_content(bus, jobs[i].batch);
        close_batch(jobs[i].batch);
    }
    KV_OPS->close(kv);
}

/* Transfers that will never end: one end is missing. close returns soon, the memory is ours again,
 * and the same ids work on the next transport without a trace of the old ones. */
static void test_close_in_the_middle(cop_bus *bus)
{
    enum { BLOCKS = 60, BLOCK_BYTES = 100000, PATIENCE_NS = 2 * COP_NS_PER_S };
    int rank = cop_bus_rank(bus), size = cop_bus_size(bus);
    int next = (rank + 1) % size, before = (rank + size - 1) % size;
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, 0, 0);
    cop_kv_done done;
    announce(bus, kv, 2);
    batch *lost = open_batch(id_of(rank, next, 0), BLOCKS, BLOCK_BYTES, true);
    batch *never = open_batch(id_of(before, rank, 1), BLOCKS, BLOCK_BYTES, false);
    KV_OPS->send(kv, lost->transfer, next, lost->blocks, BLOCKS);
    KV_OPS->receive(kv, never->transfer, before, never->blocks, BLOCKS);
    for (int i = 0; i < 100; i++)
        REQUIRE(bus, !poll_kv(bus, kv, &done), "transfer %llu has only one end",
                (unsigned long long)done.transfer);
    cop_bus_barrier(bus); /* a transport may notice that a peer has closed */
    int64_t began = cop_clock_ns();
    KV_OPS->close(kv);
    REQUIRE(bus, cop_clock_ns() - began < PATIENCE_NS, "%.1f s",
            (double)(cop_clock_ns() - began) / COP_NS_PER_S);
    close_batch(lost);
    close_batch(never);
    cop_bus_barrier(bus);
    exchange(bus, 4096, 0, 0);
}

#endif
