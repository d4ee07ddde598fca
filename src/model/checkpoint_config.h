/* What a Hugging Face config.json says, as a geometry; internal to the checkpoint reader.
 *
 * Read as transformers reads it: a key that is absent has the default of the family's own config
 * class there (configuration_qwen2.py, ...), and the RoPE parameters stand at the top level with
 * rope_scaling (transformers 4, most of the hub) or in rope_parameters (transformers 5). Sizes have
 * no defaults here. What would change the arithmetic and is not in geometry.h is refused by name. */
#ifndef COP_MODEL_CHECKPOINT_CONFIG_H
#define COP_MODEL_CHECKPOINT_CONFIG_H

#include "base/json.h"
#include "model/geometry.h"

typedef struct {
    cop_geometry geometry; /* name: NULL. Products of two of its sizes fit 45 bits */
    const char *family;    /* static: "qwen2", "qwen3", "llama", "mistral" */
} cop_checkpoint_config;

/* COP_ERR_INVALID: the file, the key, and what was expected. COP_ERR_UNSUPPORTED: what this
 * transformer lacks. `file` is for messages alone. */
cop_status cop_checkpoint_config_parse(cop_checkpoint_config *out, const cop_json *root,
                                       const char *file, cop_error *err);

/* eos_token_id, a token or a list of them, each below vocab. *out: u32[*count], owned by the caller
 * (free); NULL and 0 if the file names none. */
cop_status cop_checkpoint_stops_parse(uint32_t **out, size_t *count, const cop_json *root,
                                      uint32_t vocab, const char *file, cop_error *err);

#endif
