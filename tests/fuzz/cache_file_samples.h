/* The cache that a cache file is loaded into while fuzzing, and what a corpus file leaves out. The
 * kernels are those that every machine has, for their name is in the file. */
#ifndef COP_TESTS_FUZZ_CACHE_FILE_SAMPLES_H
#define COP_TESTS_FUZZ_CACHE_FILE_SAMPLES_H

#include "api/cache_file.h"
#include "base/check.h"

#include <string.h>

enum { SAMPLE_BLOCK_TOKENS = 2, SAMPLE_CAPACITY_TOKENS = 128 };
enum { SAMPLE_HEADER = sizeof(cop_cache_file_header) };
enum { SAMPLE_HEAD = sizeof(cop_cache_file_record) + 8 }; /* a record without its KV */

static inline void open_sample(cop_model **model, cop_cache **cache)
{
    cop_error err;
    cop_model_options of = {.preset = "tiny", .seed = 5, .isa = "baseline", .threads = 1};
    cop_cache_options options = {.capacity_tokens = SAMPLE_CAPACITY_TOKENS,
                                 .block_tokens = SAMPLE_BLOCK_TOKENS,
                                 .chunk_tokens = 16};
    COP_CHECK(cop_model_open(model, &of, &err) == COP_OK);
    COP_CHECK(cop_cache_open(cache, *model, &options, &err) == COP_OK);
}

#endif
