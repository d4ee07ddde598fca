/* A checkpoint on the CPU device, beside what transformers computed from it (make_checkpoints.py):
 *
 *     check_checkpoint FOLDER ISA PRECISION
 *
 * The prompt in chunks that end where a reference row stands, then the reference's answer token by
 * token, so that every row is of the same text.
 *
 * float32 mode: every error at most 1e-4 of the greatest logit, and each greedy token the
 * reference's. bf16 mode: the bound that transformer.py derives, 2^-8 / sqrt(3) *
 * sqrt(8 layers + 1) of the RMS logit, where weights are BF16 already. Of other files the weights
 * are rounded too: every element independently and by as much as an activation, which moves the
 * product of a row by as much of its RMS as one more rounding of the result. That is 7 matrices a
 * layer, the embedding and the head: sqrt(15 layers + 3) in all. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "device/device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_TOKENS = 16, MAX_TOKENS = 1024, MAX_JSON_BYTES = 1 << 20 };

typedef struct {
    uint32_t tokens[MAX_TOKENS]; /* prompt, then answer */
    uint32_t prompt, count;
    uint32_t positions[MAX_TOKENS]; /* ascending: of the rows */
    uint32_t rows;
    float *logits; /* f32[rows][vocab] */
} reference;

typedef struct {
    double greatest_error, greatest_logit, error_squares, logit_squares;
    uint32_t rows, wrong_tokens;
} comparison;

static uint32_t read_list(const cop_json *root, const char *key, uint32_t *out, uint32_t room)
{
    const cop_json *list = cop_json_get(root, key);
    uint32_t n = (uint32_t)cop_json_count(list);
    for (uint32_t i = 0; i < n && i < room; i++) {
        int64_t x = 0;
        cop_json_int(cop_json_at(list, i), &x);
        out[i] = (uint32_t)x;
    }
    return n <= room ? n : 0;
}

static bool read_reference(reference *r, const char *folder, uint32_t vocab, cop_error *err)
{
    char path[4096];
    cop_json *root;
    snprintf(path, sizeof path, "%s/reference.json", folder);
    if (cop_json_load(&root, path, MAX_JSON_BYTES, err) != COP_OK)
        return false;
    r->prompt = read_list(root, "prompt", r->tokens, MAX_TOKENS);
    uint32_t answer = read_list(root, "greedy", r->tokens + r->prompt, MAX_TOKENS - r->prompt);
    r->count = r->prompt + answer;
    r->rows = read_list(root, "positions", r->positions, MAX_TOKENS);
    cop_json_free(root);
    size_t floats = (size_t)r->rows * vocab;
    r->logits = cop_malloc(floats * sizeof(float));
    snprintf(path, sizeof path, "%s/reference.f32", folder);
    FILE *f = fopen(path, "rb");
    bool whole = f && fread(r->logits, sizeof(float), floats, f) == floats && fgetc(f) == EOF;
    if (f)
        fclose(f);
    if (!whole || !r->prompt || !answer || !r->rows)
        cop_fail(err, COP_ERR_INVALID, "%s: %u prompt tokens, %u of answer, %u rows of %u", path,
                 r->prompt, answer, r->rows, vocab);
    return whole && r->prompt && answer && r->rows;
}

static void compare_row(comparison *c, const float *got, const float *want, uint32_t vocab)
{
    for (uint32_t i = 0; i < vocab; i++) {
        double error = fabs((double)got[i] - want[i]);
        if (!isfinite(error))
            error = INFINITY; /* and no later one is greater */
        if (error > c->greatest_error)
            c->greatest_error = error;
        if (fabs(want[i]) > c->greatest_logit)
            c->greatest_logit = fabs(want[i]);
        c->error_squares += error * error;
        c->logit_squares += (double)want[i] * want[i];
    }
    c->rows++;
}

/* Tokens [at, end), with the logits of the last. */
static cop_status run_chunk(cop_device *device, const reference *r, uint32_t at, uint32_t end,
                            cop_step_result *result, cop_error *err)
{
    uint32_t blocks[MAX_TOKENS / BLOCK_TOKENS];
    for (uint32_t i = 0; i < MAX_TOKENS / BLOCK_TOKENS; i++)
        blocks[i] = i;
    cop_sequence s = {r->tokens + at, at, end - at, blocks, .sample = true};
    cop_batch batch = {1, &s};
    cop_status status = cop_device_cpu.submit(device, &batch, err);
    bool done;
    if (status != COP_OK)
        return status;
    cop_device_cpu.wait(device);
    return cop_device_cpu.poll(device, result, &done, err);
}

static cop_status compare(cop_device *device, const reference *r, uint32_t vocab, comparison *c,
                          cop_error *err)
{
    uint32_t row = 0;
    for (uint32_t at = 0, end; at + 1 < r->count; at = end) {
        end = at < r->prompt ? r->prompt : at + 1;
        if (row < r->rows && r->positions[row] < end)
            end = r->positions[row] + 1;
        cop_step_result result;
        cop_status status = run_chunk(device, r, at, end, &result, err);
        if (status != COP_OK)
            return status;
        if (row < r->rows && r->positions[row] == end - 1)
            compare_row(c, result.logits, r->logits + (size_t)row++ * vocab, vocab);
        if (end >= r->prompt)
            c->wrong_tokens += result.tokens[0] != r->tokens[end];
    }
    return COP_OK;
}

static bool weights_are_rounded(const cop_weights *weights, cop_error *err)
{
    cop_weights_source source = cop_weights_source_of(weights);
    cop_weight_rows rows = {.dtype = COP_BF16};
    return source.read(source.self, COP_TENSOR_Q, 0, 0, 1, NULL, &rows, err) != COP_OK ||
           rows.dtype != COP_BF16;
}

static int judge(const comparison *c, const reference *r, const cop_geometry *g, const char *what,
                 bool float32, bool rounded)
{
    double greatest = c->greatest_error / c->greatest_logit;
    double rms = sqrt(c->error_squares / c->logit_squares);
    double roundings = rounded ? 15 * g->layers + 3 : 8 * g->layers + 1;
    double bound = 0x1p-8 / sqrt(3) * sqrt(roundings);
    printf("%s, %s: %u rows, max error %.3g of the greatest logit, rms %.3g of the rms logit "
           "(bound: %s %.3g), %u of %u greedy tokens differ\n",
           g->name, what, c->rows, greatest, rms, float32 ? "max" : "rms", float32 ? 1e-4 : bound,
           c->wrong_tokens, r->count - r->prompt);
    if (c->rows != r->rows)
        return 1;
    if (float32)
        return greatest <= 1e-4 && c->wrong_tokens == 0 ? 0 : 1;
    return rms <= bound ? 0 : 1;
}

static int check(const cop_weights *weights, const char *folder, const char *isa, bool float32,
                 cop_error *err)
{
    const cop_geometry *g = cop_weights_geometry(weights);
    static reference r;
    if (!read_reference(&r, folder, g->vocab, err))
        return 1;
    cop_device_options options = {.geometry = g,
                                  .weights = cop_weights_source_of(weights),
                                  .blocks = MAX_TOKENS / BLOCK_TOKENS,
                                  .block_tokens = BLOCK_TOKENS,
                                  .max_batch_tokens = r.prompt,
                                  .max_sequences = 1,
                                  .threads = 2,
                                  .float32 = float32,
                                  .isa = isa};
    cop_device *device;
    cop_status status = cop_device_cpu.open(&device, &options, err);
    if (status != COP_OK)
        return 1;
    comparison c = {.rows = 0};
    status = compare(device, &r, g->vocab, &c, err);
    int result = status != COP_OK ? 1
                                  : judge(&c, &r, g, cop_device_cpu.describe(device), float32,
                                          weights_are_rounded(weights, err));
    cop_device_cpu.close(device);
    free(r.logits);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: check_checkpoint FOLDER ISA bf16|float32\n");
        return 2;
    }
    cop_error err = {.text = ""};
    cop_weights *weights;
    int result = 1;
    if (cop_weights_open(&weights, argv[1], NULL, 0, &err) == COP_OK) {
        result = check(weights, argv[1], argv[2], strcmp(argv[3], "float32") == 0, &err);
        cop_weights_close(weights);
    }
    if (err.text[0])
        fprintf(stderr, "check_checkpoint: %s\n", err.text);
    return result;
}
