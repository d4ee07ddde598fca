/* The link model in real time: what cop_link computes is a lower bound that no scheduler can break.
 * The upper bound is the model, and a few of the longest gaps between polls that both ends saw
 * while the transfer went on: when ranks share busy cores, those are what a transfer can be late
 * by. */
#include "batch.h"

#include "base/clock.h"
#include "base/link.h"

enum {
    BLOCK_BYTES = 65536,
    BLOCKS = 40,
    TRIES = 7,
    LATENCY_US = 500,
    BANDWIDTH_MB_S = 200,
    GAPS = 4,                    /* polls from a block's time to both ends' knowing of it */
    COPY_NS = 1 * COP_NS_PER_MS, /* for the copy itself */
};

static int64_t model_ns(uint64_t bytes)
{
    cop_link link;
    cop_link_init(&link, LATENCY_US, BANDWIDTH_MB_S);
    return cop_link_reserve(&link, 0, bytes);
}

static int64_t tell(cop_bus *bus, int to, int64_t value)
{
    cop_bus_send(bus, to, &value, sizeof value);
    return value;
}

static int64_t hear(cop_bus *bus)
{
    int from;
    int64_t value;
    const void *message;
    size_t bytes;
    while (!cop_bus_poll(bus, &from, &message, &bytes))
        sched_yield();
    REQUIRE(bus, bytes == sizeof value, "%zu bytes", bytes);
    memcpy(&value, message, sizeof value);
    return value;
}

static bool arrived(const batch *b, uint32_t k)
{
    uint64_t word, untouched;
    memset(&untouched, UNTOUCHED, sizeof untouched);
    memcpy(&word, b->blocks[k], sizeof word);
    return word != untouched;
}

/* Waits for a transfer and notes the longest time without a poll, from `before_ns` on, which is
 * before the sender posted it. A receiver looks at its blocks (NULL: none) between polls: none may
 * be seen before the model's arrival of its last byte. */
static cop_kv_done watch(cop_bus *bus, cop_kv *kv, const batch *b, int64_t before_ns,
                         int64_t *gap_ns)
{
    cop_kv_done done;
    uint32_t seen = 0;
    int64_t last = before_ns;
    bool ended;
    *gap_ns = 0;
    do {
        ended = poll_kv(bus, kv, &done);
        int64_t now = cop_clock_ns();
        *gap_ns = now - last > *gap_ns ? now - last : *gap_ns;
        last = now;
        for (; b && seen < b->count && arrived(b, seen); seen++)
            REQUIRE(bus, now - before_ns >= model_ns((seen + 1) * (uint64_t)BLOCK_BYTES),
                    "block %u after %lld ns", seen, (long long)(now - before_ns));
        sched_yield();
    } while (!ended);
    return done;
}

static void pace_as_sender(cop_bus *bus, cop_kv *kv, const batch *b)
{
    int64_t model = model_ns((uint64_t)BLOCKS * BLOCK_BYTES), gap;
    hear(bus); /* the receiver has posted */
    int64_t before = tell(bus, 1, cop_clock_ns());
    cop_kv_mpi.send(kv, b->transfer, 1, b->blocks, BLOCKS);
    cop_kv_done done = watch(bus, kv, NULL, before, &gap);
    int64_t wire_there = hear(bus), noise = GAPS * (gap + hear(bus)) + COPY_NS;
    fprintf(stderr, "model %.3f ms, sender %.3f ms, receiver %.3f ms, noise up to %.3f ms\n",
            (double)model / 1e6, (double)done.wire_ns / 1e6, (double)wire_there / 1e6,
            (double)noise / 1e6);
    REQUIRE(bus, done.wait_ns == 0, "waited %lld ns", (long long)done.wait_ns);
    REQUIRE(bus, done.wire_ns >= model && wire_there >= model, "before the model's time");
    REQUIRE(bus, done.wire_ns <= model + noise && wire_there <= model + noise, "too late");
}

static void pace_as_receiver(cop_bus *bus, cop_kv *kv, const batch *b)
{
    int64_t gap;
    cop_kv_mpi.receive(kv, b->transfer, 0, b->blocks, BLOCKS);
    tell(bus, 0, 0);
    cop_kv_done done = watch(bus, kv, b, hear(bus), &gap);
    REQUIRE(bus, done.wait_ns == 0, "waited %lld ns", (long long)done.wait_ns);
    tell(bus, 0, done.wire_ns);
    tell(bus, 0, gap);
    require_content(bus, b);
}

static void test_pace(cop_bus *bus)
{
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, LATENCY_US, BANDWIDTH_MB_S);
    int rank = cop_bus_rank(bus);
    for (uint64_t i = 0; i < TRIES && rank < 2; i++) {
        batch *b = open_batch(i, BLOCKS, BLOCK_BYTES, rank == 0);
        if (rank == 0)
            pace_as_sender(bus, kv, b);
        else
            pace_as_receiver(bus, kv, b);
        close_batch(b);
    }
    cop_bus_barrier(bus);
    cop_kv_mpi.close(kv);
}

/* Two transfers from rank 0, to the same rank or to two: the second has the link when the first has
 * left it, and both of its ends report the same wait. */
static void share_as_sender(cop_bus *bus, cop_kv *kv, batch *const *b, const int *to)
{
    int64_t alone = model_ns((uint64_t)BLOCKS * BLOCK_BYTES) - LATENCY_US * COP_NS_PER_US;
    hear(bus);
    hear(bus);
    int64_t before = cop_clock_ns();
    cop_kv_mpi.send(kv, 0, to[0], b[0]->blocks, BLOCKS);
    cop_kv_mpi.send(kv, 1, to[1], b[1]->blocks, BLOCKS);
    int64_t posting = cop_clock_ns() - before;
    cop_kv_done done[2] = {{.transfer = 2}, {.transfer = 2}};
    for (int i = 0; i < 2; i++) { /* two receivers need not answer in order */
        cop_kv_done next = wait_one(bus, kv);
        REQUIRE(bus, next.transfer < 2 && next.sent, "transfer %llu",
                (unsigned long long)next.transfer);
        done[next.transfer] = next;
    }
    int64_t took = cop_clock_ns() - before, wait_ns = done[1].wait_ns;
    REQUIRE(bus, done[0].transfer == 0 && done[1].transfer == 1, "one was reported twice");
    REQUIRE(bus, done[0].wait_ns == 0, "%lld ns", (long long)done[0].wait_ns);
    REQUIRE(bus, wait_ns <= alone && wait_ns >= alone - posting, "waited %lld ns for %lld",
            (long long)wait_ns, (long long)alone);
    REQUIRE(bus, took >= 2 * alone + LATENCY_US * COP_NS_PER_US, "both in %lld ns",
            (long long)took);
    REQUIRE(bus, hear(bus) + hear(bus) == wait_ns, "both ends know the wait");
}

static void test_share(cop_bus *bus)
{
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, LATENCY_US, BANDWIDTH_MB_S);
    int rank = cop_bus_rank(bus), to[2] = {1, cop_bus_size(bus) - 1};
    batch *b[2];
    for (uint64_t i = 0; i < 2; i++)
        b[i] = open_batch(i, BLOCKS, BLOCK_BYTES, rank == 0);
    for (int i = 0; i < 2; i++) {
        if (rank != to[i])
            continue;
        cop_kv_mpi.receive(kv, (uint64_t)i, 0, b[i]->blocks, BLOCKS);
        tell(bus, 0, 0);
    }
    if (rank == 0)
        share_as_sender(bus, kv, b, to);
    for (int i = 0; i < 2; i++) {
        if (rank != to[i])
            continue;
        cop_kv_done done = wait_one(bus, kv);
        require_content(bus, b[done.transfer]);
        tell(bus, 0, done.wait_ns);
    }
    close_batch(b[0]);
    close_batch(b[1]);
    cop_bus_barrier(bus);
    cop_kv_mpi.close(kv);
}

static int64_t largest(cop_bus *bus, int64_t mine)
{
    int64_t all[8] = {0};
    REQUIRE(bus, cop_bus_size(bus) <= 8, "up to 8 ranks");
    cop_bus_gather(bus, &mine, sizeof mine, all);
    cop_bus_broadcast(bus, all, sizeof all);
    for (int i = 0; i < cop_bus_size(bus); i++)
        mine = all[i] > mine ? all[i] : mine;
    return mine;
}

/* Bandwidth 0 is no limit, but the latency counts, once. */
static void test_latency_alone(cop_bus *bus)
{
    enum { LONG_US = 20000, LONG_NS = LONG_US * COP_NS_PER_US };
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, LONG_US, 0);
    int rank = cop_bus_rank(bus), size = cop_bus_size(bus), from = (rank + size - 1) % size;
    batch *out = open_batch((uint64_t)rank, BLOCKS, BLOCK_BYTES, true);
    batch *in = open_batch((uint64_t)from, BLOCKS, BLOCK_BYTES, false);
    int64_t before = cop_clock_ns(), longest = 0, gap = 0;
    cop_bus_barrier(bus);
    cop_kv_mpi.receive(kv, in->transfer, from, in->blocks, BLOCKS);
    cop_kv_mpi.send(kv, out->transfer, (rank + 1) % size, out->blocks, BLOCKS);
    for (int i = 0; i < 2; i++) {
        int64_t this_gap;
        cop_kv_done done = watch(bus, kv, NULL, before, &this_gap);
        before = cop_clock_ns();
        REQUIRE(bus, done.wire_ns >= LONG_NS && done.wait_ns == 0, "wire %lld ns, wait %lld ns",
                (long long)done.wire_ns, (long long)done.wait_ns);
        longest = done.wire_ns > longest ? done.wire_ns : longest;
        gap = this_gap > gap ? this_gap : gap;
    }
    int64_t noise = 2 * GAPS * largest(bus, gap) + COPY_NS;
    REQUIRE(bus, longest <= LONG_NS + noise, "%lld ns, noise up to %lld ns", (long long)longest,
            (long long)noise);
    require_content(bus, in);
    close_batch(in);
    close_batch(out);
    cop_kv_mpi.close(kv);
}

int main(int argc, char **argv)
{
    cop_bus *bus = open_bus(&argc, &argv);
    test_pace(bus);
    test_share(bus);
    test_latency_alone(bus);
    cop_bus_close(bus);
    return 0;
}
