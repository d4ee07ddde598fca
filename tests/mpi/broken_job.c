/* Jobs that go wrong, for broken_job.sh: whatever one rank does, the job must end, and soon.
 *
 *     broken_job kill    rank 1 dies by SIGKILL among messages and transfers
 *     broken_job leave   rank 1 exits without closing the bus, while the others close it
 *     broken_job abort   rank 1 calls cop_bus_abort with status 7, while the others wait
 *     broken_job self    rank 1 posts a transfer to itself */
#include "batch.h"

#include <signal.h>
#include <unistd.h>

enum { BLOCKS = 50, BLOCK_BYTES = 200000 };

static void keep_busy(cop_bus *bus, cop_kv *kv, bool to_be_killed)
{
    static uint8_t message[100000];
    int rank = cop_bus_rank(bus), size = cop_bus_size(bus), next = (rank + 1) % size;
    batch *b = open_batch(1, BLOCKS, BLOCK_BYTES, true);
    cop_kv_mpi.send(kv, (uint64_t)rank, next, b->blocks, BLOCKS);
    for (int i = 0;; i++) {
        int from;
        const void *got;
        size_t bytes;
        cop_kv_done done;
        if (cop_bus_idle(bus))
            cop_bus_send(bus, next, message, sizeof message);
        while (cop_bus_poll(bus, &from, &got, &bytes))
            continue;
        poll_kv(bus, kv, &done);
        if (to_be_killed && i == 1000)
            raise(SIGKILL);
    }
}

int main(int argc, char **argv)
{
    cop_bus *bus = open_bus(&argc, &argv);
    cop_kv *kv = open_kv(bus, BLOCK_BYTES, 0, 0);
    const char *how = argc > 1 ? argv[1] : "";
    bool guilty = cop_bus_rank(bus) == 1;
    void *block = kv;
    printf("pid %ld\n", (long)getpid());
    fflush(stdout);
    cop_bus_barrier(bus);
    if (strcmp(how, "kill") == 0)
        keep_busy(bus, kv, guilty);
    if (guilty && strcmp(how, "leave") == 0)
        _exit(0);
    if (guilty && strcmp(how, "abort") == 0)
        cop_bus_abort(bus, 7);
    if (guilty && strcmp(how, "self") == 0)
        cop_kv_mpi.send(kv, 0, 1, &block, 1);
    cop_kv_mpi.close(kv);
    if (strcmp(how, "leave") != 0)
        cop_bus_barrier(bus);
    cop_bus_close(bus);
    return 0;
}
