/* A Mooncake trace as a source of requests, and what `trace info` and `bench trace` say of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drive/bench.h"
#include "workload/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL COP_SOURCE_DIR "/tests/data/mooncake_small.jsonl"

static cop_workload_options replay_of(const char *path)
{
    return (cop_workload_options){
        .format = "mooncake", .path = path, .vocab = 1000, .scale = 1, .speedup = 1};
}

static cop_workload *open_or_fail(const cop_workload_options *options)
{
    cop_workload *w;
    cop_error err;
    if (cop_workload_open(&w, options, &err) != COP_OK)
        fail_msg("%s", err.text);
    return w;
}

static void test_requests_follow_the_trace(void **state)
{
    cop_workload_options options = replay_of(SMALL);
    options.scale = 4;
    options.speedup = 2;
    options.max_output_tokens = 100;
    cop_mooncake trace;
    cop_error err;
    assert_int_equal(cop_mooncake_read(&trace, SMALL, 0, false, &err), COP_OK);
    cop_workload *w = open_or_fail(&options);
    assert_int_equal(cop_workload_total(w), 120);
    int64_t due_ns;
    for (uint64_t i = 0; cop_workload_due(w, &due_ns); i++) {
        const cop_mooncake_row *row = &trace.rows[i];
        int64_t gap_ms = row->timestamp_ms - trace.rows[0].timestamp_ms;
        uint32_t output = row->output_length / 4 ? row->output_length / 4 : 1;
        const cop_request *r = cop_workload_pop(w);
        assert_int_equal(due_ns, gap_ms * 500000);
        assert_int_equal(r->scheduled_ns, due_ns);
        assert_int_equal(r->id, i);
        assert_int_equal(r->session, i);
        assert_int_equal(r->turn, 0);
        assert_int_equal(r->prompt_tokens, row->input_length / 4);
        assert_int_equal(r->output_tokens, output < 100 ? output : 100);
        assert_false(r->output_given);
        assert_false(cop_workload_done(w));
        if (i >= 50) /* requests end in another order than they began */
            cop_workload_finished(w, i < 100 ? i - 50 : i, 0);
    }
    assert_false(cop_workload_done(w));
    for (uint64_t i = 50; i < 100; i++)
        cop_workload_finished(w, i, 0);
    assert_true(cop_workload_done(w));
    cop_workload_close(w);
    cop_mooncake_fini(&trace);
}

static void test_limit_and_close_with_requests_out(void **state)
{
    cop_workload_options options = replay_of(SMALL);
    options.limit = 7;
    options.scale = 512; /* no answer has 1,024 tokens: one is left of each */
    cop_workload *w = open_or_fail(&options);
    assert_int_equal(cop_workload_total(w), 7);
    for (int i = 0; i < 5; i++)
        assert_int_equal(cop_workload_pop(w)->output_tokens, 1);
    cop_workload_close(w); /* a leak would be the sanitizer's to find */
    cop_workload_close(NULL);
}

static void assert_open_fails(const cop_workload_options *options, const char *text)
{
    cop_workload *w = NULL;
    cop_error err;
    assert_int_equal(cop_workload_open(&w, options, &err), COP_ERR_INVALID);
    assert_string_equal(err.text, text);
    assert_null(w);
}

static void test_bad_options_are_named(void **state)
{
    cop_workload_options options = replay_of(SMALL);
    options.scale = 3;
    assert_open_fails(&options, "workload.scale is 3: it must divide 512, the tokens of a "
                                "Mooncake block");
    options.scale = 0;
    assert_open_fails(&options, "workload.scale is 0: it must divide 512, the tokens of a "
                                "Mooncake block");
    options.scale = 1;
    options.speedup = 0;
    assert_open_fails(&options, "workload.speedup is 0: it must be above 0");
    options.speedup = 1e-8;
    assert_open_fails(&options, SMALL ": its 160 s at workload.speedup 1e-08 end after 146 years");
    options.speedup = 1;
    options.format = "azure";
    assert_open_fails(&options,
                      "unknown workload.format 'azure' (generator, mooncake, sharegpt)");
    options.format = "mooncake";
    options.vocab = 0;
    assert_open_fails(&options, "a workload needs a vocabulary of at least 1 token");
}

/* Text that `tell` prints about the trace at `path`; freed by the caller. */
static char *told(cop_status (*tell)(const cop_config *, FILE *, cop_error *), const char *path)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    cop_config cfg;
    cop_error err;
    cop_config_default(&cfg);
    free(cfg.workload_path);
    cfg.workload_path = strdup(path);
    cfg.bench_repeats = 1;
    cop_status status = tell(&cfg, out, &err);
    cop_config_fini(&cfg);
    fclose(out);
    if (status != COP_OK)
        fail_msg("%s", err.text);
    return text;
}

static void assert_line(const char *text, const char *line)
{
    assert_non_null(text);
    if (!strstr(text, line))
        fail_msg("no line '%s' in:\n%s", line, text);
}

/* The figures were counted by another program, in another language. */
static void test_trace_info_of_the_small_trace(void **state)
{
    char *text = told(cop_trace_info, SMALL);
    assert_line(text, "requests                   120\n");
    assert_line(text, "span                       159.653 s\n");
    assert_line(text, "min 660, median 2882, mean 3191.4, max 7939 tokens\n");
    assert_line(text, "min 7, median 287, mean 292.1, max 596 tokens\n");
    assert_line(text, "blocks                     804 of 512 tokens, 417 distinct\n");
    assert_line(text, "  blocks                   0.4813  (387 of 804 blocks)\n");
    assert_line(text, "  whole blocks only        0.5643  (386 of 684 blocks)\n");
    assert_line(text, "  tokens                   0.5167  (197872 of 382970 prompt tokens)\n");
    free(text);
}

/* Block 2 was seen, but in the second request a new block stands before it: no hit. The third is
 * the first again, 1100 tokens all of which hit. Minutes: 2 requests, none, 1, then not whole. */
static void test_a_hit_ends_with_its_prefix(void **state)
{
    static const char text[] =
        "{\"timestamp\": 10, \"input_length\": 1100, \"output_length\": 1, \"hash_ids\": [1,2,3]}\n"
        "{\"timestamp\": 20, \"input_length\": 1500, \"output_length\": 1, \"hash_ids\": [1,9,2]}\n"
        "{\"timestamp\": 130000, \"input_length\": 1100, \"output_length\": 1, "
        "\"hash_ids\": [1,2,3]}\n"
        "{\"timestamp\": 180011, \"input_length\": 10, \"output_length\": 1, \"hash_ids\": [7]}\n";
    char path[] = "/tmp/coppice-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    char *info = told(cop_trace_info, path);
    assert_line(info, "blocks                     10 of 512 tokens, 5 distinct\n");
    assert_line(info, "  blocks                   0.4000  (4 of 10 blocks)\n");
    assert_line(info, "  whole blocks only        0.5000  (3 of 6 blocks)\n");
    assert_line(info, "  tokens                   0.4345  (1612 of 3710 prompt tokens)\n");
    assert_line(info, "min 0, mean 1.0, max 2 requests a minute, over 3 whole minutes\n");
    free(info);
    unlink(path);
}

static void test_bench_prints_its_bound(void **state)
{
    char *text = told(cop_bench_trace, SMALL);
    assert_line(text, "12997 bytes, 120 lines, 120 requests, 804 block ids; median of 1\n");
    assert_line(text, "bytes alone (memchr)");
    assert_line(text, "scan and check, file");
    free(text);
}

static void test_trace_info_of_the_public_trace(void **state)
{
    const char *folder = getenv("COPPICE_TRACES");
    char path[4096];
    snprintf(path, sizeof path, "%s/mooncake_conversation.jsonl",
             folder ? folder : COP_SOURCE_DIR "/../shared/traces");
    if (access(path, R_OK) != 0) {
        print_message("skipped: no %s (COPPICE_TRACES names the folder of traces)\n", path);
        skip();
    }
    char *text = told(cop_trace_info, path);
    assert_line(text, "requests                   12031\n");
    assert_line(text, "blocks                     288500 of 512 tokens, 182790 distinct\n");
    assert_line(text, "  blocks                   0.3664  (105710 of 288500 blocks)\n");
    assert_line(text, "  whole blocks only        0.3819  (105592 of 276491 blocks)\n");
    assert_line(text, "min 891, median 6909, mean 12035.1, max 126195 tokens\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_follow_the_trace),
        cmocka_unit_test(test_limit_and_close_with_requests_out),
        cmocka_unit_test(test_bad_options_are_named),
        cmocka_unit_test(test_trace_info_of_the_small_trace),
        cmocka_unit_test(test_a_hit_ends_with_its_prefix),
        cmocka_unit_test(test_bench_prints_its_bound),
        cmocka_unit_test(test_trace_info_of_the_public_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
