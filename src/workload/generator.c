/* The generator: when sessions start and when their turns are due (session.h says what is in them).
 *
 * Open loop: every time is fixed in advance. Sessions start by the arrival process; a turn is due
 * its think time after the previous turn was *due*, answered or not, so that a slow server meets
 * the same load as a fast one (no coordinated omission). speedup divides all these gaps.
 *
 * Closed loop: `users` users, each at one session after the other. A user thinks before each turn,
 * counted from the end of the answer before it (from 0 for the first), so at most `users` requests
 * are out at once.
 *
 * Sessions begin in the order of their numbers; the last one is cut so that there are exactly
 * `requests` requests. Which session is which never depends on time. */
#include "workload/arrival.h"
#include "workload/session.h"
#include "workload/source.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/map.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    cop_session session;
    uint32_t turn; /* the next to pop, or the one that is out */
    int64_t due_ns;
} conversation;

typedef struct {
    cop_population population;
    cop_arrivals arrivals;
    bool closed_loop;
    double speedup;
    uint64_t next_session, requests_left; /* not yet promised to a session */
    int64_t next_arrival_ns;              /* open loop: of session number next_session */
    conversation *slots;                  /* running sessions */
    size_t slot_count, slots_capacity;
    uint32_t *free_slots; /* as many as slots_capacity */
    size_t free_count;
    cop_heap due; /* slots whose next turn has a time; key (due_ns, session) */
    cop_map out;  /* closed loop: session -> slot, of turns that are out */
} generator;

/* Times saturate at 2^62 ns, 146 years. */
static int64_t add_seconds(int64_t from_ns, double gap_s)
{
    double sum = (double)from_ns + gap_s * COP_NS_PER_S;
    return sum < 0x1p62 ? from_ns + llround(gap_s * COP_NS_PER_S) : (int64_t)1 << 62;
}

static double think_s(const generator *g, uint64_t session, uint32_t turn)
{
    cop_turn drawn;
    cop_turn_draw(&g->population, session, turn, &drawn);
    return drawn.think_s;
}

static void schedule(generator *g, uint32_t slot)
{
    const conversation *c = &g->slots[slot];
    cop_heap_put(&g->due, slot, (cop_heap_key){(uint64_t)c->due_ns, c->session.index});
}

static void grow_slots(generator *g)
{
    cop_heap old = g->due;
    COP_GROW(g->slots, g->slots_capacity, g->slot_count + 1);
    g->free_slots = cop_realloc(g->free_slots, g->slots_capacity * sizeof *g->free_slots);
    cop_heap_init(&g->due, g->slots_capacity);
    for (size_t i = 0; i < old.count; i++)
        cop_heap_put(&g->due, old.nodes[i].item, old.nodes[i].key);
    cop_heap_fini(&old);
}

/* Begins session number next_session, whose first turn is due at `due_ns`. */
static void begin_session(generator *g, int64_t due_ns)
{
    if (g->free_count == 0) {
        if (g->slot_count == g->slots_capacity)
            grow_slots(g);
        g->free_slots[g->free_count++] = (uint32_t)g->slot_count++;
    }
    uint32_t slot = g->free_slots[--g->free_count];
    conversation *c = &g->slots[slot];
    *c = (conversation){.due_ns = due_ns};
    cop_session_draw(&g->population, g->next_session++, &c->session);
    if (c->session.turns > g->requests_left)
        c->session.turns = (uint32_t)g->requests_left;
    g->requests_left -= c->session.turns;
    schedule(g, slot);
}

static void draw_next_arrival(generator *g)
{
    double gap_s = cop_arrivals_gap_s(&g->arrivals) / g->speedup;
    g->next_arrival_ns = add_seconds(g->next_arrival_ns, gap_s);
}

/* The next session of a user who is free at `now_ns`. */
static void user_begins(generator *g, int64_t now_ns)
{
    if (g->requests_left)
        begin_session(g, add_seconds(now_ns, think_s(g, g->next_session, 0)));
}

static bool next_turn_due(const generator *g, int64_t *due_ns)
{
    uint32_t slot;
    if (!cop_heap_top(&g->due, &slot))
        return false;
    *due_ns = g->slots[slot].due_ns;
    return true;
}

/* A session that arrives at the very time of a turn goes after it. */
static bool session_is_first(const generator *g)
{
    int64_t turn_ns;
    return !g->closed_loop && g->requests_left &&
           (!next_turn_due(g, &turn_ns) || g->next_arrival_ns < turn_ns);
}

static bool generator_due(const void *source, int64_t *due_ns)
{
    const generator *g = source;
    if (!session_is_first(g))
        return next_turn_due(g, due_ns);
    *due_ns = g->next_arrival_ns;
    return true;
}

static void generator_pop(void *source, cop_request *request)
{
    generator *g = source;
    if (session_is_first(g)) {
        begin_session(g, g->next_arrival_ns);
        draw_next_arrival(g);
    }
    uint32_t slot;
    COP_CHECK(cop_heap_top(&g->due, &slot));
    cop_heap_remove(&g->due, slot);
    conversation *c = &g->slots[slot];
    cop_session_request(&g->population, &c->session, c->turn, request);
    request->scheduled_ns = c->due_ns;
    if (g->closed_loop) {
        cop_map_put(&g->out, c->session.index, slot);
    } else if (++c->turn < c->session.turns) {
        double gap_s = think_s(g, c->session.index, c->turn) / g->speedup;
        c->due_ns = add_seconds(c->due_ns, gap_s);
        schedule(g, slot);
    } else {
        g->free_slots[g->free_count++] = slot;
    }
}

static void generator_finished(void *source, const cop_request *request, int64_t now_ns)
{
    generator *g = source;
    if (!g->closed_loop)
        return;
    uint32_t slot = *cop_map_get(&g->out, request->session);
    conversation *c = &g->slots[slot];
    cop_map_remove(&g->out, request->session);
    if (++c->turn < c->session.turns) {
        c->due_ns = add_seconds(now_ns, think_s(g, c->session.index, c->turn));
        schedule(g, slot);
    } else {
        g->free_slots[g->free_count++] = slot;
        user_begins(g, now_ns);
    }
}

static void generator_close(void *source)
{
    generator *g = source;
    cop_population_fini(&g->population);
    free(g->slots);
    free(g->free_slots);
    cop_heap_fini(&g->due);
    cop_map_fini(&g->out);
    free(g);
}

static const cop_source_ops generator_ops = {.due = generator_due,
                                             .pop = generator_pop,
                                             .finished = generator_finished,
                                             .close = generator_close};

/* Times are 64-bit nanoseconds; a workload that would not end within 30 years is a mistake. */
static cop_status check_span(const cop_workload_options *o, cop_error *err)
{
    double span_s = (o->requests / o->rate + COP_SESSION_CUT * o->turns * o->think_s) / o->speedup;
    if (!o->closed_loop && span_s > 1e9)
        return cop_fail(err, COP_ERR_INVALID,
                        "workload.requests %u at workload.rate %g and workload.speedup %g take "
                        "%.2g s: at most 1e9 are possible",
                        o->requests, o->rate, o->speedup, span_s);
    return COP_OK;
}

cop_status cop_generator_open(cop_source *out, const cop_workload_options *o, cop_error *err)
{
    cop_status status = cop_population_check(o, err);
    if (status == COP_OK)
        status = check_span(o, err);
    if (status != COP_OK)
        return status;
    generator *g = cop_calloc(1, sizeof *g);
    cop_population_init(&g->population, o);
    g->closed_loop = o->closed_loop;
    g->speedup = o->speedup;
    g->requests_left = o->requests;
    cop_map_init(&g->out);
    cop_heap_init(&g->due, 0);
    if (o->closed_loop) {
        for (uint32_t user = 0; user < o->users && g->requests_left; user++)
            user_begins(g, 0);
    } else {
        cop_arrivals_init(&g->arrivals, o);
        draw_next_arrival(g);
    }
    *out = (cop_source){&generator_ops, g, o->requests, 0};
    return COP_OK;
}
