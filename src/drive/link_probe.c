#include "drive/link_probe.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/median.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>

enum { ROUNDS = 4, MANY = 16 }; /* the first round warms up */

typedef struct {
    cop_bus *bus;
    cop_mover *mover;
    int from, to;
    uint64_t next; /* the same on all ranks */
    cop_status status;
    cop_error *err;
} probe;

/* A rank that fails goes on taking part: the others would wait for it. */
static double time_once(probe *p, uint32_t count)
{
    static const uint32_t blocks[MANY] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const int rank = cop_bus_rank(p->bus);
    const uint64_t id = p->next++;
    cop_bus_barrier(p->bus);
    const int64_t began_ns = cop_clock_ns();
    if (p->status != COP_OK || (rank != p->from && rank != p->to))
        return 0;
    cop_mover_expect(p->mover, id);
    if (rank == p->from)
        cop_mover_send(p->mover, id, p->to, blocks, count);
    else
        cop_mover_receive(p->mover, id, p->from, blocks, count);
    while (p->status == COP_OK && !cop_mover_idle(p->mover)) {
        cop_kv_done done;
        bool ended;
        p->status = cop_mover_poll(p->mover, &done, &ended, p->err);
        sched_yield();
    }
    return rank == p->to ? (double)(cop_clock_ns() - began_ns) : 0;
}

static double time_blocks(probe *p, uint32_t count)
{
    double ns[ROUNDS - 1];
    for (int i = 0; i < ROUNDS; i++) {
        double once = time_once(p, count);
        if (i > 0)
            ns[i - 1] = once;
    }
    return cop_median(ns, ROUNDS - 1);
}

cop_status cop_link_probe(cop_bus *bus, cop_mover *mover, uint32_t first_rank, uint32_t blocks,
                          cop_link_times *out, cop_error *err)
{
    const int size = cop_bus_size(bus), first = (int)first_rank;
    const uint32_t many = blocks < MANY ? blocks : MANY;
    probe p = {.bus = bus, .mover = mover, .next = 1, .err = err};
    cop_link_times mine = {0}, *all = cop_calloc((size_t)size, sizeof *all);
    for (int from = first; from < size && size - first > 1; from++) {
        p.from = from;
        p.to = from + 1 < size ? from + 1 : first;
        double one = time_blocks(&p, 1), more = time_blocks(&p, many);
        if (cop_bus_rank(bus) != p.to)
            continue;
        mine.block_ns = many > 1 ? fmax(0, (more - one) / (many - 1)) : one;
        mine.start_ns = fmax(0, one - mine.block_ns);
    }
    if (mover)
        cop_mover_begin_after(mover, p.next - 1);
    cop_bus_gather(bus, &mine, sizeof mine, all);
    *out = (cop_link_times){0};
    for (int i = 0; i < size; i++) {
        out->block_ns = fmax(out->block_ns, all[i].block_ns);
        out->start_ns = fmax(out->start_ns, all[i].start_ns);
    }
    free(all);
    return p.status;
}
