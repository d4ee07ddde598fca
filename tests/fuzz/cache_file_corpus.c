/* Writes the corpus of fuzz_cache_file anew, after the layout of the file has changed.
 *
 *     cache_file_corpus FOLDER */
#include "base/alloc.h"
#include "cache_file_samples.h"

#include <stdio.h>
#include <stdlib.h>

/* The saved cache; without its KV unless it is to stay `whole`. */
static void write_sample(const cop_cache *cache, const char *folder, const char *name, bool whole)
{
    char path[4096];
    cop_error err;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    COP_CHECK(cop_cache_save(cache, path, &err) == COP_OK);
    if (whole)
        return;
    FILE *file = fopen(path, "rb+");
    COP_CHECK(file != NULL);
    uint8_t *data = cop_malloc(1 << 20);
    size_t size = fread(data, 1, 1 << 20, file);
    size_t record = SAMPLE_HEAD + cache->model->device_ops->block_bytes(cache->device);
    file = freopen(path, "wb", file);
    COP_CHECK(file != NULL);
    fwrite(data, 1, SAMPLE_HEADER, file);
    for (size_t at = SAMPLE_HEADER; at < size; at += record)
        fwrite(data + at, 1, SAMPLE_HEAD, file);
    fclose(file);
    free(data);
}

int main(int argc, char **argv)
{
    static const uint32_t a[] = {1, 2, 3, 4, 5, 6, 7}, b[] = {1, 2, 3, 9}, c[] = {8, 1};
    cop_model *model;
    cop_cache *cache;
    if (argc != 2) {
        fprintf(stderr, "usage: cache_file_corpus FOLDER\n");
        return 2;
    }
    open_sample(&model, &cache);
    write_sample(cache, argv[1], "empty", true);
    COP_CHECK(cop_cache_insert(cache, c, 1, NULL, NULL) == COP_OK);
    write_sample(cache, argv[1], "whole", true);
    COP_CHECK(cop_cache_insert(cache, a, 7, NULL, NULL) == COP_OK);
    write_sample(cache, argv[1], "chain", false);
    COP_CHECK(cop_cache_insert(cache, b, 4, NULL, NULL) == COP_OK);
    COP_CHECK(cop_cache_insert(cache, c, 2, NULL, NULL) == COP_OK);
    write_sample(cache, argv[1], "tree", false);
    cop_cache_close(cache);
    cop_model_close(model);
    return 0;
}
