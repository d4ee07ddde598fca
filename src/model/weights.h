/* Where weights come from: a seed or a checkpoint. A source shows slices of row-major tensors on
 * request, from any thread; whoever computes packs them as it likes.
 *
 *     tensor      shape [rows][columns]            tensor      shape
 *     EMBED       [vocab][hidden]                  Q           [q_heads * head_dim][hidden]
 *     HEAD        [vocab][hidden] (untied only)    K, V        [kv_heads * head_dim][hidden]
 *     FINAL_NORM  [hidden][1]                      *_BIAS      [rows of Q, K, V][1]
 *     NORM1       [hidden][1]                      O           [hidden][q_heads * head_dim]
 *     NORM2       [hidden][1]                      GATE, UP    [ffn][hidden]     DOWN [hidden][ffn]
 *     Q_NORM, K_NORM [head_dim][1] (qk_norm only)
 *
 * Seeded weights. Element i (row-major) of a tensor is a function of (seed, layer, tensor, i):
 *
 *     key = splitmix64(seed ^ splitmix64(layer * 32 + tensor))           64 bits, lo and hi halves
 *     h = i + lo;  h ^= h >> 16;  h *= 0x7feb352d;  h ^= h >> 15;        all in 32 bits
 *     h += hi;     h *= 0x846ca68b;  h ^= h >> 16
 *     value = bf16((float)(base + ((int32)h >> shift)) * scale)          nearest even
 *
 * The sum is below 2^24, so the conversion is exact and one product is the only rounding before
 * BF16: any IEEE machine gives the same bits. Matrices are uniform with variance 1 / columns, norms
 * uniform in 1 +- 1/8, biases uniform in +- 1/16. */
#ifndef COP_MODEL_WEIGHTS_H
#define COP_MODEL_WEIGHTS_H

#include "model/geometry.h"

typedef enum {
    COP_TENSOR_EMBED,
    COP_TENSOR_HEAD,
    COP_TENSOR_FINAL_NORM,
    COP_TENSOR_NORM1,
    COP_TENSOR_Q,
    COP_TENSOR_K,
    COP_TENSOR_V,
    COP_TENSOR_Q_BIAS,
    COP_TENSOR_K_BIAS,
    COP_TENSOR_V_BIAS,
    COP_TENSOR_O,
    COP_TENSOR_NORM2,
    COP_TENSOR_GATE,
    COP_TENSOR_UP,
    COP_TENSOR_DOWN,
    COP_TENSOR_Q_NORM,
    COP_TENSOR_K_NORM,
    COP_TENSORS
} cop_tensor;

typedef struct {
    uint32_t rows, columns;
} cop_tensor_shape;

cop_tensor_shape cop_tensor_shape_of(const cop_geometry *g, cop_tensor tensor);

/* Layers that have the tensor: 0 if the model lacks it (a tied head, biases, QK norms), 1 for the
 * three tensors of the whole model. */
uint32_t cop_tensor_layers(const cop_geometry *g, cop_tensor tensor);

typedef enum { COP_BF16, COP_F16, COP_F32 } cop_dtype;

/* Where rows of a tensor lie: [rows][columns] of dtype. Borrowed: from the source for as long as it
 * lives, or from the scratch that was handed in. No alignment is promised: safetensors has none. */
typedef struct {
    cop_dtype dtype;
    const void *data;
} cop_weight_rows;

typedef struct {
    /* Rows [row, row + rows) of a tensor. scratch: u16[rows][columns], for sources that make their
     * weights. `layer` is 0 for the three tensors of the whole model. Callable from several threads
     * at once. */
    cop_status (*read)(const void *self, cop_tensor tensor, uint32_t layer, uint32_t row,
                       uint32_t rows, uint16_t *scratch, cop_weight_rows *out, cop_error *err);
    const void *self;
} cop_weights_source;

/* Caller's memory behind a seeded source; must outlive it. */
typedef struct {
    const cop_geometry *geometry; /* borrowed */
    uint64_t seed;
} cop_seeded_weights;

cop_weights_source cop_weights_seeded(const cop_seeded_weights *self);

/* A model: a geometry, and where its weights come from. */
typedef struct cop_weights cop_weights;

/* `path`: a checkpoint folder (checkpoint.h); NULL or empty: `preset` with weights from `seed`. */
cop_status cop_weights_open(cop_weights **out, const char *path, const char *preset, uint64_t seed,
                            cop_error *err);
void cop_weights_close(cop_weights *weights);                         /* NULL is legal */
const cop_geometry *cop_weights_geometry(const cop_weights *weights); /* borrowed */
cop_weights_source cop_weights_source_of(const cop_weights *weights); /* borrowed */
/* Equal for equal geometry and weights: a hash of both. Of a checkpoint: reads it whole. */
uint64_t cop_weights_identity(const cop_weights *weights);
/* The same of the geometry and of the first and last row of every tensor (norms and biases whole): a
 * few MB of an 8B model, and models that were trained differently differ there. */
cop_status cop_weights_fingerprint(const cop_weights *weights, uint64_t *out, cop_error *err);
struct cop_checkpoint;
/* NULL: a preset. Borrowed. */
const struct cop_checkpoint *cop_weights_checkpoint(const cop_weights *weights);
const char *cop_weights_path(const cop_weights *weights); /* NULL: a preset */

/* n weights of a source, not aligned, to another type: nearest even where that rounds; a NaN stays
 * one. */
void cop_weights_to_float(const void *in, cop_dtype dtype, size_t n, float *restrict out);
void cop_weights_to_bf16(const void *in, cop_dtype dtype, size_t n, uint16_t *restrict out);

static inline size_t cop_dtype_bytes(cop_dtype dtype)
{
    return dtype == COP_F32 ? 4 : 2;
}

static inline float cop_bf16_to_float(uint16_t x)
{
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)x << 16};
    return v.f;
}

#endif
