/* What computes: prefill and decode of a batch over paged KV blocks. One device per worker.
 *
 * A device owns the weights, the KV pool and its own compute threads (or GPU). Calls come from one
 * thread, never block on compute (but wait), and at most one batch is in flight:
 *
 *     open -> { copy_block* -> submit -> poll ... poll (true) }* -> close
 *
 * KV layout: a block holds `block_tokens` tokens of every layer, contiguous:
 *     [block][layer][k,v][kv_head][token][head_dim]      K after RoPE; BF16 or float32
 * so that a block is one message and one copy.
 *
 * Batch invariance (cpu): the bits of a row of logits depend only on the tokens before it, never on
 * the batch, the chunking, the threads, or which of its KV blocks came from the cache. */
#ifndef COP_DEVICE_DEVICE_H
#define COP_DEVICE_DEVICE_H

#include "base/status.h"
#include "model/weights.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COP_DEVICE_ABI = 2 };

typedef struct cop_device cop_device;

typedef struct {
    const cop_geometry *geometry; /* borrowed, must outlive the device */
    cop_weights_source weights;   /* read during open only */
    uint32_t blocks, block_tokens;
    uint32_t max_batch_tokens, max_sequences; /* of one batch: sizes the activations */
    uint32_t threads;                         /* >= 1 */
    bool float32;                             /* reference mode: weights, activations and KV */
    bool int8_weights;                        /* matrices rounded to 8 bits when loaded */
    bool logits_digest;                       /* fill result.digests */
    const char *isa;                          /* cpu: auto, avx512bf16, avx2, baseline */
} cop_device_options;

/* One sequence of a batch: `count` tokens at positions start, start+1, ... whose predecessors
 * (0 .. start-1) already lie in the blocks of the table. */
typedef struct {
    const uint32_t *tokens; /* u32[count] */
    uint32_t start, count;
    const uint32_t *blocks;   /* u32[ceil((start + count) / block_tokens)] */
    bool sample;              /* compute the logits of the last token and draw the next */
    float temperature, top_p; /* temperature 0: greedy, lowest id on equal logits */
    uint64_t sample_seed;     /* the draw depends on this and the position alone */
} cop_sequence;

typedef struct {
    uint32_t count;
    const cop_sequence *sequences; /* borrowed until poll returns true; so are tokens and blocks */
} cop_batch;

typedef struct {
    uint32_t *tokens;  /* u32[count]: drawn token; COP_NO_TOKEN where sample was false */
    uint64_t *digests; /* u64[count]: hash of the logits row (0 unless logits_digest and sample) */
    const float *logits; /* f32[sampled rows][logits_stride], in order, the first vocab of a row
                            count; may be NULL on devices that keep logits to themselves */
    size_t logits_stride;
    int64_t started_ns, ended_ns; /* cop_clock_ns of the compute */
} cop_step_result;                /* arrays owned by the device, valid until the next submit */

typedef struct {
    uint32_t abi; /* COP_DEVICE_ABI */
    const char *name;
    cop_status (*open)(cop_device **out, const cop_device_options *options, cop_error *err);
    void (*close)(cop_device *device); /* NULL is legal; waits for a batch in flight */
    /* Copies the first `tokens` tokens of every layer of block src to dst, before the next batch.
     */
    void (*copy_block)(cop_device *device, uint32_t src, uint32_t dst, uint32_t tokens);
    cop_status (*submit)(cop_device *device, const cop_batch *batch, cop_error *err);
    /* True when the batch is done: *result is filled. False: still computing. */
    bool (*poll)(cop_device *device, cop_step_result *result);
    /* Sleeps until poll will return true: for a caller with nothing else to look after. */
    void (*wait)(cop_device *device);
    size_t (*block_bytes)(const cop_device *device);
    void *(*block_data)(cop_device *device,
                        uint32_t block); /* host memory; NULL: not addressable */
    /* "cpu avx512bf16, 2 threads, bf16", and ", int8 weights" where they are */
    const char *(*describe)(const cop_device *device);
} cop_device_ops;

/* By config name. COP_ERR_UNSUPPORTED with the reason if this build or machine cannot. */
cop_status cop_device_find(const char *kind, const cop_device_ops **out, cop_error *err);

extern const cop_device_ops cop_device_cpu;

#endif
