/* `coppice bench quality`: what int8 weights cost. The same tokens go through two devices, and the
 * logits of every position are compared.
 *
 * A device gives the logits of the last token of a sequence. So a chunk of tokens is computed as one
 * sequence first, and then each of its tokens once more as a sequence of its own over the same
 * blocks: the keys and values before it are there, and what it writes are the bits that are there
 * already. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "drive/bench.h"
#include "drive/encoder.h"
#include "drive/setup.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { CHUNK = 64, PLAIN = 0, INT8 = 1, SIDES = 2 };

typedef struct {
    const cop_device_ops *ops;
    cop_weights *weights;
    const cop_geometry *geometry; /* of the weights */
    cop_device *device[SIDES];
    cop_tokens tokens;
    uint32_t *blocks;
} quality;

/* Sums over positions. */
typedef struct {
    double squares, error_squares; /* of every logit, and of its difference */
    double greatest;               /* difference */
    double divergence;             /* sum of KL(plain || int8), nats */
    double loss[SIDES];            /* -log p(next token), nats */
    uint64_t positions, predicted, agreed;
} tally;

/* With the token that the model wants at the beginning, if there is one. */
static cop_status encode_file(cop_tokens *out, cop_tokenizer *tokenizer, const cop_config *cfg,
                              cop_error *err)
{
    const size_t most = (size_t)cfg->bench_tokens;
    cop_file_map map;
    cop_status status = cop_setup_text(&map, cfg, err);
    if (status != COP_OK)
        return status;
    status = cop_tokenizer_encode(tokenizer, (const char *)map.data, map.size, COP_ENCODE_TEMPLATE,
                                  out, err);
    cop_file_map_close(&map);
    if (status == COP_OK && (out->count < 2 || most < 2))
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: bench quality needs 2 tokens; it has %zu, and bench.tokens=%zu",
                        cfg->bench_text, out->count, most);
    out->count = out->count < most ? out->count : most;
    return status;
}

static cop_status read_text(quality *q, const cop_config *cfg, cop_error *err)
{
    const char *path = cop_setup_tokenizer(cfg);
    cop_tokenizer *tokenizer;
    if (!path[0])
        return cop_fail(err, COP_ERR_INVALID,
                        "bench.text needs a tokenizer: set model.tokenizer, or model.path to a "
                        "checkpoint that has one");
    cop_status status = cop_tokenizer_open(&tokenizer, path, err);
    if (status != COP_OK)
        return status;
    status = cop_encoder_check(tokenizer, path, q->weights, err);
    if (status == COP_OK)
        status = encode_file(&q->tokens, tokenizer, cfg, err);
    cop_tokenizer_close(tokenizer);
    return status;
}

static cop_status make_tokens(quality *q, const cop_config *cfg, cop_error *err)
{
    size_t count = (size_t)cfg->bench_tokens;
    if (cfg->bench_text[0]) {
        cop_status status = read_text(q, cfg, err);
        if (status != COP_OK)
            return status;
        count = q->tokens.count;
    }
    if (count > q->geometry->max_context)
        return cop_fail(err, COP_ERR_INVALID, "%zu tokens: the context of '%s' ends at %u", count,
                        q->geometry->name, q->geometry->max_context);
    if (cfg->bench_text[0])
        return COP_OK;
    cop_rng rng;
    cop_rng_init(&rng, (uint64_t)cfg->seed, 1);
    q->tokens = (cop_tokens){cop_calloc(count, sizeof *q->tokens.ids), count, count};
    for (size_t i = 0; i < count; i++)
        q->tokens.ids[i] = (uint32_t)cop_rng_below(&rng, q->geometry->vocab);
    return COP_OK;
}

static void quality_close(quality *q)
{
    for (int side = 0; side < SIDES; side++)
        if (q->device[side])
            q->ops->close(q->device[side]);
    cop_weights_close(q->weights);
    free(q->tokens.ids);
    free(q->blocks);
}

static cop_status quality_open(quality *q, const cop_config *cfg, cop_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t threads =
        cfg->device_threads ? (uint32_t)cfg->device_threads : (uint32_t)(cores > 0 ? cores : 1);
    *q = (quality){0};
    cop_status status = cop_device_find(cfg->device_kind, &q->ops, err);
    if (status == COP_OK)
        status = cop_setup_weights(&q->weights, cfg, err);
    if (status != COP_OK)
        return status;
    q->geometry = cop_weights_geometry(q->weights);
    status = make_tokens(q, cfg, err);
    if (status != COP_OK)
        return status;
    cop_device_options options;
    cop_setup_device(&options, cfg, q->weights, threads);
    options.blocks = (uint32_t)(q->tokens.count / options.block_tokens + 1);
    options.max_batch_tokens = options.max_sequences = CHUNK;
    q->blocks = cop_calloc(options.blocks, sizeof *q->blocks);
    for (uint32_t i = 0; i < options.blocks; i++)
        q->blocks[i] = i;
    for (int side = 0; side < SIDES && status == COP_OK; side++) {
        options.int8_weights = side == INT8;
        status = q->ops->open(&q->device[side], &options, err);
    }
    return status;
}

static cop_status run_batch(const quality *q, int side, const cop_sequence *sequences,
                            uint32_t count, cop_step_result *result, cop_error *err)
{
    cop_batch batch = {.count = count, .sequences = sequences};
    cop_status status = q->ops->submit(q->device[side], &batch, err);
    if (status != COP_OK)
        return status;
    bool done;
    q->ops->wait(q->device[side]);
    status = q->ops->poll(q->device[side], result, &done, err);
    if (status != COP_OK)
        return status;
    if (!result->logits && sequences->sample)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "bench quality: %s keeps its logits to itself",
                        q->ops->describe(q->device[side]));
    return COP_OK;
}

/* Logits of positions [first, first + count), count <= CHUNK, in *result. */
static cop_status run_chunk(const quality *q, int side, uint32_t first, uint32_t count,
                            cop_step_result *result, cop_error *err)
{
    const uint32_t *tokens = q->tokens.ids;
    cop_sequence each[CHUNK];
    cop_sequence whole = {
        .tokens = tokens + first, .start = first, .count = count, .blocks = q->blocks};
    for (uint32_t i = 0; i < count; i++)
        each[i] = (cop_sequence){.tokens = tokens + first + i,
                                 .start = first + i,
                                 .count = 1,
                                 .blocks = q->blocks,
                                 .sample = true};
    cop_status status = run_batch(q, side, &whole, 1, result, err);
    return status == COP_OK ? run_batch(q, side, each, count, result, err) : status;
}

/* log of the sum of e^logit; *top: the lowest id of the greatest. */
static double log_sum(const float *logits, uint32_t n, uint32_t *top)
{
    double sum = 0;
    *top = 0;
    for (uint32_t i = 1; i < n; i++)
        *top = logits[i] > logits[*top] ? i : *top;
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - logits[*top]);
    return logits[*top] + log(sum);
}

/* next: the token that follows, NULL at the end. */
static void compare(tally *t, const float *plain, const float *int8, uint32_t vocab,
                    const uint32_t *next)
{
    uint32_t top[SIDES];
    const double total[SIDES] = {log_sum(plain, vocab, &top[PLAIN]),
                                 log_sum(int8, vocab, &top[INT8])};
    for (uint32_t i = 0; i < vocab; i++) {
        double error = (double)int8[i] - plain[i], log_p = plain[i] - total[PLAIN];
        t->squares += (double)plain[i] * plain[i];
        t->error_squares += error * error;
        t->greatest = fmax(t->greatest, fabs(error));
        t->divergence += exp(log_p) * (log_p - (int8[i] - total[INT8]));
    }
    t->positions++;
    t->agreed += top[PLAIN] == top[INT8];
    if (next) {
        t->loss[PLAIN] += total[PLAIN] - plain[*next];
        t->loss[INT8] += total[INT8] - int8[*next];
        t->predicted++;
    }
}

static cop_status measure(const quality *q, tally *t, cop_error *err)
{
    const uint32_t n = (uint32_t)q->tokens.count;
    for (uint32_t first = 0; first < n; first += CHUNK) {
        const uint32_t count = n - first < CHUNK ? n - first : CHUNK;
        cop_step_result result[SIDES];
        for (int side = 0; side < SIDES; side++) {
            cop_status status = run_chunk(q, side, first, count, &result[side], err);
            if (status != COP_OK)
                return status;
        }
        for (uint32_t i = 0; i < count; i++) {
            uint32_t next = first + i + 1;
            compare(t, result[PLAIN].logits + i * result[PLAIN].logits_stride,
                    result[INT8].logits + i * result[INT8].logits_stride, q->geometry->vocab,
                    next < n ? &q->tokens.ids[next] : NULL);
        }
    }
    return COP_OK;
}

static void print(const quality *q, const tally *t, const char *text, FILE *out)
{
    double values = (double)t->positions * q->geometry->vocab, n = (double)t->positions;
    double rms = sqrt(t->squares / values);
    fprintf(out, "%s, %s: beside it int8 weights, %zu tokens of %s\n", q->geometry->name,
            q->ops->describe(q->device[PLAIN]), q->tokens.count,
            text[0] ? text : "no text, at random");
    fprintf(out, "%-32s %10.5f of the rms logit\n", "logit error, rms",
            sqrt(t->error_squares / values) / rms);
    fprintf(out, "%-32s %10.5f of the rms logit\n", "logit error, greatest", t->greatest / rms);
    fprintf(out, "%-32s %10.2f %%\n", "top-1 agreement", 100 * (double)t->agreed / n);
    fprintf(out, "%-32s %10.6f nats\n", "mean KL divergence", t->divergence / n);
    if (!text[0])
        return;
    for (int side = 0; side < SIDES; side++)
        fprintf(out, "%-32s %10.3f\n",
                side == INT8 ? "perplexity, int8 weights" : "perplexity, weights unrounded",
                exp(t->loss[side] / (double)t->predicted));
}

cop_status cop_bench_quality(const cop_config *cfg, FILE *out, cop_error *err)
{
    quality q;
    tally t = {0};
    cop_status status = quality_open(&q, cfg, err);
    if (status == COP_OK)
        status = measure(&q, &t, err);
    if (status == COP_OK)
        print(&q, &t, cfg->bench_text, out);
    quality_close(&q);
    return status;
}
