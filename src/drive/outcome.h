/* What `coppice generate` tells of a prompt and its answer: a line for people, an object for
 * scripts. */
#ifndef COP_DRIVE_OUTCOME_H
#define COP_DRIVE_OUTCOME_H

#include "base/log.h"
#include "coppice.h"

typedef struct {
    size_t number; /* of the prompt, from 1 */
    cop_generate_result result;
    int64_t cold_ns;  /* TTFT of the same prompt without the cache; 0: not measured */
    const char *text; /* UTF-8 of the answer, `bytes` bytes; borrowed, as tokens are */
    size_t bytes;
    const uint32_t *tokens; /* u32[result.new_tokens] */
} cop_outcome;

/* "prompt 2: 2064 tokens, 2048 cached, TTFT 23.1 ms (cold 412.5 ms, 17.9x), 31 new tokens, 42.1
 * tokens/s" */
void cop_outcome_log(const cop_outcome *outcome, const cop_log *log);

/* One line: prompt, text, tokens, prompt_tokens, cached_tokens, computed_tokens, new_tokens,
 * stopped, ttft_ms, cold_ttft_ms, speedup, tokens_per_second (these three null where unknown),
 * logits_hash (hexadecimal text). */
void cop_outcome_json(const cop_outcome *outcome, FILE *out);

#endif
