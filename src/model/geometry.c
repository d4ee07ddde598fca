#include "model/geometry.h"

#include "base/hash.h"
#include "base/text.h"

#include <math.h>

/* tiny and small: toys with the shape of Qwen2.5. The rest: dimensions as published in the models'
 * own config.json. */
static const cop_geometry presets[] = {
    {.name = "tiny",
     .layers = 4,
     .hidden = 256,
     .ffn = 704,
     .q_heads = 4,
     .kv_heads = 2,
     .head_dim = 64,
     .vocab = 2048,
     .max_context = 32768,
     .rope_theta = 1e6,
     .rms_epsilon = 1e-6f,
     .qkv_bias = true,
     .tied_embeddings = true},
    {.name = "small",
     .layers = 8,
     .hidden = 512,
     .ffn = 1408,
     .q_heads = 8,
     .kv_heads = 2,
     .head_dim = 64,
     .vocab = 8192,
     .max_context = 32768,
     .rope_theta = 1e6,
     .rms_epsilon = 1e-6f,
     .qkv_bias = true,
     .tied_embeddings = true},
    {.name = "qwen2.5-0.5b",
     .layers = 24,
     .hidden = 896,
     .ffn = 4864,
     .q_heads = 14,
     .kv_heads = 2,
     .head_dim = 64,
     .vocab = 151936,
     .max_context = 32768,
     .rope_theta = 1e6,
     .rms_epsilon = 1e-6f,
     .qkv_bias = true,
     .tied_embeddings = true},
    {.name = "qwen2.5-1.5b",
     .layers = 28,
     .hidden = 1536,
     .ffn = 8960,
     .q_heads = 12,
     .kv_heads = 2,
     .head_dim = 128,
     .vocab = 151936,
     .max_context = 131072,
     .rope_theta = 1e6,
     .rms_epsilon = 1e-6f,
     .qkv_bias = true,
     .tied_embeddings = true},
    {.name = "qwen2.5-7b",
     .layers = 28,
     .hidden = 3584,
     .ffn = 18944,
     .q_heads = 28,
     .kv_heads = 4,
     .head_dim = 128,
     .vocab = 152064,
     .max_context = 131072,
     .rope_theta = 1e6,
     .rms_epsilon = 1e-6f,
     .qkv_bias = true,
     .tied_embeddings = false},
    {.name = "qwen3-0.6b",
     .layers = 28,
     .hidden = 1024,
     .ffn = 3072,
     .q_heads = 16,
     .kv_heads = 8,
     .head_dim = 128,
     .vocab = 151936,
     .max_context = 40960,
     .rope_theta = 1e6,
     .rms_epsilon = 1e-6f,
     .qk_norm = true,
     .tied_embeddings = true},
    {.name = "llama3.2-1b",
     .layers = 16,
     .hidden = 2048,
     .ffn = 8192,
     .q_heads = 32,
     .kv_heads = 8,
     .head_dim = 64,
     .vocab = 128256,
     .max_context = 131072,
     .rope_theta = 5e5,
     .rms_epsilon = 1e-5f,
     .tied_embeddings = true,
     .rope_scaling =
         {.factor = 32, .low_freq_factor = 1, .high_freq_factor = 4, .original_context = 8192}},
    {.name = "llama3-8b",
     .layers = 32,
     .hidden = 4096,
     .ffn = 14336,
     .q_heads = 32,
     .kv_heads = 8,
     .head_dim = 128,
     .vocab = 128256,
     .max_context = 8192,
     .rope_theta = 5e5,
     .rms_epsilon = 1e-5f,
     .qkv_bias = false,
     .tied_embeddings = false},
    {.name = "mistral-7b", /* v0.3 */
     .layers = 32,
     .hidden = 4096,
     .ffn = 14336,
     .q_heads = 32,
     .kv_heads = 8,
     .head_dim = 128,
     .vocab = 32768,
     .max_context = 32768,
     .rope_theta = 1e6,
     .rms_epsilon = 1e-5f,
     .qkv_bias = false,
     .tied_embeddings = false},
};

enum { PRESETS = sizeof presets / sizeof *presets };

const cop_geometry *cop_geometry_at(size_t i)
{
    return i < PRESETS ? &presets[i] : NULL;
}

cop_status cop_geometry_find(const char *name, const cop_geometry **out, cop_error *err)
{
    const char *names[PRESETS];
    size_t found;
    for (size_t i = 0; i < PRESETS; i++)
        names[i] = presets[i].name;
    cop_status status =
        cop_find_name(name, names, PRESETS, "model.preset: unknown preset", &found, err);
    if (status == COP_OK)
        *out = &presets[found];
    return status;
}

double cop_geometry_rope_frequency(const cop_geometry *g, uint32_t i)
{
    const double pi = 3.14159265358979323846;
    const cop_rope_scaling *s = &g->rope_scaling;
    double frequency = pow(g->rope_theta, -2.0 * i / g->head_dim);
    if (s->factor == 0)
        return frequency;
    double turns = s->original_context * frequency / (2 * pi); /* within the original context */
    if (turns < s->low_freq_factor)
        return frequency / s->factor;
    if (turns > s->high_freq_factor)
        return frequency;
    double smooth = (turns - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return (1 - smooth) * frequency / s->factor + smooth * frequency;
}

uint64_t cop_geometry_hash(const cop_geometry *g)
{
    const cop_rope_scaling *s = &g->rope_scaling;
    uint64_t whole[] = {g->layers,   g->hidden,          g->ffn,        g->q_heads,
                        g->kv_heads, g->head_dim,        g->vocab,      g->qk_norm,
                        g->qkv_bias, g->tied_embeddings, g->max_context};
    double real[] = {g->rope_theta,      g->rms_epsilon,      s->factor,
                     s->low_freq_factor, s->high_freq_factor, s->original_context};
    return cop_hash(real, sizeof real, cop_hash(whole, sizeof whole, 0));
}

uint64_t cop_geometry_kv_bytes(const cop_geometry *g, uint32_t element_bytes)
{
    return (uint64_t)2 * g->layers * g->kv_heads * g->head_dim * element_bytes;
}

uint64_t cop_geometry_linear_weights(const cop_geometry *g)
{
    uint64_t q = (uint64_t)g->q_heads * g->head_dim, kv = (uint64_t)g->kv_heads * g->head_dim;
    uint64_t attention = g->hidden * (q + 2 * kv) + q * g->hidden;
    return g->layers * (attention + (uint64_t)3 * g->hidden * g->ffn);
}

uint64_t cop_geometry_parameters(const cop_geometry *g)
{
    uint64_t q = (uint64_t)g->q_heads * g->head_dim, kv = (uint64_t)g->kv_heads * g->head_dim;
    uint64_t norms = (uint64_t)(2 * g->layers + 1) * g->hidden +
                     (g->qk_norm ? (uint64_t)2 * g->layers * g->head_dim : 0);
    uint64_t biases = g->qkv_bias ? g->layers * (q + 2 * kv) : 0;
    uint64_t embedding = (uint64_t)g->vocab * g->hidden;
    return cop_geometry_linear_weights(g) + norms + biases +
           (g->tied_embeddings ? embedding : 2 * embedding);
}

double cop_geometry_work(const cop_geometry *g, uint32_t start, uint32_t count)
{
    double n = count, pairs = n * start + n * (n + 1) / 2;
    return 2 * n * (double)cop_geometry_linear_weights(g) +
           4 * pairs * g->layers * g->q_heads * g->head_dim + 2.0 * g->vocab * g->hidden;
}
