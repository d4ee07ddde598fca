#include "model/weights.h"

#include "base/check.h"
#include "base/rng.h"

#include <math.h>

cop_tensor_shape cop_tensor_shape_of(const cop_geometry *g, cop_tensor tensor)
{
    uint32_t q = g->q_heads * g->head_dim, kv = g->kv_heads * g->head_dim;
    switch (tensor) {
    case COP_TENSOR_EMBED:
    case COP_TENSOR_HEAD:
        return (cop_tensor_shape){g->vocab, g->hidden};
    case COP_TENSOR_FINAL_NORM:
    case COP_TENSOR_NORM1:
    case COP_TENSOR_NORM2:
        return (cop_tensor_shape){g->hidden, 1};
    case COP_TENSOR_Q:
        return (cop_tensor_shape){q, g->hidden};
    case COP_TENSOR_K:
    case COP_TENSOR_V:
        return (cop_tensor_shape){kv, g->hidden};
    case COP_TENSOR_Q_BIAS:
        return (cop_tensor_shape){q, 1};
    case COP_TENSOR_K_BIAS:
    case COP_TENSOR_V_BIAS:
        return (cop_tensor_shape){kv, 1};
    case COP_TENSOR_O:
        return (cop_tensor_shape){g->hidden, q};
    case COP_TENSOR_GATE:
    case COP_TENSOR_UP:
        return (cop_tensor_shape){g->ffn, g->hidden};
    case COP_TENSOR_DOWN:
        return (cop_tensor_shape){g->hidden, g->ffn};
    case COP_TENSOR_Q_NORM:
    case COP_TENSOR_K_NORM:
        return (cop_tensor_shape){g->head_dim, 1};
    case COP_TENSORS:
        break;
    }
    return (cop_tensor_shape){0, 0};
}

uint32_t cop_tensor_layers(const cop_geometry *g, cop_tensor tensor)
{
    switch (tensor) {
    case COP_TENSOR_EMBED:
    case COP_TENSOR_FINAL_NORM:
        return 1;
    case COP_TENSOR_HEAD:
        return !g->tied_embeddings;
    case COP_TENSOR_Q_BIAS:
    case COP_TENSOR_K_BIAS:
    case COP_TENSOR_V_BIAS:
        return g->qkv_bias ? g->layers : 0;
    case COP_TENSOR_Q_NORM:
    case COP_TENSOR_K_NORM:
        return g->qk_norm ? g->layers : 0;
    default:
        return g->layers;
    }
}

typedef struct {
    uint32_t lo, hi; /* key of the tensor */
    int32_t base, shift;
    float scale;
} distribution;

static distribution distribution_of(const cop_seeded_weights *self, cop_tensor tensor,
                                    uint32_t layer)
{
    uint64_t key = cop_splitmix64(self->seed ^ cop_splitmix64((uint64_t)layer * 32 + tensor));
    distribution d = {.lo = (uint32_t)key, .hi = (uint32_t)(key >> 32), .shift = 8};
    switch (tensor) {
    case COP_TENSOR_FINAL_NORM:
    case COP_TENSOR_NORM1:
    case COP_TENSOR_NORM2: /* (2^22 +- 2^19) / 2^22 */
    case COP_TENSOR_Q_NORM:
    case COP_TENSOR_K_NORM:
        d.base = 1 << 22;
        d.shift = 12;
        d.scale = 0x1p-22f;
        break;
    case COP_TENSOR_Q_BIAS:
    case COP_TENSOR_K_BIAS:
    case COP_TENSOR_V_BIAS: /* +- 2^23 / 2^27 */
        d.scale = 0x1p-27f;
        break;
    default: /* uniform in +- sqrt(3 / columns): variance 1 / columns */
        d.scale =
            (float)(sqrt(3.0 / cop_tensor_shape_of(self->geometry, tensor).columns) * 0x1p-23);
    }
    return d;
}

/* out[i] = element first + i. A plain loop that GCC vectorises; compiled for several targets. */
static inline __attribute__((always_inline)) void fill_body(distribution d, uint32_t first,
                                                            size_t count, uint16_t *restrict out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t h = first + (uint32_t)i + d.lo;
        h ^= h >> 16;
        h *= 0x7feb352du;
        h ^= h >> 15;
        h += d.hi;
        h *= 0x846ca68bu;
        h ^= h >> 16;
        union {
            float f;
            uint32_t u;
        } v = {(float)(d.base + ((int32_t)h >> d.shift)) * d.scale};
        out[i] = (uint16_t)((v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16);
    }
}

static void fill_any(distribution d, uint32_t first, size_t count, uint16_t *out)
{
    fill_body(d, first, count, out);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void fill_avx2(distribution d, uint32_t first, size_t count,
                                                      uint16_t *out)
{
    fill_body(d, first, count, out);
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) static void
fill_avx512(distribution d, uint32_t first, size_t count, uint16_t *out)
{
    fill_body(d, first, count, out);
}
#endif

static void fill(distribution d, uint32_t first, size_t count, uint16_t *out)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        fill_avx512(d, first, count, out);
        return;
    }
    if (__builtin_cpu_supports("avx2")) {
        fill_avx2(d, first, count, out);
        return;
    }
#endif
    fill_any(d, first, count, out);
}

static cop_status seeded_read(const void *source, cop_tensor tensor, uint32_t layer, uint32_t row,
                              uint32_t rows, uint16_t *scratch, cop_weight_rows *out,
                              cop_error *err)
{
    const cop_seeded_weights *self = source;
    cop_tensor_shape shape = cop_tensor_shape_of(self->geometry, tensor);
    COP_CHECK((uint64_t)row + rows <= shape.rows);
    COP_CHECK((uint64_t)shape.rows * shape.columns <= UINT32_MAX); /* the counter's width */
    fill(distribution_of(self, tensor, layer), row * shape.columns, (size_t)rows * shape.columns,
         scratch);
    *out = (cop_weight_rows){.dtype = COP_BF16, .data = scratch};
    return COP_OK;
}

cop_weights_source cop_weights_seeded(const cop_seeded_weights *self)
{
    return (cop_weights_source){.read = seeded_read, .self = self};
}
