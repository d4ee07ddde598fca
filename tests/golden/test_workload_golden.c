/* The first requests of seeded workloads as text: the same options must give the same requests in
 * every version, or results of two versions can't be compared. On a change the new text is left
 * beside the test program, to be read, and copied over the golden one if it is right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "workload/workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 24 };

static void print_requests(FILE *out, const char *title, const cop_workload_options *options)
{
    cop_workload *w;
    cop_error err;
    if (cop_workload_open(&w, options, &err) != COP_OK)
        fail_msg("%s", err.text);
    fprintf(out, "%s\n%4s %7s %4s %6s %13s %6s %6s  tokens\n", title, "id", "session", "turn",
            "tenant", "scheduled_us", "prompt", "output");
    for (int i = 0; i < SHOWN; i++) {
        const cop_request *r = cop_workload_pop(w);
        size_t tokens = r->prompt_tokens + (r->output_given ? r->output_tokens : 0);
        fprintf(out,
                "%4" PRIu64 " %7" PRIu64 " %4u %6" PRIu64 " %13" PRId64 " %6u %6u  %016" PRIx64
                "\n",
                r->id, r->session, r->turn, r->tenant, r->scheduled_ns / 1000, r->prompt_tokens,
                r->output_tokens, cop_hash(r->tokens, tokens * sizeof *r->tokens, 0));
        cop_workload_finished(w, r->id, r->scheduled_ns + 30000000);
    }
    fputc('\n', out);
    cop_workload_close(w);
}

static char *print_all(void)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    cop_workload_options o = {.format = "generator",
                              .seed = 1,
                              .vocab = 32000,
                              .scale = 1,
                              .speedup = 1,
                              .rate = 4,
                              .cv = 2,
                              .on_s = 5,
                              .off_s = 5,
                              .think_s = 1,
                              .system_zipf = 1,
                              .document_share = 0.5,
                              .turns = 4,
                              .users = 8,
                              .requests = 200,
                              .system_prompts = 8,
                              .system_tokens = 256,
                              .documents = 2,
                              .document_tokens = 512,
                              .user_tokens = 48,
                              .output_tokens = 16,
                              .tenants = 2};
    print_requests(out, "open loop, poisson", &o);
    o.arrival = COP_ARRIVAL_GAMMA;
    print_requests(out, "open loop, gamma", &o);
    o.arrival = COP_ARRIVAL_ONOFF;
    print_requests(out, "open loop, onoff", &o);
    o.closed_loop = true;
    print_requests(out, "closed loop, each answered in 30 ms", &o);
    o.format = "mooncake";
    o.path = COP_SOURCE_DIR "/tests/data/mooncake_small.jsonl";
    o.scale = 32;
    o.speedup = 3;
    print_requests(out, "mooncake, scale 32, speedup 3", &o);
    fclose(out);
    return text;
}

static char *read_text(const char *path)
{
    FILE *in = fopen(path, "r");
    if (!in)
        fail_msg("cannot open %s", path);
    char *text = calloc(1, 1 << 20);
    size_t bytes = fread(text, 1, (1 << 20) - 1, in);
    assert_true(bytes > 0);
    fclose(in);
    return text;
}

static void test_requests_as_ever(void **state)
{
    static const char fresh[] = COP_BUILD_DIR "/tests/workload.txt";
    char *golden = read_text(COP_SOURCE_DIR "/tests/golden/workload.txt"), *now = print_all();
    if (strcmp(golden, now) != 0) {
        size_t same = 0, line = 1;
        while (golden[same] && golden[same] == now[same])
            line += golden[same++] == '\n';
        FILE *out = fopen(fresh, "w");
        if (out) {
            fputs(now, out);
            fclose(out);
        }
        fail_msg("tests/golden/workload.txt differs from line %zu on; now: %s", line, fresh);
    }
    free(golden);
    free(now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_requests_as_ever)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
