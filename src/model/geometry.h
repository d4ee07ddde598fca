/* Geometry of a decoder-only transformer of the Qwen2.5 / Llama family, and the presets.
 *
 *     x = embed[token]                                       float32 residual stream
 *     per layer:  h = rmsnorm(x) * g1
 *                 q,k,v = h Wq + bq, h Wk + bk, h Wv + bv;  rope(q), rope(k)
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

typedef struct {
    const char *name;
    uint32_t layers, hidden, ffn;         /* hidden, ffn: multiples of 64 */
    uint32_t q_heads, kv_heads, head_dim; /* q_heads a multiple of kv_heads; head_dim 64, 128 */
    uint32_t vocab;                       /* multiple of 64 */
    uint32_t max_context;                 /* tokens */
    float rope_theta, rms_epsilon;
    bool qkv_bias, tied_embeddings;
} cop_geometry;

/* COP_ERR_INVALID with the nearest name if there is no such preset. *out is borrowed, static. */
cop_status cop_geometry_find(const char *name, const cop_geometry **out, cop_error *err);
const cop_geometry *cop_geometry_at(size_t i); /* NULL past the end */

/* KV bytes of one token: 2 * layers * kv_heads * head_dim * element_bytes. */
uint64_t cop_geometry_kv_bytes(const cop_geometry *g, uint32_t element_bytes);
uint64_t cop_geometry_linear_weights(const cop_geometry *g); /* without embedding and head */
uint64_t cop_geometry_parameters(const cop_geometry *g);

#endif
