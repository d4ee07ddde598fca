/* libcoppice: prompt caching for one process. A model, a cache of the KV of the prompts it has
 * seen, and generation that computes only what the cache does not hold.
 *
 *     cop_model *model;  cop_cache *cache;  cop_error err;
 *     cop_model_open(&model, &(cop_model_options){.path = "Qwen2.5-0.5B-Instruct"}, &err);
 *     cop_cache_open(&cache, model, &(cop_cache_options){.capacity_tokens = 16384}, &err);
 *     cop_generate(cache, &(cop_generate_options){.tokens = t, .count = n, .max_new_tokens = 64},
 *                  on_token, ctx, &result, &err);
 *
 * Reuse is exact: on the CPU, and on a GPU with `deterministic`, the logits after a cached prefix are
 * the bits that computing the whole prompt would give, whatever the chunking, the cache or the
 * number of threads.
 *
 * Handles are opaque and owned by whoever opened them: close caches before their model; closing
 * NULL is legal. A model and its caches are used by one thread at a time; two models are
 * independent. Functions return COP_OK or an error, whose text (one line) is in *err; `err` may be
 * NULL. Outputs are set only on success. Option structs are zero-initialised: 0 and NULL stand for
 * the default; NULL for the options of a cache, too. The static library is not closed: all its
 * global names begin with cop_. Nothing prints, exits or changes global state. */
#ifndef COPPICE_H
#define COPPICE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COP_API __attribute__((visibility("default")))

/* ---- Model ---- */

typedef struct cop_model cop_model;

typedef struct {
    const char *path;   /* checkpoint folder in Hugging Face format: qwen2, qwen3, llama, mistral */
    const char *preset; /* without a path: a geometry by name with random weights; no text */
    uint64_t seed;      /* of the random weights */
    const char *device;    /* "cpu" (default) or "cuda", the plugin coppice-cuda.so */
    uint32_t device_index; /* cuda: which GPU */
    bool deterministic;    /* cuda: as exact as the CPU, see above; slower */
    const char *precision; /* "bf16" (default) or "float32", the reference */
    const char *weights;   /* "bf16" (default; float32 in float32 mode) or "int8" */
    const char *isa;       /* "auto" (default), "avx512bf16", "avx2", "baseline" */
    uint32_t threads;      /* 0: all cores */
} cop_model_options;

typedef struct {
    const char *name;   /* of the folder or the preset; borrowed from the model */
    const char *family; /* "qwen2", ...; NULL for a preset */
    const char *device; /* "cpu avx512bf16, 2 threads, bf16" once a cache is open, else "cpu" */
    uint32_t layers, hidden, vocab, max_context;
    uint64_t parameters, kv_bytes_per_token;
    bool has_tokenizer;
} cop_model_info;

/* COP_ERR_IO, COP_ERR_INVALID, COP_ERR_UNSUPPORTED: files, with the place in them. */
COP_API cop_status cop_model_open(cop_model **out, const cop_model_options *options,
                                  cop_error *err);
COP_API void cop_model_close(cop_model *model);
COP_API void cop_model_describe(const cop_model *model, cop_model_info *out);
/* Operations of a prompt of which `cached` tokens come from the cache and `computed` do not, up to
 * its first new token; a product and a sum count two. What a cached prefix saves at best is
 * cop_model_work(model, 0, cached + computed) / cop_model_work(model, cached, computed). */
COP_API double cop_model_work(const cop_model *model, uint32_t cached, uint32_t computed);

/* ---- Text. COP_ERR_UNSUPPORTED if the model has no tokenizer.json. ---- */

enum {
    COP_TEXT_SPECIAL = 1, /* special tokens spelled out in the text stand for themselves */
    COP_TEXT_BEGIN = 2    /* begin as the model expects a text to begin (<|begin_of_text|>) */
};

/* Tokens of a text: *count is how many there are, of which the first `capacity` are in tokens[]. */
COP_API cop_status cop_tokenize(cop_model *model, const char *text, size_t bytes, unsigned flags,
                                uint32_t *tokens, size_t capacity, size_t *count, cop_error *err);
/* Tokens of a conversation by the model's own chat template, up to where the assistant speaks.
 * system: NULL for none. turns[n]: user, assistant, user, ...; n odd. */
COP_API cop_status cop_tokenize_chat(cop_model *model, const char *system, const char *const *turns,
                                     size_t n, uint32_t *tokens, size_t capacity, size_t *count,
                                     cop_error *err);
/* Text of tokens, UTF-8, zero-terminated if there is room: *bytes is its whole length. Special
 * tokens stand for nothing. */
COP_API cop_status cop_detokenize(cop_model *model, const uint32_t *tokens, size_t count,
                                  char *text, size_t capacity, size_t *bytes, cop_error *err);

/* ---- Cache ---- */

typedef struct cop_cache cop_cache;

typedef struct {
    uint32_t capacity_tokens; /* default 8192; a prompt and its answer must fit */
    uint32_t block_tokens;    /* default 16 */
    const char *eviction;     /* default "lru"; "fifo", "lfu" */
    bool whole_blocks;        /* reuse whole blocks only; default: matches are exact to the token */
    uint32_t chunk_tokens;    /* of one step of a prefill; default 512 */
} cop_cache_options;

typedef struct {
    uint32_t block_tokens, capacity_blocks, used_blocks, cached_blocks;
    uint64_t block_bytes;
    uint64_t prompts, prompt_tokens, hit_tokens, computed_tokens, evicted_blocks; /* since open */
} cop_cache_stats;

/* Loads the weights and allocates the KV. Several caches may be open over one model; each has its
 * own packed weights. COP_ERR_NO_MEMORY names what did not fit. */
COP_API cop_status cop_cache_open(cop_cache **out, cop_model *model,
                                  const cop_cache_options *options, cop_error *err);
COP_API void cop_cache_close(cop_cache *cache);

/* Tokens of the longest cached prefix of tokens[count]. Changes nothing, not even recency. */
COP_API size_t cop_cache_match(const cop_cache *cache, const uint32_t *tokens, size_t count);
/* Computes what is missing of tokens[count] and keeps it: *computed tokens, 1 at the least. */
COP_API cop_status cop_cache_insert(cop_cache *cache, const uint32_t *tokens, size_t count,
                                    size_t *computed, cop_error *err);
/* Forgets every cached continuation of tokens[0 .. count), and keeps these: afterwards no prompt
 * that begins with them matches further. count 0 empties the cache. */
COP_API void cop_cache_truncate(cop_cache *cache, const uint32_t *tokens, size_t count);
COP_API void cop_cache_read(const cop_cache *cache, cop_cache_stats *out);

/* A file with every cached block: versioned, checksummed, bound to the model's weights, precision
 * and kernels. Saving replaces the file at once or not at all. */
COP_API cop_status cop_cache_save(const cop_cache *cache, const char *path, cop_error *err);
/* Into an empty cache. COP_ERR_INVALID: made by another model, kernel or block size (which one is
 * said); COP_ERR_CORRUPT: damaged. The cache stays empty then. COP_ERR_NO_SPACE: it holds more
 * than this cache can. */
COP_API cop_status cop_cache_load(cop_cache *cache, const char *path, cop_error *err);

/* ---- Generation ---- */

typedef struct {
    const uint32_t *tokens; /* the prompt, u32[count], count >= 1 */
    size_t count;
    uint32_t max_new_tokens;  /* >= 1 */
    float temperature, top_p; /* temperature 0: greedy; top_p 0: 1 */
    uint64_t seed;            /* of the draws */
    const uint32_t *stops;    /* more tokens that end the answer, beside the model's own */
    size_t stop_count;
    bool ignore_stops; /* go on to max_new_tokens, as benchmarks do */
    bool no_cache;     /* neither use the cache nor add to it; makes room like any prompt */
} cop_generate_options;

typedef struct {
    uint32_t prompt_tokens, cached_tokens, computed_tokens; /* prompt = cached + computed */
    uint32_t new_tokens;                                    /* the stop token counts */
    bool stopped;                                           /* by a stop token or the callback */
    int64_t ttft_ns;                                        /* from the call to the first token */
    int64_t total_ns;                                       /* to the last */
    uint64_t logits_hash; /* of every new token's logits, to compare runs by */
} cop_generate_result;

/* Called with each new token as soon as it is known; text: what it completes, UTF-8 of `bytes`
 * bytes, "" for special tokens and without a tokenizer; valid during the call. False ends the answer
 * here. It may match and read this cache: truncate does nothing, the others are COP_ERR_INVALID. */
typedef bool cop_on_token(void *ctx, uint32_t token, const char *text, size_t bytes);

/* COP_ERR_INVALID: a prompt that is empty, has unknown tokens or does not fit. on_token, ctx and
 * result may be NULL. */
COP_API cop_status cop_generate(cop_cache *cache, const cop_generate_options *options,
                                cop_on_token *on_token, void *ctx, cop_generate_result *result,
                                cop_error *err);

#ifdef __cplusplus
}
#endif

#endif
