/* The files of a checkpoint's folder: the tensors in them, whichever shard holds each; internal to
 * the checkpoint reader. */
#ifndef COP_MODEL_CHECKPOINT_FILES_H
#define COP_MODEL_CHECKPOINT_FILES_H

#include "model/safetensors.h"

#include <stdbool.h>

typedef struct {
    cop_safetensors **shards; /* owned, in order of name */
    size_t count;
} cop_checkpoint_files;

/* model.safetensors, or every file that model.safetensors.index.json names, each once. Whatever the
 * status, fini is due. COP_ERR_INVALID also where a tensor lies in two files. */
cop_status cop_checkpoint_files_init(cop_checkpoint_files *files, const char *folder,
                                     cop_error *err);
void cop_checkpoint_files_fini(cop_checkpoint_files *files);

/* NULL if no file has it; else *path (borrowed) is the file's. */
const cop_safetensor *cop_checkpoint_files_find(const cop_checkpoint_files *files, const char *name,
                                                const char **path);

/* Owned by the caller: "FOLDER/FILE". */
char *cop_checkpoint_path(const char *folder, const char *file);
bool cop_checkpoint_has(const char *folder, const char *file);

#endif
