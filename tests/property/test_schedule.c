/* The schedule beside one that looks at every session each time: sessions of random turns and think
 * times, many of them 0 so that times tie, served in random order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "workload/arrival.h"
#include "workload/schedule.h"

#include <math.h>
#include <stdlib.h>

enum { SESSIONS = 60, MAX_TURNS = 6, CASES = 300 };

typedef struct {
    uint32_t turns[SESSIONS];
    double think_s[SESSIONS][MAX_TURNS];
} book;

static uint32_t book_turns(const void *self, uint64_t session)
{
    assert_true(session < SESSIONS);
    return ((const book *)self)->turns[session];
}

static double book_think_s(const void *self, uint64_t session, uint32_t turn)
{
    assert_true(session < SESSIONS && turn < book_turns(self, session));
    return ((const book *)self)->think_s[session][turn];
}

static void book_request(const void *self, uint64_t session, uint32_t turn, cop_request *out)
{
    assert_true(turn < book_turns(self, session));
    *out = (cop_request){.session = session, .turn = turn};
}

static void book_close(void *self)
{
    ((book *)self)->turns[0] = 0;
}

static const cop_sessions_ops book_ops = {book_turns, book_think_s, book_request, book_close};

/* ---- the oracle: every session's next turn and its time, all looked at ------------------- */

typedef enum { NOT_BEGUN, DUE, OUT, ENDED } progress;

typedef struct {
    const book *b;
    cop_workload_options options;
    uint64_t begun, requests_left;
    progress states[SESSIONS];
    uint32_t turn[SESSIONS], turns[SESSIONS];
    int64_t due_ns[SESSIONS], arrival_ns[SESSIONS]; /* arrival_ns: open loop */
} oracle;

static int64_t after(int64_t from_ns, double gap_s)
{
    return from_ns + llround(gap_s * COP_NS_PER_S);
}

static void oracle_begin(oracle *o, int64_t due_ns)
{
    uint64_t k = o->begun++, left = o->requests_left;
    o->turns[k] = o->b->turns[k] < left ? o->b->turns[k] : (uint32_t)left;
    o->requests_left -= o->turns[k];
    o->states[k] = DUE;
    o->due_ns[k] = due_ns;
}

static void oracle_user(oracle *o, int64_t now_ns)
{
    if (o->requests_left)
        oracle_begin(o, after(now_ns, o->b->think_s[o->begun][0]));
}

static void oracle_init(oracle *o, const book *b, const cop_workload_options *options,
                        uint64_t requests)
{
    *o = (oracle){.b = b, .options = *options, .requests_left = requests};
    if (options->closed_loop) {
        for (uint32_t user = 0; user < options->users; user++)
            oracle_user(o, 0);
        return;
    }
    cop_arrivals arrivals;
    int64_t now_ns = 0;
    cop_arrivals_init(&arrivals, options);
    for (int k = 0; k < SESSIONS; k++)
        now_ns = o->arrival_ns[k] = after(now_ns, cop_arrivals_gap_s(&arrivals) / options->speedup);
}

/* The session whose turn is next; SESSIONS: none. *due_ns: when. */
static uint64_t oracle_next(const oracle *o, int64_t *due_ns)
{
    uint64_t best = SESSIONS;
    for (uint64_t k = 0; k < o->begun; k++)
        if (o->states[k] == DUE && (best == SESSIONS || o->due_ns[k] < o->due_ns[best]))
            best = k;
    if (best < SESSIONS)
        *due_ns = o->due_ns[best];
    bool arrives = !o->options.closed_loop && o->requests_left;
    if (arrives && (best == SESSIONS || o->arrival_ns[o->begun] < *due_ns)) {
        *due_ns = o->arrival_ns[o->begun];
        return o->begun;
    }
    return best;
}

static void oracle_pop(oracle *o, uint64_t k, int64_t due_ns)
{
    if (k == o->begun)
        oracle_begin(o, due_ns);
    o->states[k] = OUT;
    if (o->options.closed_loop)
        return;
    o->states[k] = ++o->turn[k] < o->turns[k] ? DUE : ENDED;
    if (o->states[k] == DUE)
        o->due_ns[k] = after(due_ns, o->b->think_s[k][o->turn[k]] / o->options.speedup);
}

static void oracle_finished(oracle *o, uint64_t k, int64_t now_ns)
{
    if (!o->options.closed_loop)
        return;
    o->states[k] = ++o->turn[k] < o->turns[k] ? DUE : ENDED;
    if (o->states[k] == DUE)
        o->due_ns[k] = after(now_ns, o->b->think_s[k][o->turn[k]]);
    else
        oracle_user(o, now_ns);
}

/* ---- side by side ------------------------------------------------------------------------ */

static void compare(cop_source *s, oracle *o, cop_rng *rng, uint64_t requests)
{
    cop_request out[SESSIONS * MAX_TURNS];
    size_t n = 0;
    uint64_t popped = 0;
    int64_t now_ns = 0;
    for (;;) {
        int64_t due_ns, expected_ns = 0;
        uint64_t k = oracle_next(o, &expected_ns);
        assert_int_equal(s->ops->due(s->self, &due_ns), k < SESSIONS);
        if (k < SESSIONS && (n == 0 || cop_rng_below(rng, 2))) {
            cop_request *r = &out[n++];
            uint32_t turn = o->turn[k];
            assert_int_equal(due_ns, expected_ns);
            s->ops->pop(s->self, r);
            assert_int_equal(r->session, k);
            assert_int_equal(r->turn, turn);
            assert_int_equal(r->scheduled_ns, expected_ns);
            oracle_pop(o, k, expected_ns);
            now_ns = expected_ns > now_ns ? expected_ns : now_ns;
            popped++;
        } else if (n) {
            size_t i = cop_rng_below(rng, n);
            now_ns += (int64_t)cop_rng_below(rng, 3) * COP_NS_PER_MS;
            s->ops->finished(s->self, &out[i], now_ns);
            oracle_finished(o, out[i].session, now_ns);
            out[i] = out[--n];
        } else {
            break;
        }
    }
    assert_int_equal(popped, requests);
}

static void test_schedule_is_that_of_the_oracle(void **state)
{
    const uint64_t seed = 4711;
    print_message("seed %llu\n", (unsigned long long)seed);
    cop_rng rng;
    cop_rng_init(&rng, seed, 0);
    for (int i = 0; i < CASES; i++) {
        book b;
        uint64_t all = 0;
        double tie_s = cop_rng_below(&rng, 2) ? 0.001 : 1e-9; /* whole ticks: times tie */
        for (int k = 0; k < SESSIONS; k++) {
            all += b.turns[k] = 1 + (uint32_t)cop_rng_below(&rng, MAX_TURNS);
            for (int t = 0; t < MAX_TURNS; t++)
                b.think_s[k][t] = tie_s * (double)cop_rng_below(&rng, 3);
        }
        cop_workload_options options = {.seed = cop_rng_u64(&rng),
                                        .arrival = (cop_arrival_process)cop_rng_below(&rng, 3),
                                        .rate = i % 2 ? 1e9 : 300, /* a session a ns, or rarely */
                                        .cv = 2,
                                        .on_s = 1,
                                        .off_s = 1,
                                        .speedup = i % 3 ? 1 : 2,
                                        .closed_loop = cop_rng_below(&rng, 2),
                                        .users = 1 + (uint32_t)cop_rng_below(&rng, 80)};
        uint64_t requests = 1 + cop_rng_below(&rng, all);
        cop_sessions sessions = {.ops = &book_ops,
                                 .self = &b,
                                 .requests = requests,
                                 .sessions = SESSIONS,
                                 .sessions_name = "sessions",
                                 .longest_turns = MAX_TURNS};
        cop_source source;
        cop_error err;
        oracle o;
        assert_int_equal(cop_schedule_check(&options, &sessions, &err), COP_OK);
        cop_schedule_open(&source, &options, &sessions);
        assert_int_equal(source.total, requests);
        oracle_init(&o, &b, &options, requests);
        compare(&source, &o, &rng, requests);
        source.ops->close(source.self);
        assert_int_equal(b.turns[0], 0); /* the sessions were closed */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_schedule_is_that_of_the_oracle)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
