/* KV blocks over MPI: what every transport does, and what is MPI's own. */
#include "exchange.h"

/* Blocks that come after the receiver's close land nowhere: its memory has other uses by then. Odd
 * ranks receive from the even ones before them. */
static void test_late_blocks(cop_bus *bus, size_t block_bytes)
{
    enum { BLOCKS = 20, ARRIVAL_NS = 30 * COP_NS_PER_MS };
    int rank = cop_bus_rank(bus);
    bool sends = rank % 2 == 0;
    cop_kv *kv = open_kv(bus, block_bytes, 0, 0);
    cop_kv_done done;
    batch *b = open_batch(5, BLOCKS, block_bytes, sends);
    if (!sends) {
        cop_kv_mpi.receive(kv, 5, rank - 1, b->blocks, BLOCKS);
        REQUIRE(bus, !poll_kv(bus, kv, &done), "nothing was sent yet");
        cop_kv_mpi.close(kv);
    }
    cop_bus_barrier(bus);
    if (sends)
        cop_kv_mpi.send(kv, 5, rank + 1, b->blocks, BLOCKS);
    for (int64_t until = cop_clock_ns() + ARRIVAL_NS; cop_clock_ns() < until;) {
        int from; /* the bus makes progress for MPI as a whole */
        const void *message;
        size_t bytes;
        REQUIRE(bus, !cop_bus_poll(bus, &from, &message, &bytes), "no message was sent");
        REQUIRE(bus, !sends || !poll_kv(bus, kv, &done), "done, though nobody received");
    }
    cop_bus_barrier(bus);
    for (uint32_t k = 0; !sends && k < BLOCKS; k++)
        for (size_t i = 0; i < block_bytes; i++)
            REQUIRE(bus, ((uint8_t *)b->blocks[k])[i] == UNTOUCHED, "block %u, byte %zu", k, i);
    if (sends)
        cop_kv_mpi.close(kv);
    close_batch(b);
}

static void test_found_by_name(cop_bus *bus)
{
    const cop_kv_ops *ops;
    cop_error err;
    REQUIRE(bus, cop_kv_find("mpi", &ops, &err) == COP_OK && ops == &cop_kv_mpi, "%s", err.text);
}

static void test_refused_block_sizes(cop_bus *bus)
{
    cop_kv *kv = NULL;
    cop_error err;
    REQUIRE(bus, cop_kv_mpi.open(&kv, &(cop_kv_options){.bus = bus}, &err) == COP_ERR_UNSUPPORTED,
            "0 bytes");
    REQUIRE(bus,
            cop_kv_mpi.open(&kv, &(cop_kv_options){.bus = bus, .block_bytes = (size_t)1 << 31},
                            &err) == COP_ERR_UNSUPPORTED,
            "2 GiB");
    REQUIRE(bus, !kv && strstr(err.text, "cache.block_tokens"), "%s", err.text);
    cop_kv_mpi.close(NULL);
}

int main(int argc, char **argv)
{
    static const size_t block_bytes[] = {1, 7, 4095, 4097, 65536};
    cop_bus *bus = open_bus(&argc, &argv);
    test_found_by_name(bus);
    test_refused_block_sizes(bus);
    for (size_t i = 0; i < sizeof block_bytes / sizeof *block_bytes; i++)
        exchange(bus, block_bytes[i], 0, 0);
    exchange(bus, 4097, 300, 50);
    test_close_in_the_middle(bus);
    test_late_blocks(bus, 1000);
    test_late_blocks(bus, 65536);
    cop_bus_close(bus);
    return 0;
}
