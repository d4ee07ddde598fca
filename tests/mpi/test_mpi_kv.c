/* KV blocks between ranks: exact content, many transfers at once, close in the middle. */
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
    return ((uint64_t)from * 8 + (uint64_t)to) * EACH_WAY + (uint64_t)i;
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

static void post(cop_kv *kv, const job *j)
{
    void *blocks[MOST_BLOCKS];
    if (j->batch->count)
        memcpy(blocks, j->batch->blocks, j->batch->count * sizeof *blocks);
    if (j->out)
        cop_kv_mpi.send(kv, j->batch->transfer, j->peer, blocks, j->batch->count);
    else
        cop_kv_mpi.receive(kv, j->batch->transfer, j->peer, blocks, j->batch->count);
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
    REQUIRE(bus, cop_kv_mpi.idle(kv), "nothing is posted");
    for (int turn = 0; ended < n; turn++) {
        cop_kv_done done;
        if (posted < n && turn % 3 == 0)
            post(kv, &jobs[posted++]);
        if (poll_kv(bus, kv, &done)) {
            note_end(bus, jobs, posted, &done);
            ended++;
        } else {
            REQUIRE(bus, posted == ended || !cop_kv_mpi.idle(kv),
                    "idle, though %d are on their way", posted - ended);
            sched_yield();
        }
    }
    REQUIRE(bus, cop_kv_mpi.idle(kv), "all have ended");
    for (int i = 0; i < n; i++) {
        require_content(bus, jobs[i].batch);
        close_batch(jobs[i].batch);
    }
    cop_kv_mpi.close(kv);
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
    batch *lost = open_batch(id_of(rank, next, 0), BLOCKS, BLOCK_BYTES, true);
    batch *never = open_batch(id_of(before, rank, 1), BLOCKS, BLOCK_BYTES, false);
    cop_kv_mpi.send(kv, lost->transfer, next, lost->blocks, BLOCKS);
    cop_kv_mpi.receive(kv, never->transfer, before, never->blocks, BLOCKS);
    for (int i = 0; i < 100; i++)
        REQUIRE(bus, !poll_kv(bus, kv, &done), "transfer %llu has only one end",
                (unsigned long long)done.transfer);
    int64_t began = cop_clock_ns();
    cop_kv_mpi.close(kv);
    REQUIRE(bus, cop_clock_ns() - began < PATIENCE_NS, "%.1f s",
            (double)(cop_clock_ns() - began) / COP_NS_PER_S);
    close_batch(lost);
    close_batch(never);
    cop_bus_barrier(bus);
    exchange(bus, 4096, 0, 0);
}

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
