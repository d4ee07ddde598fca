/* What goes wrong ends in an error on every rank that is concerned, in bounded time, and close
 * returns. Usage: mpirun ... test_nccl_faults duplicate|stall|leave|unposted|refuse
 *
 *     duplicate   ranks on one GPU without leave (COP_EMULATOR_DEVICES=1)
 *     stall       a send of rank 0 hangs (COP_EMULATOR_NCCL_STALL)
 *     leave       rank 1 closes in the middle of a transfer
 *     unposted    a transfer waits for one that was announced and is never posted
 *     refuse      NCCL fails a call of rank 0 (COP_EMULATOR_FAIL)                              */
#include "gpu.h"

#include "batch.h"

#include "base/clock.h"

enum { BLOCKS = 40, BLOCK_BYTES = 100000, PATIENCE_S = 10 };

static void test_duplicate(cop_bus *bus)
{
    cop_kv *kv = NULL;
    cop_error err;
    cop_kv_options options = {.bus = bus, .bus_calls = &cop_bus_calls_mpi, .block_bytes = 64};
    complete_options(&options);
    options.share_device = false;
    REQUIRE(bus, KV_OPS->open(&kv, &options, &err) == COP_ERR_INVALID && !kv, "opened");
    REQUIRE(bus, strstr(err.text, "ranks 0 and 1") && strstr(err.text, "device.share"), "%s",
            err.text);
}

/* Polls until the transport fails, and returns after how long. */
static double wait_for_failure(cop_bus *bus, cop_kv *kv, cop_error *err)
{
    int64_t began = cop_clock_ns();
    cop_kv_done done;
    bool ended = false;
    cop_status status = COP_OK;
    while (status == COP_OK) {
        status = KV_OPS->poll(kv, &done, &ended, err);
        REQUIRE(bus, status != COP_OK || !ended, "transfer %llu ended",
                (unsigned long long)done.transfer);
        REQUIRE(bus, cop_clock_ns() - began < PATIENCE_S * (int64_t)COP_NS_PER_S, "no error");
        sched_yield();
    }
    REQUIRE(bus, status == COP_ERR_TRANSPORT, "%s", err->text);
    fprintf(stderr, "rank %d: %s\n", cop_bus_rank(bus), err->text);
    return (double)(cop_clock_ns() - began) / COP_NS_PER_S;
}

static void close_soon(cop_bus *bus, cop_kv *kv)
{
    int64_t began = cop_clock_ns();
    KV_OPS->close(kv);
    double took_s = (double)(cop_clock_ns() - began) / COP_NS_PER_S;
    REQUIRE(bus, took_s < PATIENCE_S, "close took %.1f s", took_s);
}

/* A transfer of rank 0 to rank 1 that cannot end. */
static void test_broken(cop_bus *bus, const char *how)
{
    int rank = cop_bus_rank(bus);
    bool stalls = strcmp(how, "stall") == 0, leaves = strcmp(how, "leave") == 0;
    cop_error err;
    gpu_timeout_s = 1.5;
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, 0, 0);
    batch *b = open_batch(7, BLOCKS, BLOCK_BYTES, rank == 0);
    if (rank < 2)
        KV_OPS->expect(kv, 7);
    if (rank == 0)
        KV_OPS->send(kv, 7, 1, b->blocks, BLOCKS);
    if (rank == 1 && !leaves)
        KV_OPS->receive(kv, 7, 0, b->blocks, BLOCKS);
    if (rank == 0 || (rank == 1 && !leaves)) {
        double took_s = wait_for_failure(bus, kv, &err);
        REQUIRE(bus, !stalls || took_s >= 1 || strstr(err.text, "remote"), "after %.1f s", took_s);
        REQUIRE(bus, strstr(err.text, rank ? "transfer 7 from rank 0" : "transfer 7 to rank 1"),
                "%s", err.text);
        REQUIRE(bus, KV_OPS->idle(kv) == false, "it did not end");
    }
    close_soon(bus, kv);
    close_batch(b);
}

static void test_unposted(cop_bus *bus)
{
    int rank = cop_bus_rank(bus);
    cop_error err;
    gpu_timeout_s = 1;
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, 0, 0);
    batch *b = open_batch(8, BLOCKS, BLOCK_BYTES, rank == 0);
    for (uint64_t id = 7; id <= 8 && rank < 2; id++)
        KV_OPS->expect(kv, id);
    if (rank == 0)
        KV_OPS->send(kv, 8, 1, b->blocks, BLOCKS);
    else if (rank == 1)
        KV_OPS->receive(kv, 8, 0, b->blocks, BLOCKS);
    if (rank < 2) {
        wait_for_failure(bus, kv, &err);
        REQUIRE(bus, strstr(err.text, "transfer 7") || strstr(err.text, "NCCL"), "%s", err.text);
    }
    close_soon(bus, kv);
    close_batch(b);
}

int main(int argc, char **argv)
{
    cop_bus *bus = open_bus(&argc, &argv);
    const char *how = argc > 1 ? argv[1] : "";
    gpu_of_rank = gpu_open(bus);
    if (strcmp(how, "duplicate") == 0)
        test_duplicate(bus);
    else if (strcmp(how, "unposted") == 0)
        test_unposted(bus);
    else if (strcmp(how, "stall") == 0 || strcmp(how, "leave") == 0 || strcmp(how, "refuse") == 0)
        test_broken(bus, how);
    else
        REQUIRE(bus, false, "unknown fault '%s'", how);
    gpu_close(gpu_of_rank);
    cop_bus_close(bus);
    return 0;
}
