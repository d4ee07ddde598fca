/* One safetensors file: named tensors in a mapping.
 *
 *     offset  type        meaning
 *     0       u64 LE      bytes of the header, n (at most 100 MB, as the format says)
 *     8       JSON        {"NAME": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...,
 *                          "__metadata__": {"key": "value"}}
 *     8 + n   bytes       the data; offsets count from here
 *
 * The tensors must cover the data without gap or overlap. https://github.com/huggingface/safetensors */
#ifndef COP_MODEL_SAFETENSORS_H
#define COP_MODEL_SAFETENSORS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct cop_safetensors cop_safetensors;

enum { COP_SAFETENSORS_DIMS = 8 };

typedef struct {
    const char *name, *dtype; /* dtype as the file spells it: "F32", "BF16", "I8", ... */
    uint32_t dims;
    uint64_t shape[COP_SAFETENSORS_DIMS];
    const uint8_t *data; /* in the mapping, not aligned */
    uint64_t bytes;
} cop_safetensor;

cop_status cop_safetensors_open(cop_safetensors **out, const char *path, cop_error *err);
/* The same of bytes in memory (borrowed), for tests and fuzzing; `name` is for messages. */
cop_status cop_safetensors_parse(cop_safetensors **out, const uint8_t *bytes, size_t size,
                                 const char *name, cop_error *err);
void cop_safetensors_close(cop_safetensors *file); /* NULL is legal */
size_t cop_safetensors_count(const cop_safetensors *file);
const cop_safetensor *cop_safetensors_at(const cop_safetensors *file,
                                         size_t i); /* sorted by name */
const cop_safetensor *cop_safetensors_find(const cop_safetensors *file, const char *name);
const char *cop_safetensors_path(const cop_safetensors *file);

#endif
