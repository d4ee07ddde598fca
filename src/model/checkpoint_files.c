#include "model/checkpoint_files.h"

#include "base/alloc.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_INDEX_BYTES = 64 << 20, NAME_SHOWN = 200 };

char *cop_checkpoint_path(const char *folder, const char *file)
{
    size_t bytes = strlen(folder) + strlen(file) + 2;
    char *path = cop_malloc(bytes);
    snprintf(path, bytes, "%s/%s", folder, file);
    return path;
}

bool cop_checkpoint_has(const char *folder, const char *file)
{
    char *path = cop_checkpoint_path(folder, file);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static cop_status add_shard(cop_checkpoint_files *files, const char *folder, const char *file,
                            cop_error *err)
{
    if (!cop_checkpoint_has(folder, file))
        return cop_fail(err, COP_ERR_INVALID,
                        "%s/model.safetensors.index.json: weight_map names '%.100s', which is not "
                        "in the folder",
                        folder, file);
    char *path = cop_checkpoint_path(folder, file);
    cop_safetensors *shard;
    cop_status status = cop_safetensors_open(&shard, path, err);
    if (status == COP_OK) {
        files->shards = cop_realloc(files->shards, (files->count + 1) * sizeof *files->shards);
        files->shards[files->count++] = shard;
    }
    free(path);
    return status;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A shard lies in the folder itself: an index must not lead anywhere else. */
static cop_status check_weight_map(const cop_json *map, const char *path, const char **names,
                                   cop_error *err)
{
    const char *tensor;
    const cop_json *value;
    size_t n = 0;
    for (void *i = NULL; (i = cop_json_next(map, i, &tensor, &value));) {
        const char *file = cop_json_string(value, NULL);
        if (!file || !file[0] || file[0] == '.' || strchr(file, '/'))
            return cop_fail(err, COP_ERR_INVALID,
                            "%s: weight_map: tensor '%.*s': '%.*s' is no file name; the plain name "
                            "of a file in the same folder is expected",
                            path, NAME_SHOWN, tensor, NAME_SHOWN, file ? file : "");
        names[n++] = file;
    }
    return COP_OK;
}

/* Opens every file of the weight map once, in order of name. */
static cop_status open_shards(cop_checkpoint_files *files, const char *folder,
                              const cop_json *index, const char *path, cop_error *err)
{
    const cop_json *map = cop_json_get(index, "weight_map");
    size_t count = cop_json_count(map);
    if (!map || cop_json_kind_of(map) != COP_JSON_OBJECT || count == 0)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: weight_map is missing; an object of tensors and their files is "
                        "expected",
                        path);
    const char **names = cop_calloc(count, sizeof *names);
    cop_status status = check_weight_map(map, path, names, err);
    if (status == COP_OK)
        qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; status == COP_OK && i < count; i++)
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
            status = add_shard(files, folder, names[i], err);
    free(names);
    return status;
}

/* Which of two tensors of one name is meant, nobody could tell. */
static cop_status check_once(const cop_checkpoint_files *files, cop_error *err)
{
    for (size_t i = 1; i < files->count; i++) {
        for (size_t j = 0; j < cop_safetensors_count(files->shards[i]); j++) {
            const char *name = cop_safetensors_at(files->shards[i], j)->name, *path = NULL;
            cop_checkpoint_files_find(files, name, &path);
            if (path != cop_safetensors_path(files->shards[i]))
                return cop_fail(err, COP_ERR_INVALID, "%s: tensor '%.*s' is in %s too",
                                cop_safetensors_path(files->shards[i]), NAME_SHOWN, name, path);
        }
    }
    return COP_OK;
}

cop_status cop_checkpoint_files_init(cop_checkpoint_files *files, const char *folder,
                                     cop_error *err)
{
    static const char single[] = "model.safetensors", sharded[] = "model.safetensors.index.json";
    *files = (cop_checkpoint_files){0};
    if (cop_checkpoint_has(folder, single))
        return add_shard(files, folder, single, err);
    if (!cop_checkpoint_has(folder, sharded))
        return cop_fail(err, COP_ERR_INVALID, "%s: has neither %s nor %s%s", folder, single,
                        sharded,
                        cop_checkpoint_has(folder, "pytorch_model.bin")
                            ? "; pytorch_model.bin is not read, convert it to safetensors"
                            : "");
    char *path = cop_checkpoint_path(folder, sharded);
    cop_json *index = NULL;
    cop_status status = cop_json_load(&index, path, MAX_INDEX_BYTES, err);
    if (status == COP_OK)
        status = open_shards(files, folder, index, path, err);
    if (status == COP_OK)
        status = check_once(files, err);
    cop_json_free(index);
    free(path);
    return status;
}

void cop_checkpoint_files_fini(cop_checkpoint_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        cop_safetensors_close(files->shards[i]);
    free(files->shards);
    *files = (cop_checkpoint_files){0};
}

const cop_safetensor *cop_checkpoint_files_find(const cop_checkpoint_files *files, const char *name,
                                                const char **path)
{
    for (size_t i = 0; i < files->count; i++) {
        const cop_safetensor *found = cop_safetensors_find(files->shards[i], name);
        if (found) {
            *path = cop_safetensors_path(files->shards[i]);
            return found;
        }
    }
    return NULL;
}
