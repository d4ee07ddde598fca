/* The generator, driven by a server whose service times are random: what it asks must not depend
 * on them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/rng.h"
#include "workload/session.h"

#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OUT = 4096, MAX_SESSIONS = 20000, MAX_TURNS = 200 };

static const uint64_t seed = 20260;

static cop_workload_options small_options(void)
{
    return (cop_workload_options){.format = "generator",
                                  .seed = seed,
                                  .vocab = 5000,
                                  .speedup = 1,
                                  .rate = 50,
                                  .cv = 2,
                                  .on_s = 1,
                                  .off_s = 3,
                                  .think_s = 0.2,
                                  .system_zipf = 1,
                                  .document_share = .4,
                                  .turns = 4,
                                  .users = 7,
                                  .requests = 2000,
                                  .system_prompts = 5,
                                  .system_tokens = 40,
                                  .documents = 3,
                                  .document_tokens = 60,
                                  .user_tokens = 12,
                                  .output_tokens = 5,
                                  .tenants = 3};
}

/* What one run showed. */
typedef struct {
    uint64_t requests, sessions, in_order, digest; /* digest: over requests in order of popping */
    size_t most_out;
    uint32_t turns[MAX_SESSIONS];              /* by session: popped so far */
    uint64_t content[MAX_SESSIONS][MAX_TURNS]; /* by session and turn */
    uint64_t text_so_far[MAX_SESSIONS];        /* hash of the last prompt and answer */
    uint32_t length_so_far[MAX_SESSIONS];
    int64_t begun_ns[MAX_SESSIONS], free_ns[MAX_SESSIONS], last_ns;
} run;

typedef void (*observer)(const cop_request *request, void *context);

/* One request popped: the checks that hold in either loop. */
static void look(run *r, const cop_request *q, const cop_workload_options *o)
{
    uint64_t s = q->session,
             hash = cop_hash(q->tokens, 4ul * (q->prompt_tokens + q->output_tokens), 0);
    assert_true(s < MAX_SESSIONS && q->turn < MAX_TURNS);
    assert_int_equal(q->id, r->requests++);
    assert_int_equal(q->turn, r->turns[s]++);
    assert_true(q->output_given && q->prompt_tokens >= 1 && q->output_tokens >= 1);
    assert_true(q->tenant < o->tenants);
    for (uint32_t i = 0; i < q->prompt_tokens + q->output_tokens; i++)
        assert_true(q->tokens[i] < o->vocab);
    if (q->turn == 0) {
        r->sessions++;
        r->begun_ns[s] = q->scheduled_ns;
    } else { /* begins with exactly the previous prompt and answer, and asks something more */
        assert_true(q->prompt_tokens > r->length_so_far[s]);
        assert_true(cop_hash(q->tokens, 4ul * r->length_so_far[s], 0) == r->text_so_far[s]);
    }
    r->in_order += q->scheduled_ns >= r->last_ns;
    r->last_ns = q->scheduled_ns;
    r->length_so_far[s] = q->prompt_tokens + q->output_tokens;
    r->text_so_far[s] = hash;
    uint64_t facts[] = {s, q->turn, q->tenant, q->prompt_tokens, q->output_tokens, hash};
    r->content[s][q->turn] = cop_hash(facts, sizeof facts, 0);
    r->digest = cop_hash(&r->content[s][q->turn], 8, r->digest);
    r->digest = cop_hash(&q->scheduled_ns, 8, r->digest);
}

/* Serves the whole workload in virtual time. Service times are exponential, drawn from
 * `server_seed`, so requests end in any order. */
static run *serve(const cop_workload_options *o, uint64_t server_seed, observer see, void *context)
{
    struct {
        const cop_request *request;
        int64_t end_ns;
    } out[MAX_OUT];
    size_t n = 0;
    run *r = calloc(1, sizeof *r);
    cop_workload *w;
    cop_error err;
    cop_rng rng;
    cop_rng_init(&rng, server_seed, 0);
    if (cop_workload_open(&w, o, &err) != COP_OK)
        fail_msg("%s", err.text);
    assert_int_equal(cop_workload_total(w), o->requests);
    while (!cop_workload_done(w)) {
        int64_t due_ns;
        size_t first = 0;
        bool due = cop_workload_due(w, &due_ns);
        for (size_t i = 1; i < n; i++)
            first = out[i].end_ns < out[first].end_ns ? i : first;
        if (due && (n == 0 || due_ns <= out[first].end_ns)) {
            assert_true(n < MAX_OUT);
            const cop_request *q = cop_workload_pop(w);
            assert_int_equal(q->scheduled_ns, due_ns);
            look(r, q, o);
            if (see)
                see(q, context);
            out[n].request = q;
            out[n++].end_ns = due_ns + (int64_t)cop_rng_exponential(&rng, 5e7);
            r->most_out = n > r->most_out ? n : r->most_out;
        } else {
            assert_true(n > 0);
            cop_workload_finished(w, out[first].request->id, out[first].end_ns);
            out[first] = out[--n];
        }
    }
    assert_false(cop_workload_due(w, &(int64_t){0}));
    assert_int_equal(r->requests, o->requests);
    cop_workload_close(w);
    return r;
}

static void test_same_options_same_requests(void **state)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    for (cop_arrival_process arrival = COP_ARRIVAL_POISSON; arrival <= COP_ARRIVAL_ONOFF; arrival++) {
        cop_workload_options o = small_options();
        o.arrival = arrival;
        run *a = serve(&o, 1, NULL, NULL), *b = serve(&o, 2, NULL, NULL);
        assert_true(a->digest == b->digest); /* open loop: even the order, whatever the server */
        assert_int_equal(a->in_order, a->requests);
        o.seed++;
        run *c = serve(&o, 1, NULL, NULL);
        assert_true(a->digest != c->digest);
        free(a);
        free(b);
        free(c);
    }
}

/* Also against the open loop: a session is the same conversation, whenever it is held. */
static void test_content_never_depends_on_timing(void **state)
{
    cop_workload_options o = small_options();
    run *open = serve(&o, 1, NULL, NULL);
    o.closed_loop = true;
    run *slow = serve(&o, 2, NULL, NULL), *slow_again = serve(&o, 2, NULL, NULL);
    o.users = 30;
    run *wide = serve(&o, 3, NULL, NULL);
    assert_true(slow->digest == slow_again->digest);
    assert_true(slow->digest != wide->digest);
    assert_memory_equal(open->content, slow->content, sizeof open->content);
    assert_memory_equal(open->content, wide->content, sizeof open->content);
    free(open);
    free(slow);
    free(slow_again);
    free(wide);
}

static void test_closed_loop_has_at_most_its_users_out(void **state)
{
    static const uint32_t users[] = {1, 2, 7, 40};
    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        cop_workload_options o = small_options();
        o.closed_loop = true;
        o.users = users[i];
        o.think_s = 0;
        run *r = serve(&o, 4 + i, NULL, NULL);
        assert_int_equal(r->most_out, users[i]); /* with no time to think: all of them */
        free(r);
        o.think_s = 0.05;
        r = serve(&o, 4 + i, NULL, NULL);
        assert_true(r->most_out <= users[i]);
        free(r);
    }
}

static void test_closed_loop_turns_wait_for_answers(void **state)
{
    cop_workload_options o = small_options();
    o.closed_loop = true;
    o.users = 1;
    o.think_s = 2;
    o.requests = 4000;
    cop_workload *w;
    cop_error err;
    int64_t now_ns = 0, due_ns;
    double thought_s = 0;
    assert_int_equal(cop_workload_open(&w, &o, &err), COP_OK);
    while (cop_workload_due(w, &due_ns)) {
        assert_true(due_ns >= now_ns);
        thought_s += (double)(due_ns - now_ns) * 1e-9;
        const cop_request *q = cop_workload_pop(w);
        assert_false(cop_workload_due(w, &due_ns));
        now_ns = q->scheduled_ns + 1000000000;
        cop_workload_finished(w, q->id, now_ns);
    }
    assert_true(cop_workload_done(w));
    assert_true(fabs(thought_s / o.requests - 2) < 5 * 2 / sqrt(o.requests));
    cop_workload_close(w);
}

/* Turns of a session follow their think time, not the answers; speedup divides every gap. */
static void test_open_loop_times_are_fixed_in_advance(void **state)
{
    cop_workload_options o = small_options();
    cop_workload *w, *fast;
    cop_error err;
    assert_int_equal(cop_workload_open(&w, &o, &err), COP_OK);
    o.speedup = 8;
    assert_int_equal(cop_workload_open(&fast, &o, &err), COP_OK);
    for (uint32_t i = 0; i < o.requests; i++) { /* none is ever answered */
        int64_t due_ns;
        assert_true(cop_workload_due(w, &due_ns));
        const cop_request *a = cop_workload_pop(w), *b = cop_workload_pop(fast);
        assert_int_equal(a->session, b->session);
        assert_int_equal(a->turn, b->turn);
        assert_true(fabs((double)a->scheduled_ns / 8 - (double)b->scheduled_ns) < o.requests);
    }
    cop_workload_close(w);
    cop_workload_close(fast);
}

typedef struct {
    uint64_t sessions, requests, with_document, user_tokens, answer_tokens, turns_begun;
    uint64_t system[5], document[3], tenant[3];
    uint64_t system_hash[5], document_hash[3];
    uint32_t last_length[MAX_SESSIONS];
} census;

/* Which of the `count` texts seen so far starts at `tokens`; a new one takes the next place. */
static size_t text_of(uint64_t *hashes, size_t count, const uint32_t *tokens, size_t length)
{
    uint64_t hash = cop_hash(tokens, 4 * length, 0);
    for (size_t i = 0; i < count; i++) {
        if (hashes[i] == 0)
            hashes[i] = hash;
        if (hashes[i] == hash)
            return i;
    }
    return count;
}

static void count_request(const cop_request *q, void *context)
{
    const cop_workload_options o = small_options();
    census *c = context;
    c->requests++;
    c->answer_tokens += q->output_tokens;
    if (q->turn > 0) {
        c->user_tokens += q->prompt_tokens - c->last_length[q->session];
    } else {
        size_t system = text_of(c->system_hash, 5, q->tokens, o.system_tokens);
        assert_true(system < 5);
        c->system[system]++;
        c->tenant[q->tenant]++;
        c->sessions++;
        size_t document = 3;
        if (q->prompt_tokens > o.system_tokens + o.document_tokens)
            document = text_of(c->document_hash, 3, q->tokens + o.system_tokens, o.document_tokens);
        if (document < 3)
            c->document[document]++;
    }
    c->last_length[q->session] = q->prompt_tokens + q->output_tokens;
}

static bool within(double got, double expected, double sigma)
{
    return fabs(got - expected) < 5 * sigma;
}

static bool share_is(uint64_t part, uint64_t all, double p)
{
    return within((double)part / (double)all, p, sqrt(p * (1 - p) / (double)all));
}

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

/* All bounds are five standard errors. Every session has a document here, so that a document is
 * told from a user's message with certainty; its share is tested below. */
static void test_populations_have_their_shares(void **state)
{
    cop_workload_options o = small_options();
    o.requests = 40000;
    o.rate = 2000; /* not too many open at once */
    o.document_share = 1;
    census *c = calloc(1, sizeof *c);
    run *r = serve(&o, 1, count_request, c);
    double n = (double)c->sessions, harmonic = 1 + 1 / 2. + 1 / 3. + 1 / 4. + 1 / 5.;
    qsort(c->system, 5, sizeof *c->system, descending);
    for (int i = 0; i < 5; i++)
        assert_true(share_is(c->system[i], c->sessions, 1 / (i + 1.) / harmonic));
    for (int i = 0; i < 3; i++) {
        assert_true(share_is(c->document[i], c->sessions, 1 / 3.));
        assert_true(share_is(c->tenant[i], c->sessions, 1 / 3.));
    }
    assert_int_equal(c->document[0] + c->document[1] + c->document[2], c->sessions);
    /* A geometric number of mean m has variance m (m - 1). */
    double later = (double)(c->requests - c->sessions);
    assert_true(within((double)c->requests / n, 4, sqrt(4 * 3 / n)));
    assert_true(within((double)c->user_tokens / later, 12, sqrt(12 * 11 / later)));
    assert_true(within((double)c->answer_tokens / (double)c->requests, 5,
                       sqrt(5 * 4 / (double)c->requests)));
    free(r);
    free(c);
}

static void count_documents(const cop_request *q, void *context)
{
    /* Messages have one token here: the length of a first prompt tells what is in it. */
    uint64_t *with = context;
    if (q->turn == 0) {
        assert_true(q->prompt_tokens == 1 || q->prompt_tokens == 61);
        with[q->prompt_tokens == 61]++;
    }
}

static void test_document_share_and_no_system_prompts(void **state)
{
    cop_workload_options o = small_options();
    o.system_prompts = 0;
    o.user_tokens = 1;
    o.turns = 1;
    uint64_t with[2] = {0};
    free(serve(&o, 1, count_documents, with));
    assert_true(share_is(with[1], with[0] + with[1], 0.4));
}

static void longest_output(const cop_request *q, void *context)
{
    uint32_t *most = context;
    *most = q->output_tokens > *most ? q->output_tokens : *most;
}

static void test_answers_are_cut_and_still_continued(void **state)
{
    cop_workload_options o = small_options();
    uint32_t most = 0;
    o.max_output_tokens = 6;
    free(serve(&o, 1, longest_output, &most)); /* look() holds that prompts continue answers */
    assert_int_equal(most, 6);
}

static size_t bytes_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* (A sanitizer's allocator reports nothing here: the plain build is the one that tests this.) */
static void test_memory_is_that_of_what_runs(void **state)
{
    for (int closed = 0; closed < 2; closed++) {
        cop_workload_options o = small_options();
        o.closed_loop = closed;
        o.requests = 60000;
        o.think_s = 0.01;
        cop_workload *w;
        cop_error err;
        assert_int_equal(cop_workload_open(&w, &o, &err), COP_OK);
        size_t early = 0;
        for (uint32_t i = 0; i < o.requests; i++) {
            const cop_request *q = cop_workload_pop(w);
            cop_workload_finished(w, q->id, q->scheduled_ns);
            if (i == 1000)
                early = bytes_in_use();
        }
        assert_true(bytes_in_use() <= early + (64 << 10)); /* not even 2 bytes a request */
        cop_workload_close(w);
    }
}

/* Session 2350347 was found by search: nothing drawn at random would get here in a test's time. */
static void test_the_longest_draws_are_cut(void **state)
{
    cop_workload_options o = small_options();
    cop_population population;
    cop_turn turn;
    o.seed = 1;
    o.user_tokens = o.output_tokens = 1000;
    cop_population_init(&population, &o);
    cop_turn_draw(&population, 2350347, 0, &turn);
    assert_int_equal(turn.user_tokens, COP_SESSION_CUT * 1000);
    assert_int_equal(turn.answer_tokens, 151);
    cop_turn_draw(&population, 2350347, 1, &turn);
    assert_int_not_equal(turn.answer_tokens, 151);
    cop_population_fini(&population);
}

static void assert_refused(cop_workload_options o, const char *text)
{
    cop_workload *w;
    cop_error err;
    assert_int_equal(cop_workload_open(&w, &o, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, text);
}

static void test_impossible_options_are_named(void **state)
{
    cop_workload_options o = small_options();
    o.requests = 0;
    assert_refused(o, "workload.requests is 0: it must be at least 1");
    o = small_options();
    o.closed_loop = true;
    o.users = 0;
    assert_refused(o, "workload.users is 0: it must be at least 1");
    o = small_options();
    o.rate = NAN;
    assert_refused(o, "workload.rate is nan: it must be from 1e-09 to 1e+12");
    o = small_options();
    o.turns = 0.5;
    assert_refused(o, "workload.turns is 0.5: it must be from 1 to 1e+06");
    o = small_options();
    o.turns = 1e6;
    assert_refused(o, "workload.turns 1e+06 times (workload.user_tokens 12 + "
                      "workload.output_tokens 5) allows prompts of 4.4e+09 tokens: at most "
                      "1.1e+09 are possible");
    o = small_options();
    o.rate = 1e-8;
    assert_refused(o, "workload.requests 2000 at workload.rate 1e-08 and workload.speedup 1 take "
                      "2e+11 s: at most 1e9 are possible");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_options_same_requests),
        cmocka_unit_test(test_content_never_depends_on_timing),
        cmocka_unit_test(test_closed_loop_has_at_most_its_users_out),
        cmocka_unit_test(test_closed_loop_turns_wait_for_answers),
        cmocka_unit_test(test_open_loop_times_are_fixed_in_advance),
        cmocka_unit_test(test_populations_have_their_shares),
        cmocka_unit_test(test_document_share_and_no_system_prompts),
        cmocka_unit_test(test_answers_are_cut_and_still_continued),
        cmocka_unit_test(test_memory_is_that_of_what_runs),
        cmocka_unit_test(test_the_longest_draws_are_cut),
        cmocka_unit_test(test_impossible_options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
