/* KV blocks over NCCL: what every transport does, and the order, the groups, the link model and the
 * ranks without a pool, which are NCCL's own. */
#include "gpu.h"

#include "exchange.h"

#include "base/link.h"

/* Rank 0 posts the last transfer first. */
static void test_order(cop_bus *bus)
{
    enum { TRANSFERS = 5, BLOCKS = 3, BLOCK_BYTES = 1000, FORGOTTEN = 2 };
    int rank = cop_bus_rank(bus);
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, 0, 0);
    cop_kv_done done;
    batch *b[TRANSFERS + 1];
    for (uint64_t id = 1; id <= TRANSFERS && rank < 2; id++) {
        b[id] = open_batch(id, BLOCKS, BLOCK_BYTES, rank == 0);
        KV_OPS->expect(kv, id);
        if (rank == 1 && id != FORGOTTEN)
            KV_OPS->receive(kv, id, 0, b[id]->blocks, BLOCKS);
    }
    if (rank == 0)
        for (uint64_t id = TRANSFERS; id > FORGOTTEN; id--)
            KV_OPS->send(kv, id, 1, b[id]->blocks, BLOCKS);
    for (int i = 0; i < 300; i++)
        REQUIRE(bus, !poll_kv(bus, kv, &done), "transfer %llu ended before 1 was posted",
                (unsigned long long)done.transfer);
    cop_bus_barrier(bus);
    if (rank == 0)
        KV_OPS->send(kv, 1, 1, b[1]->blocks, BLOCKS);
    if (rank < 2) {
        done = wait_one(bus, kv);
        REQUIRE(bus, done.transfer == 1, "transfer %llu", (unsigned long long)done.transfer);
        KV_OPS->forget(kv, FORGOTTEN);
    }
    for (uint64_t id = FORGOTTEN + 1; id <= TRANSFERS && rank < 2; id++) {
        done = wait_one(bus, kv);
        REQUIRE(bus, done.transfer == id && done.sent == (rank == 0), "transfer %llu",
                (unsigned long long)done.transfer);
        REQUIRE(bus, done.wait_ns > 0, "it had to wait");
    }
    for (uint64_t id = 1; id <= TRANSFERS && rank < 2; id++) {
        if (id != FORGOTTEN)
            require_content(bus, b[id]);
        close_batch(b[id]);
    }
    REQUIRE(bus, KV_OPS->idle(kv), "all have ended");
    KV_OPS->close(kv);
}

/* One transfer from `from` to `to`; the others do nothing. Returns what this end says of it. */
static cop_kv_done move_one(cop_bus *bus, cop_kv *kv, int from, int to, uint32_t blocks,
                            size_t block_bytes)
{
    int rank = cop_bus_rank(bus);
    cop_kv_done done = {0};
    if (rank != from && rank != to)
        return done;
    batch *b = open_batch(1, blocks, block_bytes, rank == from);
    KV_OPS->expect(kv, 1);
    if (rank == from)
        KV_OPS->send(kv, 1, to, b->blocks, blocks);
    else
        KV_OPS->receive(kv, 1, from, b->blocks, blocks);
    done = wait_one(bus, kv);
    REQUIRE(bus, done.transfer == 1 && done.bytes == blocks * block_bytes, "%llu bytes",
            (unsigned long long)done.bytes);
    require_content(bus, b);
    close_batch(b);
    return done;
}

/* More blocks than go into one group. */
static void test_many_blocks(cop_bus *bus)
{
    cop_kv *kv = open_kv(bus, 96, 0, 0);
    move_one(bus, kv, 0, 1, 700, 96);
    KV_OPS->close(kv);
}

static void test_link_model(cop_bus *bus)
{
    enum { BLOCKS = 20, BLOCK_BYTES = 10000, LATENCY_US = 2000, MB_S = 10 };
    cop_link link;
    cop_link_init(&link, LATENCY_US, MB_S);
    int64_t model_ns = cop_link_reserve(&link, 0, BLOCKS * BLOCK_BYTES); /* 22 ms */
    int rank = cop_bus_rank(bus);
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, LATENCY_US, MB_S);
    cop_bus_barrier(bus);
    int64_t began = cop_clock_ns();
    cop_kv_done done = move_one(bus, kv, 0, 1, BLOCKS, BLOCK_BYTES);
    int64_t took = cop_clock_ns() - began;
    REQUIRE(bus, rank > 1 || took >= model_ns, "%lld ns at rank %d", (long long)took, rank);
    /* the header goes when the link is free, and a little time after it was our turn */
    REQUIRE(bus, rank > 1 || done.wire_ns > model_ns / 2, "%lld ns", (long long)done.wire_ns);
    KV_OPS->close(kv);
}

/* Rank 0 is a front end: it has no pool, and takes part in nothing but open. */
static void test_front_end(cop_bus *bus)
{
    cop_device *mine = gpu_of_rank;
    if (cop_bus_size(bus) < 3)
        return;
    gpu_first_rank = 1;
    if (cop_bus_rank(bus) == 0)
        gpu_of_rank = NULL;
    cop_kv *kv = open_kv(bus, 4096, 0, 0);
    cop_kv_done done;
    REQUIRE(bus, KV_OPS->idle(kv) && !poll_kv(bus, kv, &done), "nothing is posted");
    move_one(bus, kv, 2, 1, 30, 4096);
    KV_OPS->close(kv);
    gpu_first_rank = 0;
    gpu_of_rank = mine;
}

/* Who shares a GPU is told so, and what was done about it. */
static void test_note(cop_bus *bus)
{
    cop_kv *kv = open_kv(bus, 64, 0, 0);
    const char *note = KV_OPS->note(kv);
    if (gpu_shared(bus))
        REQUIRE(bus, note && strstr(note, "NCCL_HOSTID") && getenv("NCCL_HOSTID"), "%s",
                note ? note : "no note");
    else
        REQUIRE(bus, !note, "%s", note);
    KV_OPS->close(kv);
}

int main(int argc, char **argv)
{
    static const size_t block_bytes[] = {1, 7, 4095, 4097, 65536};
    cop_bus *bus = open_bus(&argc, &argv);
    gpu_of_rank = gpu_open(bus);
    test_note(bus);
    test_order(bus);
    test_many_blocks(bus);
    for (size_t i = 0; i < sizeof block_bytes / sizeof *block_bytes; i++)
        exchange(bus, block_bytes[i], 0, 0);
    exchange(bus, 4097, 300, 50);
    test_link_model(bus);
    test_close_in_the_middle(bus);
    test_front_end(bus);
    KV_OPS->close(NULL);
    gpu_close(gpu_of_rank);
    cop_bus_close(bus);
    return 0;
}
