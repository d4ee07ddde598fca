/* Runs one prompt on the CPU device and writes what a reference needs to redo it:
 *
 *     dump_logits PRESET SEED ISA PRECISION WEIGHTS TOKENS OUT
 *
 * WEIGHTS: bf16, the seeded ones; int8, these rounded; f16 or f32, those of typed_weights.h.
 * OUT.json: the geometry, the seed, the tokens; OUT.f32: logits from position TOKENS / 2 - 1 on,
 * f32[n][vocab]. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "device/device.h"

#include "../shapes.h"
#include "../typed_weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_TOKENS = 16, SKIPPED = 77 };

static FILE *open_output(const char *base, const char *suffix)
{
    char path[4096];
    snprintf(path, sizeof path, "%s.%s", base, suffix);
    FILE *f = fopen(path, "wb");
    if (!f)
        perror(path);
    return f;
}

static bool write_json(const char *base, const cop_geometry *g, uint64_t seed, const char *what,
                       const uint32_t *tokens, uint32_t n)
{
    FILE *f = open_output(base, "json");
    if (!f)
        return false;
    fprintf(f, "{\"name\": \"%s\", \"device\": \"%s\", \"seed\": %" PRIu64 ",\n", g->name, what,
            seed);
    fprintf(f, " \"layers\": %u, \"hidden\": %u, \"ffn\": %u, \"q_heads\": %u, \"kv_heads\": %u,\n",
            g->layers, g->hidden, g->ffn, g->q_heads, g->kv_heads);
    fprintf(f, " \"head_dim\": %u, \"vocab\": %u, \"rope_theta\": %.17g, \"rms_epsilon\": %.9g,\n",
            g->head_dim, g->vocab, g->rope_theta, g->rms_epsilon);
    fprintf(f, " \"qkv_bias\": %d, \"qk_norm\": %d, \"tied_embeddings\": %d,\n", g->qkv_bias,
            g->qk_norm, g->tied_embeddings);
    const cop_rope_scaling *r = &g->rope_scaling;
    fprintf(f, " \"rope_scaling\": [%.17g, %.17g, %.17g, %.17g],\n \"tokens\": [", r->factor,
            r->low_freq_factor, r->high_freq_factor, r->original_context);
    for (uint32_t i = 0; i < n; i++)
        fprintf(f, "%s%u", i ? ", " : "", tokens[i]);
    fprintf(f, "]}\n");
    return fclose(f) == 0;
}

/* The first half in one chunk, the rest token by token. Only sampled rows give logits. */
static cop_status run(cop_device *device, const cop_geometry *g, const uint32_t *tokens, uint32_t n,
                      FILE *out, cop_error *err)
{
    uint32_t *blocks = cop_malloc((n / BLOCK_TOKENS + 1) * sizeof *blocks);
    for (uint32_t i = 0; i <= n / BLOCK_TOKENS; i++)
        blocks[i] = i;
    cop_status status = COP_OK;
    for (uint32_t at = 0, count = n / 2; at < n && status == COP_OK; at += count, count = 1) {
        cop_sequence s = {tokens + at, at, count, blocks, .sample = true};
        cop_batch batch = {1, &s};
        cop_step_result result;
        status = cop_device_cpu.submit(device, &batch, err);
        if (status != COP_OK)
            break;
        bool done;
        cop_device_cpu.wait(device);
        status = cop_device_cpu.poll(device, &result, &done, err);
        if (status != COP_OK)
            break;
        if (fwrite(result.logits, sizeof(float), g->vocab, out) != g->vocab)
            status = cop_fail(err, COP_ERR_IO, "cannot write the logits");
    }
    free(blocks);
    return status;
}

static int dump(const cop_device_options *options, uint64_t seed, const char *base)
{
    const uint32_t n = options->max_batch_tokens;
    cop_error err;
    cop_device *device;
    cop_status status = cop_device_cpu.open(&device, options, &err);
    if (status != COP_OK) {
        fprintf(stderr, "dump_logits: %s\n", err.text);
        return status == COP_ERR_UNSUPPORTED ? SKIPPED : 1;
    }
    uint32_t *tokens = cop_malloc(n * sizeof *tokens);
    cop_rng rng;
    cop_rng_init(&rng, seed, 1);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)cop_rng_below(&rng, options->geometry->vocab);
    FILE *out = open_output(base, "f32");
    if (!out ||
        !write_json(base, options->geometry, seed, cop_device_cpu.describe(device), tokens, n))
        return 1;
    status = run(device, options->geometry, tokens, n, out, &err);
    if (status != COP_OK)
        fprintf(stderr, "dump_logits: %s\n", err.text);
    cop_device_cpu.close(device);
    free(tokens);
    return fclose(out) == 0 && status == COP_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    cop_error err;
    const cop_geometry *g;
    if (argc != 8) {
        fprintf(stderr, "usage: dump_logits PRESET SEED ISA PRECISION WEIGHTS TOKENS OUT\n");
        return 2;
    }
    if (find_shape(argv[1], &g, &err) != COP_OK) {
        fprintf(stderr, "dump_logits: %s\n", err.text);
        return 2;
    }
    const uint32_t n = (uint32_t)atoi(argv[6]);
    const char *weights = argv[5];
    const bool typed = weights[0] == 'f';
    cop_seeded_weights seeded = {.geometry = g, .seed = strtoull(argv[2], NULL, 10)};
    typed_weights other;
    if (typed)
        typed_open(&other, g, seeded.seed, strcmp(weights, "f16") == 0 ? COP_F16 : COP_F32);
    cop_device_options options = {.geometry = g,
                                  .weights =
                                      typed ? typed_source(&other) : cop_weights_seeded(&seeded),
                                  .blocks = n / BLOCK_TOKENS + 1,
                                  .block_tokens = BLOCK_TOKENS,
                                  .max_batch_tokens = n,
                                  .max_sequences = 1,
                                  .threads = 2,
                                  .float32 = strcmp(argv[4], "float32") == 0,
                                  .int8_weights = strcmp(weights, "int8") == 0,
                                  .isa = argv[3]};
    int status = dump(&options, seeded.seed, argv[7]);
    if (typed)
        typed_close(&other);
    return status;
}
