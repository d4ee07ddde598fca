/* Geometry of a decoder-only transformer of the Qwen and Llama families, and the presets.
 *
 *     x = embed[token]                                       float32 residual stream
 *     per layer:  h = rmsnorm(x) * g1
 *                 q,k,v = h Wq + bq, h Wk + bk, h Wv + bv    biases: Qwen2
 *                 q,k = rmsnorm(q) * gq, rmsnorm(k) * gk     per head, before RoPE: Qwen3
 *                 rope(q), rope(k)
 *                 x += attention(q, k, v) Wo                 grouped queries, causal
 *                 h = rmsnorm(x) * g2
 *                 x += (silu(h Wgate) * (h Wup)) Wdown
 *     logits = rmsnorm(x) * gf  Whead                        Whead = embed^T when tied
 */
#ifndef COP_MODEL_GEOMETRY_H
#define COP_MODEL_GEOMETRY_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Llama 3.1's stretching of the context ("rope_type": "llama3"); factor 0: none. */
typedef struct {
    double factor, low_freq_factor, high_freq_factor;
    double original_context; /* tokens */
} cop_rope_scaling;

typedef struct {
    const char *name;
    uint32_t layers, hidden, ffn;         /* hidden, ffn: multiples of 64 */
    uint32_t q_heads, kv_heads, head_dim; /* q_heads a multiple of kv_heads; head_dim 64, 128 */
    uint32_t vocab;
    uint32_t max_context; /* tokens */
    double rope_theta;
    float rms_epsilon;
    bool qkv_bias, qk_norm, tied_embeddings;
    cop_rope_scaling rope_scaling;
} cop_geometry;

/* COP_ERR_INVALID with the nearest name if there is no such preset. *out is borrowed, static. */
cop_status cop_geometry_find(const char *name, const cop_geometry **out, cop_error *err);
const cop_geometry *cop_geometry_at(size_t i); /* NULL past the end */

/* Radians per position of pair i of head_dim / 2: theta^(-2i / head_dim), scaled if the model says
 * so: wave lengths above original_context / low_freq_factor by 1 / factor, those below
 * original_context / high_freq_factor not at all, linearly between. */
double cop_geometry_rope_frequency(const cop_geometry *g, uint32_t i);

uint64_t cop_geometry_hash(const cop_geometry *g); /* of everything but the name */

/* KV bytes of one token: 2 * layers * kv_heads * head_dim * element_bytes. */
uint64_t cop_geometry_kv_bytes(const cop_geometry *g, uint32_t element_bytes);
uint64_t cop_geometry_linear_weights(const cop_geometry *g); /* without embedding and head */
uint64_t cop_geometry_parameters(const cop_geometry *g);
/* Operations of computing `count` tokens after `start`, a product and a sum counting two: linear
 * layers, scores and values of causal attention, one row of the head. */
double cop_geometry_work(const cop_geometry *g, uint32_t start, uint32_t count);

#endif
