/* Ranks whose clocks differ, as those of different hosts do: this program's own cop_clock_ns, which
 * the linker prefers to the library's, is ahead by some seconds for each rank. */
#include "batch.h"

#include "base/clock.h"

#include <time.h>

static int64_t skew_ns;

int64_t cop_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * COP_NS_PER_S + t.tv_nsec + skew_ns;
}

void cop_sleep_ns(int64_t ns)
{
    nanosleep(&(struct timespec){.tv_sec = ns / COP_NS_PER_S, .tv_nsec = ns % COP_NS_PER_S}, NULL);
}

/* Every rank to its next: the receiver's wire time spans two clocks. */
static void test_wire_time(cop_bus *bus, int64_t error_ns)
{
    enum { BLOCKS = 10, BLOCK_BYTES = 10000, LATENCY_US = 3000, LATE_NS = 2 * COP_NS_PER_S };
    int rank = cop_bus_rank(bus), size = cop_bus_size(bus), from = (rank + size - 1) % size;
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, LATENCY_US, 0);
    batch *out = open_batch((uint64_t)rank, BLOCKS, BLOCK_BYTES, true);
    batch *in = open_batch((uint64_t)from, BLOCKS, BLOCK_BYTES, false);
    cop_kv_mpi.receive(kv, in->transfer, from, in->blocks, BLOCKS);
    cop_kv_mpi.send(kv, out->transfer, (rank + 1) % size, out->blocks, BLOCKS);
    for (int i = 0; i < 2; i++) {
        cop_kv_done done = wait_one(bus, kv);
        int64_t shortest = LATENCY_US * COP_NS_PER_US - (done.sent ? 0 : error_ns);
        REQUIRE(bus, done.wire_ns >= shortest && done.wire_ns < LATE_NS, "%s: %lld ns",
                done.sent ? "sent" : "received", (long long)done.wire_ns);
    }
    require_content(bus, in);
    close_batch(in);
    close_batch(out);
    cop_bus_barrier(bus);
    cop_kv_mpi.close(kv);
}

int main(int argc, char **argv)
{
    cop_bus *bus = open_bus(&argc, &argv);
    int rank = cop_bus_rank(bus), size = cop_bus_size(bus);
    skew_ns = (rank % 2 ? 5LL : -3LL) * (rank + 1) * COP_NS_PER_S;
    int64_t rank0_skew_ns = -3LL * COP_NS_PER_S, offset, error, worst = 0;
    cop_bus_sync_clock(bus, &offset, &error);
    REQUIRE(bus, llabs(offset - (rank0_skew_ns - skew_ns)) <= error,
            "offset %lld ns, error %lld ns, but the clocks differ by %lld ns", (long long)offset,
            (long long)error, (long long)(rank0_skew_ns - skew_ns));
    int64_t *errors = cop_calloc((size_t)size, sizeof *errors);
    cop_bus_gather(bus, &error, sizeof error, errors);
    cop_bus_broadcast(bus, errors, (size_t)size * sizeof *errors);
    for (int i = 0; i < size; i++)
        worst = errors[i] > worst ? errors[i] : worst;
    free(errors);
    test_wire_time(bus, 2 * worst); /* the sender's and the receiver's */
    cop_bus_close(bus);
    return 0;
}
