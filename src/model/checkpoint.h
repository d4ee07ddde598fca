/* A checkpoint in Hugging Face format, as downloaded:
 *
 *     config.json                       the geometry
 *     model.safetensors                 or the shards that model.safetensors.index.json names
 *     generation_config.json            optional: where generation ends
 *
 * Files are mapped, never copied: rows of a tensor are pointers into the mapping, in the type of
 * the file (F32, F16, BF16). Families: qwen2 (Qwen2, Qwen2.5), qwen3, llama (Llama 2, 3.x), mistral.
 * What a config asks for and this transformer lacks (another architecture, experts, a sliding
 * window in use, quantised weights, another activation, an unknown RoPE scaling) is an error that
 * names it. Every tensor that the geometry wants must be there, with its shape, and there must
 * be no other: it would be left out of the arithmetic. Nothing is allocated from a number in a file
 * before the number was checked. */
#ifndef COP_MODEL_CHECKPOINT_H
#define COP_MODEL_CHECKPOINT_H

#include "model/weights.h"

typedef struct cop_checkpoint cop_checkpoint;

/* COP_ERR_INVALID or COP_ERR_UNSUPPORTED: one line with the file and the place in it. */
cop_status cop_checkpoint_open(cop_checkpoint **out, const char *folder, cop_error *err);
void cop_checkpoint_close(cop_checkpoint *checkpoint); /* NULL is legal */

const cop_geometry *cop_checkpoint_geometry(const cop_checkpoint *checkpoint); /* borrowed */
const char *cop_checkpoint_family(const cop_checkpoint *checkpoint);           /* "qwen2", ... */
cop_weights_source cop_checkpoint_source(const cop_checkpoint *checkpoint);
/* XXH3 of the geometry and of every tensor's bytes, whatever the files they lie in. */
uint64_t cop_checkpoint_identity(const cop_checkpoint *checkpoint);
/* Tokens that end an answer (eos_token_id of generation_config.json, else of config.json): *count
 * may be 0. Each is in the vocabulary, or the checkpoint does not open. Borrowed. */
const uint32_t *cop_checkpoint_stops(const cop_checkpoint *checkpoint, size_t *count);

#endif
