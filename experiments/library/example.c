/* Answers twice, the second time from the cache. FOLDER: a checkpoint; or the name of a preset.
 *     cc example.c $(pkg-config --cflags --libs coppice) -o example && ./example ./FOLDER */
#include <coppice/coppice.h>
#include <stdio.h>
#include <string.h>

static bool print(void *ctx, uint32_t token, const char *text, size_t bytes)
{
    return bytes ? fwrite(text, 1, bytes, stdout) == bytes : printf("[%u]", token) > 0;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "tiny", *text = "The quick brown fox";
    cop_model_options options = {.path = strchr(name, '/') ? name : NULL, .preset = name};
    cop_model *model = NULL;
    cop_cache *cache = NULL; /* closing NULL is legal */
    cop_generate_result result;
    cop_error err;
    size_t count = 512;
    uint32_t tokens[512] = {0};
    cop_status status = cop_model_open(&model, &options, &err);
    if (status == COP_OK)
        status = cop_cache_open(&cache, model, &(cop_cache_options){0}, &err);
    if (status == COP_OK && strchr(name, '/'))
        status = cop_tokenize(model, text, strlen(text), 0, tokens, 512, &count, &err);
    cop_generate_options ask = {.tokens = tokens, .count = count, .max_new_tokens = 16};
    for (int run = 0; run < 2 && status == COP_OK; run++) {
        status = cop_generate(cache, &ask, print, NULL, &result, &err);
        if (status == COP_OK)
            printf("\n%u of %u prompt tokens from the cache, TTFT %.2f ms\n", result.cached_tokens,
                   result.prompt_tokens, 1e-6 * (double)result.ttft_ns);
    }
    if (status != COP_OK)
        fprintf(stderr, "%s\n", err.text);
    cop_cache_close(cache);
    cop_model_close(model);
    return status != COP_OK;
}
