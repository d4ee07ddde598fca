/* A glance at a model: enough to tell two models apart, cheap enough for every start. */
#include "model/weights.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <stdlib.h>

static cop_status hash_tensor(const cop_weights *w, cop_tensor tensor, uint32_t layer,
                              uint64_t *hash, cop_error *err)
{
    cop_weights_source source = cop_weights_source_of(w);
    cop_tensor_shape shape = cop_tensor_shape_of(cop_weights_geometry(w), tensor);
    uint32_t rows = shape.columns == 1 ? shape.rows : 1;
    uint16_t *scratch = cop_malloc(sizeof *scratch * rows * shape.columns);
    cop_status status = COP_OK;
    for (int last = 0; last < 2 && status == COP_OK; last++) {
        cop_weight_rows seen;
        status = source.read(source.self, tensor, layer, last ? shape.rows - rows : 0, rows,
                             scratch, &seen, err);
        if (status == COP_OK)
            *hash = cop_hash(seen.data, (size_t)rows * shape.columns * cop_dtype_bytes(seen.dtype),
                             *hash ^ seen.dtype);
    }
    free(scratch);
    return status;
}

cop_status cop_weights_fingerprint(const cop_weights *w, uint64_t *out, cop_error *err)
{
    const cop_geometry *g = cop_weights_geometry(w);
    uint64_t hash = cop_geometry_hash(g);
    cop_status status = COP_OK;
    for (int t = 0; t < COP_TENSORS && status == COP_OK; t++) {
        cop_tensor tensor = (cop_tensor)t;
        uint32_t layers = cop_tensor_layers(g, tensor);
        for (uint32_t layer = 0; layer < layers && status == COP_OK; layer++)
            status = hash_tensor(w, tensor, layer, &hash, err);
    }
    if (status == COP_OK)
        *out = hash;
    return status;
}
