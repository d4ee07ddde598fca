/* One scripted scenario through every routing and migration policy; the decisions as text are
 * compared with tests/golden/router_*.txt. COP_UPDATE_GOLDEN=1 rewrites those. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "core/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORKERS = 3, BLOCK = 4, LONGEST = 64, REQUESTS = 32, TRACE = 1 << 16 };

typedef enum { ARRIVE, FIRST, DONE, EVICT, LANDED, SLOW } act;

/* A prompt is a string, a token per letter. */
typedef struct {
    int ms;
    act act;
    uint32_t id;        /* request; EVICT, SLOW: worker; LANDED: transfer */
    const char *prompt; /* ARRIVE, EVICT */
} line;

static const line script[] = {
    {0, ARRIVE, 0, "systemABquestion one"},
    {1, ARRIVE, 1, "systemABquestion two"},
    {2, ARRIVE, 2, "otherstart, no system"},
    {10, FIRST, 0, NULL},
    {12, DONE, 0, NULL},
    {13, ARRIVE, 3, "systemABquestion one"}, /* again: one token is always computed */
    {14, FIRST, 1, NULL},
    {14, ARRIVE, 4, "systemABquestion two and a half"},
    {15, ARRIVE, 5, "systemABnew"},
    {16, DONE, 1, NULL},
    {17, DONE, 2, NULL},
    {18, ARRIVE, 6, "otherstart, no system, turn 2"},
    {19, ARRIVE, 7, "systemABnew"}, /* joins a transfer, if 5 set one off */
    {30, LANDED, 1, NULL},
    {31, SLOW, 0, NULL},
    {31, SLOW, 0, NULL},
    {32, ARRIVE, 8, "systemABonce more"},
    {40, DONE, 3, NULL},
    {41, DONE, 4, NULL},
    {42, EVICT, 0, "systemABquestion one"},
    {43, ARRIVE, 9, "systemABquestion one"},
    {44, ARRIVE, 10, "x"}, /* no full block */
    {45, ARRIVE, 11, "this prompt is longer than the model's context of forty tokens"},
};

typedef struct {
    cop_router *router;
    cop_router_actions actions;
    char trace[TRACE];
    size_t used;
    struct {
        uint32_t worker;
        const char *prompt;
    } sent[REQUESTS];
    uint64_t transfers;
} scene;

static cop_router_options base_options(void)
{
    return (cop_router_options){
        .workers = WORKERS,
        .block_tokens = BLOCK,
        .max_context = 40,
        .pool_blocks = 64,
        .seed = 1,
        .policy = "longest_prefix",
        .migration = "off",
        .cache_enabled = true,
        .hot_count = 3,
        .hot_replicas = 2,
        .cost = {.step_ns = 1e6,
                 .per_token_ns = 5e5,
                 .link_alpha_ns = 5e5,
                 .link_beta_ns = 100,
                 .block_bytes = 1000,
                 .block_tokens = BLOCK,
                 .chunk_tokens = 16},
    };
}

static void say(scene *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(scene *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(s->trace + s->used, TRACE - s->used, format, args);
    va_end(args);
    assert_true(n >= 0 && s->used + (size_t)n < TRACE);
    s->used += (size_t)n;
}

static uint32_t hash_prompt(const char *prompt, uint64_t *hashes)
{
    uint32_t tokens[LONGEST], count = (uint32_t)strlen(prompt);
    uint64_t hash = cop_hash_root(0);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)prompt[i];
    for (uint32_t i = 0; i < count / BLOCK; i++)
        hashes[i] = hash = cop_hash_block(hash, tokens + i * BLOCK, BLOCK);
    return count / BLOCK;
}

static void step(scene *s, cop_router_event event)
{
    cop_router_step(s->router, &event, &s->actions);
    cop_router_check(s->router);
}

static void report(scene *s, int64_t now_ns, cop_router_event_kind kind, uint32_t worker,
                   const char *prompt)
{
    uint64_t hashes[LONGEST];
    uint32_t count = hash_prompt(prompt, hashes);
    step(s,
         (cop_router_event){
             .kind = kind, .now_ns = now_ns, .worker = worker, .blocks = {hashes, count, count}});
}

static void tell_decision(scene *s, int ms)
{
    const cop_decision *d = &s->actions.decision;
    if (d->reject_reason) {
        say(s, "%3d ms  request %llu rejected: %s\n", ms, (unsigned long long)d->request,
            d->reject_reason);
        return;
    }
    say(s, "%3d ms  request %llu -> %u  match %u best %u ideal %u  ttft %.2f ms%s\n", ms,
        (unsigned long long)d->request, d->worker, d->match_tokens, d->best_match_tokens,
        d->ideal_match_tokens, d->predicted_ttft_ns / 1e6, d->tie ? "  tie" : "");
    for (uint32_t w = 0; w < d->candidates; w++) {
        const cop_candidate *c = &s->actions.candidates[w];
        say(s, "          %u: cost %g, %g  match %u  load %u, %u  drain %.2f recompute %.2f", w,
            c->cost, c->tie_cost, c->match_tokens, c->outstanding, c->outstanding_tokens,
            c->drain_ns / 1e6, c->recompute_ns / 1e6);
        if (c->fetch_from != COP_NO_WORKER)
            say(s, "  fetch %u from %u: %.2f then %.2f", c->fetch_tokens, c->fetch_from,
                c->fetch_ns / 1e6, c->fetched_ns / 1e6);
        say(s, "\n");
    }
    if (s->actions.transfer)
        say(s, "          waits for transfer %llu\n", (unsigned long long)s->actions.transfer);
    for (size_t i = 0; i < s->actions.plan_count; i++) {
        const cop_plan *p = &s->actions.plans[i];
        say(s, "          plan %llu: %s %u -> %u, blocks %u to %u, transfer %.2f saves %.2f\n",
            (unsigned long long)p->id, p->reason == COP_REASON_PULL ? "pull" : "replicate", p->src,
            p->dst, p->have_block, p->end_block, p->predicted_transfer_ns / 1e6,
            p->predicted_saved_ns / 1e6);
    }
}

static void arrive(scene *s, const line *l, int64_t now_ns)
{
    uint32_t tokens[LONGEST], count = (uint32_t)strlen(l->prompt);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)l->prompt[i];
    cop_request request = {
        .id = l->id, .prompt_tokens = count, .output_tokens = 2, .tokens = tokens};
    step(s, (cop_router_event){.kind = COP_ROUTER_ARRIVAL, .now_ns = now_ns, .arrival = &request});
    tell_decision(s, l->ms);
    s->sent[l->id].worker = s->actions.decision.worker;
    s->sent[l->id].prompt = l->prompt;
    s->transfers += s->actions.plan_count;
}

static void play(scene *s, const line *l)
{
    int64_t now_ns = (int64_t)l->ms * COP_NS_PER_MS;
    switch (l->act) {
    case ARRIVE:
        arrive(s, l, now_ns);
        return;
    case DONE: /* the worker now holds the prompt */
        report(s, now_ns, COP_ROUTER_INSERTED, s->sent[l->id].worker, s->sent[l->id].prompt);
        break;
    case EVICT:
        report(s, now_ns, COP_ROUTER_EVICTED, l->id, l->prompt);
        return;
    case LANDED:
        if (l->id <= s->transfers)
            step(s, (cop_router_event){.kind = COP_ROUTER_TRANSFER_ENDED,
                                       .now_ns = now_ns,
                                       .transfer = {.id = l->id}});
        return;
    case SLOW: /* took four times as long as predicted */
        step(s, (cop_router_event){.kind = COP_ROUTER_STEPPED,
                                   .now_ns = now_ns,
                                   .worker = l->id,
                                   .step = {.tokens = 16, .pairs = 136, .ns = 3.6e7}});
        return;
    case FIRST:
        break;
    }
    step(s,
         (cop_router_event){.kind = l->act == FIRST ? COP_ROUTER_FIRST_TOKEN : COP_ROUTER_FINISHED,
                            .now_ns = now_ns,
                            .worker = s->sent[l->id].worker,
                            .request = l->id});
}

static char *read_all(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return NULL;
    char *text = cop_calloc(1, TRACE);
    size_t n = fread(text, 1, TRACE - 1, file);
    text[n] = '\0';
    fclose(file);
    return text;
}

static void compare_lines(const char *path, const char *expected, const char *got)
{
    for (int number = 1; *expected || *got; number++) {
        size_t a = strcspn(expected, "\n"), b = strcspn(got, "\n");
        if (a != b || memcmp(expected, got, a) != 0)
            fail_msg("%s:%d:\n  expected: %.*s\n  got:      %.*s\n"
                     "COP_UPDATE_GOLDEN=1 rewrites it",
                     path, number, (int)a, expected, (int)b, got);
        expected += a + (expected[a] == '\n');
        got += b + (got[b] == '\n');
    }
}

static void compare_golden(const char *name, const char *got)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/router_%s.txt", COP_SOURCE_DIR, name);
    if (getenv("COP_UPDATE_GOLDEN")) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(got, file);
        assert_int_equal(fclose(file), 0);
        return;
    }
    char *expected = read_all(path);
    if (!expected)
        fail_msg("cannot read %s", path);
    compare_lines(path, expected, got);
    free(expected);
}

static void run_scenario(const char *name, const cop_router_options *options)
{
    scene *s = cop_calloc(1, sizeof *s);
    cop_error err;
    assert_int_equal(cop_router_open(&s->router, options, &err), COP_OK);
    for (size_t i = 0; i < sizeof script / sizeof *script; i++)
        play(s, &script[i]);
    compare_golden(name, s->trace);
    cop_router_actions_fini(&s->actions);
    cop_router_close(s->router);
    free(s);
}

/* Every row of the registry has its trace, so a policy can't be added without one. */
static void test_every_routing_policy(void **state)
{
    size_t count = 0;
    for (; cop_route_policy_name(count); count++) {
        cop_router_options options = base_options();
        options.policy = cop_route_policy_name(count);
        run_scenario(options.policy, &options);
    }
    assert_int_equal(count, 6);
}

/* With a floor of 60 % of the prompt, short matches no longer outweigh the load. */
static void test_longest_prefix_floor(void **state)
{
    cop_router_options options = base_options();
    options.policy = "longest_prefix";
    options.min_match = 0.6;
    run_scenario("longest_prefix_floor", &options);
}

static void test_sglang_library_set(void **state)
{
    cop_router_options options = base_options();
    options.policy = "sglang_cache_aware";
    options.sglang_library_set = true;
    run_scenario("sglang_cache_aware_library", &options);
}

static void test_estimated_ttft_counts_on_pulls(void **state)
{
    cop_router_options options = base_options();
    options.policy = "estimated_ttft";
    options.migration = "pull";
    run_scenario("estimated_ttft_pull", &options);
}

/* Routed by load alone, so that workers lack what others hold. */
static void test_every_migration_policy(void **state)
{
    size_t count = 0;
    for (; cop_migrate_policy_name(count); count++) {
        cop_router_options options = base_options();
        options.policy = "least_loaded";
        options.migration = cop_migrate_policy_name(count);
        char name[64];
        snprintf(name, sizeof name, "migration_%s", options.migration);
        run_scenario(name, &options);
    }
    assert_int_equal(count, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_routing_policy),
        cmocka_unit_test(test_longest_prefix_floor),
        cmocka_unit_test(test_sglang_library_set),
        cmocka_unit_test(test_estimated_ttft_counts_on_pulls),
        cmocka_unit_test(test_every_migration_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
