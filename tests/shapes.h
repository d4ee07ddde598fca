/* Shapes of models that no preset has, for the tests of the device: head_dim 128 without biases,
 * untied; and everything that Qwen3 and Llama 3 add, with a vocabulary that fills no panel. */
#ifndef COP_TESTS_SHAPES_H
#define COP_TESTS_SHAPES_H

#include "model/geometry.h"

#include <string.h>

static const cop_geometry shape_wide = {.name = "wide",
                                        .layers = 2,
                                        .hidden = 192,
                                        .ffn = 1088, /* two blocks of k */
                                        .q_heads = 6,
                                        .kv_heads = 2,
                                        .head_dim = 128,
                                        .vocab = 512,
                                        .max_context = 4096,
                                        .rope_theta = 1e4,
                                        .rms_epsilon = 1e-5f};

static const cop_geometry shape_odd = {
    .name = "odd",
    .layers = 2,
    .hidden = 128,
    .ffn = 320,
    .q_heads = 6,
    .kv_heads = 3,
    .head_dim = 64,
    .vocab = 1003,
    .max_context = 4096,
    .rope_theta = 1e4,
    .rms_epsilon = 1e-6f,
    .qkv_bias = true,
    .qk_norm = true,
    .tied_embeddings = true,
    .rope_scaling = {
        .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_context = 64}};

static inline cop_status find_shape(const char *name, const cop_geometry **out, cop_error *err)
{
    if (strcmp(name, shape_wide.name) != 0 && strcmp(name, shape_odd.name) != 0)
        return cop_geometry_find(name, out, err);
    *out = strcmp(name, shape_wide.name) == 0 ? &shape_wide : &shape_odd;
    return COP_OK;
}

#endif
