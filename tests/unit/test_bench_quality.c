/* The figures of `coppice bench quality` beside the plainest way to get them: one token at a time,
 * probabilities added up as the formulas say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "device/device.h"
#include "drive/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 90, SEED = 3 }; /* more than a chunk of the bench */

typedef struct {
    double rms, greatest, agreement, divergence, perplexity[2];
} figures;

/* double[TOKENS][vocab] */
static double *logits_of(const cop_geometry *g, const uint32_t *tokens, bool int8)
{
    uint32_t blocks[TOKENS];
    cop_device *device;
    cop_error err;
    cop_seeded_weights seeded = {.geometry = g, .seed = SEED};
    cop_device_options options = {.geometry = g,
                                  .weights = cop_weights_seeded(&seeded),
                                  .blocks = TOKENS,
                                  .block_tokens = 1,
                                  .max_batch_tokens = 1,
                                  .max_sequences = 1,
                                  .threads = 1,
                                  .int8_weights = int8};
    assert_int_equal(cop_device_cpu.open(&device, &options, &err), COP_OK);
    double *out = cop_malloc((size_t)TOKENS * g->vocab * sizeof *out);
    for (uint32_t i = 0; i < TOKENS; i++) {
        blocks[i] = i;
        cop_sequence s = {
            .tokens = tokens + i, .start = i, .count = 1, .blocks = blocks, .sample = true};
        cop_batch batch = {.count = 1, .sequences = &s};
        cop_step_result result;
        assert_int_equal(cop_device_cpu.submit(device, &batch, &err), COP_OK);
        bool done;
        cop_device_cpu.wait(device);
        assert_int_equal(cop_device_cpu.poll(device, &result, &done, &err), COP_OK);
        assert_true(done);
        for (uint32_t v = 0; v < g->vocab; v++)
            out[(size_t)i * g->vocab + v] = result.logits[v];
    }
    cop_device_cpu.close(device);
    return out;
}

static void softmax(const double *logits, uint32_t n, double *p)
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += p[i] = exp(logits[i]);
    for (uint32_t i = 0; i < n; i++)
        p[i] /= total;
}

static uint32_t top_of(const double *x, uint32_t n)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < n; i++)
        top = x[i] > x[top] ? i : top;
    return top;
}

static figures plain_figures(const cop_geometry *g, const uint32_t *tokens)
{
    const uint32_t n = g->vocab;
    const size_t values = (size_t)TOKENS * n;
    double *x = logits_of(g, tokens, false), *y = logits_of(g, tokens, true);
    double *p = cop_malloc(n * sizeof *p), *q = cop_malloc(n * sizeof *q);
    double squares = 0, errors = 0, loss[2] = {0};
    figures f = {0};
    for (size_t i = 0; i < values; i++) {
        squares += x[i] * x[i];
        errors += (x[i] - y[i]) * (x[i] - y[i]);
        f.greatest = fmax(f.greatest, fabs(x[i] - y[i]));
    }
    f.rms = sqrt(errors / squares);
    f.greatest /= sqrt(squares / (double)values);
    for (uint32_t i = 0; i < TOKENS; i++) {
        softmax(x + (size_t)i * n, n, p);
        softmax(y + (size_t)i * n, n, q);
        f.agreement += (top_of(p, n) == top_of(q, n)) * 100.0 / TOKENS;
        for (uint32_t v = 0; v < n; v++)
            f.divergence += p[v] * log(p[v] / q[v]) / TOKENS;
        loss[0] -= i + 1 < TOKENS ? log(p[tokens[i + 1]]) : 0;
        loss[1] -= i + 1 < TOKENS ? log(q[tokens[i + 1]]) : 0;
    }
    f.perplexity[0] = exp(loss[0] / (TOKENS - 1));
    f.perplexity[1] = exp(loss[1] / (TOKENS - 1));
    free(x);
    free(y);
    free(p);
    free(q);
    return f;
}

/* The number behind `label` is `want`, as printed with so many digits. */
static void expect(const char *text, const char *label, double want, double digit)
{
    const char *line = strstr(text, label);
    if (!line)
        fail_msg("no '%s' in:\n%s", label, text);
    double got = strtod(line + strlen(label), NULL);
    if (!(fabs(got - want) <= digit * 0.51))
        fail_msg("%s: %g, want %g", label, got, want);
}

static void expect_figures(const char *text, const figures *f)
{
    expect(text, "logit error, rms", f->rms, 1e-5);
    expect(text, "logit error, greatest", f->greatest, 1e-5);
    expect(text, "top-1 agreement", f->agreement, 1e-2);
    expect(text, "mean KL divergence", f->divergence, 1e-6);
    assert_true(f->rms > 0.005 && f->rms < 0.1); /* it did round */
}

/* Owned text. `set`: assignments, NULL at the end. */
static char *run(const char *const *set, cop_status want, cop_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    cop_config cfg;
    cop_config_default(&cfg);
    for (size_t i = 0; set[i]; i++)
        assert_int_equal(cop_config_set(&cfg, set[i], "test", err), COP_OK);
    cop_status status = cop_bench_quality(&cfg, out, err);
    fclose(out);
    cop_config_fini(&cfg);
    if (status != want)
        fail_msg("status %d: %s", status, status == COP_OK ? text : err->text);
    return text;
}

static const cop_geometry *tiny(void)
{
    const cop_geometry *g;
    assert_int_equal(cop_geometry_find("tiny", &g, NULL), COP_OK);
    return g;
}

static void test_figures_of_random_tokens(void **state)
{
    uint32_t tokens[TOKENS];
    cop_error err;
    cop_rng rng;
    cop_rng_init(&rng, SEED, 1);
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (uint32_t)cop_rng_below(&rng, tiny()->vocab);
    figures f = plain_figures(tiny(), tokens);
    char *text = run((const char *const[]){"seed=3", "bench.tokens=90", NULL}, COP_OK, &err);
    expect_figures(text, &f);
    assert_null(strstr(text, "perplexity"));
    free(text);
}

/* Letters for tokens: a is 0; and a token of the id `extra`, unless 0. */
static void write_tokenizer(const char *path, int extra)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null, \"pre_tokenizer\": "
          "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
          "\"use_regex\": true}, \"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\", "
          "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}, \"model\": "
          "{\"type\": \"BPE\", \"vocab\": {",
          f);
    for (int i = 0; i < 26; i++)
        fprintf(f, "%s\"%c\": %d", i ? ", " : "", 'a' + i, i);
    if (extra)
        fprintf(f, ", \"zz\": %d", extra);
    fputs("}, \"merges\": []}}\n", f);
    assert_int_equal(fclose(f), 0);
}

static void test_figures_of_a_text(void **state)
{
    char folder[] = "/tmp/coppice-quality-test-XXXXXX", tokenizer[64], path[64];
    char set_tokenizer[96], set_text[96];
    uint32_t tokens[TOKENS];
    cop_error err;
    assert_non_null(mkdtemp(folder));
    snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer.json", folder);
    snprintf(path, sizeof path, "%s/text", folder);
    snprintf(set_tokenizer, sizeof set_tokenizer, "model.tokenizer=%s", tokenizer);
    snprintf(set_text, sizeof set_text, "bench.text=%s", path);
    write_tokenizer(tokenizer, 0);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < TOKENS + 10; i++) { /* more than bench.tokens */
        if (i < TOKENS)
            tokens[i] = (uint32_t)(i * i % 26);
        fputc('a' + i * i % 26, f);
    }
    fclose(f);
    figures want = plain_figures(tiny(), tokens);
    char *text =
        run((const char *const[]){"seed=3", "bench.tokens=90", set_text, set_tokenizer, NULL},
            COP_OK, &err);
    expect_figures(text, &want);
    expect(text, "perplexity, weights unrounded", want.perplexity[0], 1e-3);
    expect(text, "perplexity, int8 weights", want.perplexity[1], 1e-3);
    free(text);
    f = fopen(path, "w");
    fputc('a', f);
    fclose(f);
    free(run((const char *const[]){set_text, set_tokenizer, NULL}, COP_ERR_INVALID, &err));
    assert_non_null(strstr(err.text, "it has 1"));
    free(run((const char *const[]){set_text, NULL}, COP_ERR_INVALID, &err));
    assert_non_null(strstr(err.text, "set model.tokenizer"));
    unlink(path);
    unlink(tokenizer);
    rmdir(folder);
}

static void test_what_is_no_text_for_it(void **state)
{
    char folder[] = "/tmp/coppice-quality-test-XXXXXX", tokenizer[64], path[64];
    char set_tokenizer[96], set_text[96];
    cop_error err;
    assert_non_null(mkdtemp(folder));
    snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer.json", folder);
    snprintf(path, sizeof path, "%s/text", folder);
    snprintf(set_tokenizer, sizeof set_tokenizer, "model.tokenizer=%s", tokenizer);
    snprintf(set_text, sizeof set_text, "bench.text=%s", path);

    free(run((const char *const[]){set_text, set_tokenizer, NULL}, COP_ERR_INVALID, &err));
    assert_int_equal(err.status, COP_ERR_INVALID);
    assert_non_null(strstr(err.text, tokenizer)); /* not there */
    write_tokenizer(tokenizer, 0);
    free(run((const char *const[]){set_text, set_tokenizer, NULL}, COP_ERR_INVALID, &err));
    assert_int_equal(err.status, COP_ERR_INVALID);
    assert_non_null(strstr(err.text, path)); /* nor this */

    FILE *f = fopen(path, "w");
    fputs("abc", f);
    fclose(f);
    free(run((const char *const[]){"bench.tokens=1", set_text, set_tokenizer, NULL},
             COP_ERR_INVALID, &err));
    assert_non_null(strstr(err.text, "needs 2 tokens; it has 3, and bench.tokens=1"));
    /* Tokens that it has, not that it might have, are held against the context. */
    char *text = run((const char *const[]){"bench.tokens=32769", set_text, set_tokenizer, NULL},
                     COP_OK, &err);
    assert_non_null(strstr(text, "3 tokens of"));
    free(text);

    write_tokenizer(tokenizer, (int)tiny()->vocab);
    free(run((const char *const[]){set_text, set_tokenizer, NULL}, COP_ERR_INVALID, &err));
    assert_non_null(strstr(err.text, "do not fit the vocabulary"));
    unlink(path);
    unlink(tokenizer);
    rmdir(folder);
}

static void test_context_has_an_end(void **state)
{
    cop_error err;
    free(run((const char *const[]){"bench.tokens=32769", NULL}, COP_ERR_INVALID, &err));
    assert_non_null(strstr(err.text, "the context of 'tiny' ends at 32768"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_of_random_tokens),
        cmocka_unit_test(test_figures_of_a_text),
        cmocka_unit_test(test_what_is_no_text_for_it),
        cmocka_unit_test(test_context_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
