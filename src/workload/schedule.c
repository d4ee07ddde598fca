#include "workload/schedule.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/map.h"
#include "workload/arrival.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    uint64_t session;
    uint32_t turns;
    uint32_t turn; /* the next to pop, or the one that is out */
    int64_t due_ns;
} running;

typedef struct {
    const cop_sessions_ops *ops;
    void *self; /* of the sessions; owned */
    cop_arrivals arrivals;
    bool closed_loop;
    double speedup;
    uint64_t next_session, requests_left; /* not yet promised to a session */
    int64_t next_arrival_ns;              /* open loop: of session number next_session */
    running *slots;                       /* sessions that have begun */
    size_t slot_count, slots_capacity;
    uint32_t *free_slots; /* as many as slots_capacity */
    size_t free_count;
    cop_heap due; /* slots whose next turn has a time; key (due_ns, session) */
    cop_map out;  /* closed loop: session -> slot, of turns that are out */
} schedule;

/* Times saturate at 2^62 ns, 146 years. */
static int64_t add_seconds(int64_t from_ns, double gap_s)
{
    double sum = (double)from_ns + gap_s * COP_NS_PER_S;
    return sum < 0x1p62 ? from_ns + llround(gap_s * COP_NS_PER_S) : (int64_t)1 << 62;
}

static void wait_until_due(schedule *s, uint32_t slot)
{
    const running *r = &s->slots[slot];
    cop_heap_put(&s->due, slot, (cop_heap_key){(uint64_t)r->due_ns, r->session});
}

static void grow_slots(schedule *s)
{
    cop_heap old = s->due;
    COP_GROW(s->slots, s->slots_capacity, s->slot_count + 1);
    s->free_slots = cop_realloc(s->free_slots, s->slots_capacity * sizeof *s->free_slots);
    cop_heap_init(&s->due, s->slots_capacity);
    for (size_t i = 0; i < old.count; i++)
        cop_heap_put(&s->due, old.nodes[i].item, old.nodes[i].key);
    cop_heap_fini(&old);
}

/* Begins session number next_session, whose first turn is due at `due_ns`. */
static void begin_session(schedule *s, int64_t due_ns)
{
    if (s->free_count == 0) {
        if (s->slot_count == s->slots_capacity)
            grow_slots(s);
        s->free_slots[s->free_count++] = (uint32_t)s->slot_count++;
    }
    uint32_t slot = s->free_slots[--s->free_count];
    running *r = &s->slots[slot];
    *r = (running){.session = s->next_session++, .due_ns = due_ns};
    r->turns = s->ops->turns(s->self, r->session);
    if (r->turns > s->requests_left)
        r->turns = (uint32_t)s->requests_left;
    s->requests_left -= r->turns;
    wait_until_due(s, slot);
}

static void draw_next_arrival(schedule *s)
{
    double gap_s = cop_arrivals_gap_s(&s->arrivals) / s->speedup;
    s->next_arrival_ns = add_seconds(s->next_arrival_ns, gap_s);
}

/* The next session of a user who is free at `now_ns`. */
static void user_begins(schedule *s, int64_t now_ns)
{
    if (s->requests_left)
        begin_session(s, add_seconds(now_ns, s->ops->think_s(s->self, s->next_session, 0)));
}

static bool next_turn_due(const schedule *s, int64_t *due_ns)
{
    uint32_t slot;
    if (!cop_heap_top(&s->due, &slot))
        return false;
    *due_ns = s->slots[slot].due_ns;
    return true;
}

/* A session that arrives at the very time of a turn goes after it. */
static bool session_is_first(const schedule *s)
{
    int64_t turn_ns;
    return !s->closed_loop && s->requests_left &&
           (!next_turn_due(s, &turn_ns) || s->next_arrival_ns < turn_ns);
}

static bool schedule_due(const void *source, int64_t *due_ns)
{
    const schedule *s = source;
    if (!session_is_first(s))
        return next_turn_due(s, due_ns);
    *due_ns = s->next_arrival_ns;
    return true;
}

static void schedule_pop(void *source, cop_request *request)
{
    schedule *s = source;
    if (session_is_first(s)) {
        begin_session(s, s->next_arrival_ns);
        draw_next_arrival(s);
    }
    uint32_t slot;
    COP_CHECK(cop_heap_top(&s->due, &slot));
    cop_heap_remove(&s->due, slot);
    running *r = &s->slots[slot];
    s->ops->request(s->self, r->session, r->turn, request);
    request->scheduled_ns = r->due_ns;
    if (s->closed_loop) {
        cop_map_put(&s->out, r->session, slot);
    } else if (++r->turn < r->turns) {
        double gap_s = s->ops->think_s(s->self, r->session, r->turn) / s->speedup;
        r->due_ns = add_seconds(r->due_ns, gap_s);
        wait_until_due(s, slot);
    } else {
        s->free_slots[s->free_count++] = slot;
    }
}

static void schedule_finished(void *source, const cop_request *request, int64_t now_ns)
{
    schedule *s = source;
    if (!s->closed_loop)
        return;
    uint32_t slot = *cop_map_get(&s->out, request->session);
    running *r = &s->slots[slot];
    cop_map_remove(&s->out, request->session);
    if (++r->turn < r->turns) {
        r->due_ns = add_seconds(now_ns, s->ops->think_s(s->self, r->session, r->turn));
        wait_until_due(s, slot);
    } else {
        s->free_slots[s->free_count++] = slot;
        user_begins(s, now_ns);
    }
}

static void schedule_close(void *source)
{
    schedule *s = source;
    s->ops->close(s->self);
    free(s->slots);
    free(s->free_slots);
    cop_heap_fini(&s->due);
    cop_map_fini(&s->out);
    free(s);
}

static const cop_source_ops schedule_ops = {.due = schedule_due,
                                            .pop = schedule_pop,
                                            .finished = schedule_finished,
                                            .close = schedule_close};

static cop_status check_ranges(const cop_workload_options *o, cop_error *err)
{
    const cop_option_range ranges[] = {
        {"rate", o->rate, o->closed_loop ? -INFINITY : 1e-9, 1e12},
        {"cv", o->cv, o->arrival == COP_ARRIVAL_GAMMA ? 1e-3 : -INFINITY, 1e3},
        {"on_s", o->on_s, o->arrival == COP_ARRIVAL_ONOFF ? 1e-9 : -INFINITY, 1e9},
        {"off_s", o->off_s, o->arrival == COP_ARRIVAL_ONOFF ? 0 : -INFINITY, 1e9},
        {"think_s", o->think_s, 0, 1e9},
    };
    return cop_check_ranges(ranges, sizeof ranges / sizeof *ranges, err);
}

/* Times are 64-bit nanoseconds; a workload that would not end within 30 years is a mistake. */
cop_status cop_schedule_check(const cop_workload_options *o, const cop_sessions *sessions,
                              cop_error *err)
{
    if (o->closed_loop && o->users == 0)
        return cop_fail(err, COP_ERR_INVALID, "workload.users is 0: it must be at least 1");
    cop_status status = check_ranges(o, err);
    if (status != COP_OK)
        return status;
    double span_s =
        ((double)sessions->sessions / o->rate + sessions->longest_turns * o->think_s) / o->speedup;
    if (!o->closed_loop && span_s > 1e9)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s %llu at workload.rate %g and workload.speedup %g take %.2g s: at most "
                        "1e9 are possible",
                        sessions->sessions_name, (unsigned long long)sessions->sessions, o->rate,
                        o->speedup, span_s);
    return COP_OK;
}

void cop_schedule_open(cop_source *out, const cop_workload_options *o, const cop_sessions *sessions)
{
    schedule *s = cop_calloc(1, sizeof *s);
    s->ops = sessions->ops;
    s->self = sessions->self;
    s->closed_loop = o->closed_loop;
    s->speedup = o->speedup;
    s->requests_left = sessions->requests;
    cop_map_init(&s->out);
    cop_heap_init(&s->due, 0);
    if (o->closed_loop) {
        for (uint32_t user = 0; user < o->users && s->requests_left; user++)
            user_begins(s, 0);
    } else {
        cop_arrivals_init(&s->arrivals, o);
        draw_next_arrival(s);
    }
    *out = (cop_source){.ops = &schedule_ops, .self = s, .total = sessions->requests};
}
