/* One request as every module sees it: what the workload produced, the router places and a worker
 * serves. Plain data; the tokens are borrowed from the workload (or from a message). */
#ifndef COP_BASE_REQUEST_H
#define COP_BASE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

enum { COP_NO_WORKER = UINT32_MAX, COP_NO_TOKEN = UINT32_MAX };

typedef struct {
    uint64_t id;            /* 0, 1, 2, ... in order of the workload */
    uint64_t session;       /* requests of one conversation share it */
    uint64_t tenant;        /* salt of the block hashes: tenants never share KV */
    uint32_t turn;          /* 0 for the first request of a session */
    uint32_t prompt_tokens; /* >= 1 */
    uint32_t output_tokens; /* >= 1: how many are generated, no early stop */
    bool output_given;      /* replayed transcript: the tokens to append follow the prompt */
    const uint32_t *tokens; /* u32[prompt_tokens (+ output_tokens if output_given)] */
    int64_t scheduled_ns;   /* arrival time, from the start of the run */
} cop_request;

/* Blocks that hold prompt and output. */
static inline uint64_t cop_request_blocks(const cop_request *request, uint32_t block_tokens)
{
    uint64_t tokens = (uint64_t)request->prompt_tokens + request->output_tokens;
    return (tokens + block_tokens - 1) / block_tokens;
}

#endif
