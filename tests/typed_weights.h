/* Weights of a type that a checkpoint may have, at addresses that nothing divides, as in a mapped
 * file. BF16: the seeded ones. F16 and F32: the seeded ones times 1 + 2^-9 + 2^-20, which BF16
 * cannot hold, rounded once in float32 and, for F16, once more. */
#ifndef COP_TESTS_TYPED_WEIGHTS_H
#define COP_TESTS_TYPED_WEIGHTS_H

#include "base/alloc.h"
#include "base/check.h"
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const cop_geometry *geometry;
    cop_dtype dtype;
    char **tensor; /* [layers][COP_TENSORS], each one byte into its allocation; NULL: not there */
} typed_weights;

static inline void typed_store(cop_dtype dtype, uint16_t x, char *out)
{
    float y = cop_bf16_to_float(x) * (1 + 0x1p-9f + 0x1p-20f);
    _Float16 half = (_Float16)y;
    if (dtype == COP_F32)
        memcpy(out, &y, sizeof y);
    else if (dtype == COP_F16)
        memcpy(out, &half, sizeof half);
    else
        memcpy(out, &x, sizeof x);
}

static inline char *typed_tensor(const typed_weights *w, cop_weights_source seeded,
                                 cop_tensor tensor, uint32_t layer)
{
    const cop_tensor_shape shape = cop_tensor_shape_of(w->geometry, tensor);
    const size_t n = (size_t)shape.rows * shape.columns, bytes = cop_dtype_bytes(w->dtype);
    uint16_t *scratch = cop_malloc(n * sizeof *scratch);
    char *out = (char *)cop_malloc(n * bytes + 1) + 1;
    cop_weight_rows rows;
    COP_CHECK(seeded.read(seeded.self, tensor, layer, 0, shape.rows, scratch, &rows, NULL) ==
              COP_OK);
    for (size_t i = 0; i < n; i++)
        typed_store(w->dtype, scratch[i], out + i * bytes);
    free(scratch);
    return out;
}

static inline void typed_open(typed_weights *w, const cop_geometry *g, uint64_t seed,
                              cop_dtype dtype)
{
    cop_seeded_weights seeded = {.geometry = g, .seed = seed};
    *w = (typed_weights){.geometry = g, .dtype = dtype};
    w->tensor = cop_calloc((size_t)g->layers * COP_TENSORS, sizeof *w->tensor);
    for (uint32_t i = 0; i < g->layers * COP_TENSORS; i++)
        if (i / COP_TENSORS < cop_tensor_layers(g, i % COP_TENSORS))
            w->tensor[i] =
                typed_tensor(w, cop_weights_seeded(&seeded), i % COP_TENSORS, i / COP_TENSORS);
}

static inline void typed_close(typed_weights *w)
{
    for (uint32_t i = 0; i < w->geometry->layers * COP_TENSORS; i++)
        if (w->tensor[i])
            free(w->tensor[i] - 1);
    free(w->tensor);
}

static inline cop_status typed_read(const void *self, cop_tensor tensor, uint32_t layer,
                                    uint32_t row, uint32_t rows, uint16_t *scratch,
                                    cop_weight_rows *out, cop_error *err)
{
    const typed_weights *w = self;
    const cop_tensor_shape shape = cop_tensor_shape_of(w->geometry, tensor);
    const char *data = w->tensor[layer * COP_TENSORS + tensor];
    COP_CHECK(data && (uint64_t)row + rows <= shape.rows);
    *out =
        (cop_weight_rows){w->dtype, data + (size_t)row * shape.columns * cop_dtype_bytes(w->dtype)};
    return COP_OK;
}

static inline cop_weights_source typed_source(const typed_weights *w)
{
    return (cop_weights_source){.read = typed_read, .self = w};
}

#endif
