/* What computes: prefill and decode of a batch over paged KV blocks. One device per worker.
 *
 * A device owns the weights, the KV pool and its own compute threads (or GPU). Calls come from one
 * thread, never block on compute (but wait, read_block, write_block and probe), and at most one
 * batch is in flight:
 *
 *     open -> { copy_block* -> submit -> poll ... poll (done) }* -> close
 *
 * KV layout: a block holds `block_tokens` tokens of every layer, contiguous:
 *     [block][layer][k,v][kv_head][token][head_dim]      K after RoPE; BF16 or float32
 * so that a block is one message and one copy.
 *
 * Host slots: `host_slots` places of one block each in host memory (pinned, for a GPU), to and from
 * which blocks are moved beside the compute: the host tier of the cache, and the staging area of
 * transports that know host memory only. Moves are done in the order of the calls. A move out reads
 * what the batches polled before it have written; blocks that it frees may be given at once to the
 * next batch, a copy_block or a transport, all of which wait for it on the device. A block that is moved in may be used once `moved`
 * says so.
 *
 * Batch invariance (cpu; cuda with `deterministic`): the bits of a row of logits depend only on the
 * tokens before it, never on the batch, the chunking, the threads, or which of its KV blocks came
 * from the cache.
 *
 * A device in a plugin is the symbol cop_cuda_device of coppice-cuda.so; `abi` is checked first. */
#ifndef COP_DEVICE_DEVICE_H
#define COP_DEVICE_DEVICE_H

#include "base/status.h"
#include "model/weights.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COP_DEVICE_ABI = 3 };

typedef struct cop_device cop_device;

typedef struct {
    const cop_geometry *geometry; /* borrowed, must outlive the device */
    cop_weights_source weights;   /* read during open only */
    uint32_t blocks;              /* of the pool; 0: as many as fit (devices with own memory) */
    uint32_t block_tokens;
    uint32_t host_slots;
    uint32_t max_batch_tokens, max_sequences; /* of one batch: sizes the activations */
    uint32_t threads;                         /* >= 1 */
    bool float32;                             /* reference mode: weights, activations and KV */
    bool int8_weights;                        /* matrices rounded to 8 bits when loaded */
    bool logits_digest;                       /* fill result.digests */
    const char *isa;                          /* cpu: auto, avx512bf16, avx2, baseline */
    uint32_t index;                           /* cuda: which GPU of this host */
    bool share; /* cuda: an index beyond the last GPU begins again at the first, else it is
                               COP_ERR_INVALID, in words that name device.share */
    double memory_fraction; /* cuda, blocks == 0: share of the free memory to take for the pool */
    bool deterministic;     /* cuda: batch invariance, at a cost */
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
                            count; NULL on a GPU unless logits_digest */
    size_t logits_stride;
    int64_t started_ns, ended_ns; /* cop_clock_ns of the compute */
} cop_step_result;                /* arrays owned by the device, valid until the next submit */

/* What a device could do at best, or spends on a part, for the benches; with no batch in flight.
 * `rows`, `context`: sizes, <= max_batch_tokens and what the pool holds. Overwrites activations and
 * the pool. */
typedef enum {
    COP_PROBE_PEAK,   /* products and sums at the rate of the unit that does them */
    COP_PROBE_PEAK_1, /* cpu: of one thread */
    COP_PROBE_LINEAR, /* the matrix products of all layers alone, in order, on `rows` rows */
    COP_PROBE_READ,   /* every weight read once */
    COP_PROBE_COPY,   /* device memory to device memory; work counts bytes read + written */
    COP_PROBE_PREFILL_ATTENTION, /* of all layers, `rows` tokens after `context` */
    COP_PROBE_DECODE_ATTENTION,  /* of all layers, `rows` sequences at `context` tokens each */
    COP_PROBE_HOST_OUT,          /* device to pinned host memory, one large copy */
    COP_PROBE_HOST_IN
} cop_probe_kind;

typedef struct {
    int64_t ns;  /* of one execution */
    double work; /* floating-point operations, or bytes */
} cop_probe;

typedef struct {
    uint32_t abi; /* COP_DEVICE_ABI */
    const char *name;
    cop_status (*open)(cop_device **out, const cop_device_options *options, cop_error *err);
    void (*close)(cop_device *device); /* NULL is legal; waits for a batch in flight */
    /* Copies the first `tokens` tokens of every layer of block src to dst, before the next batch
     * and before what transports and moves write afterwards. */
    void (*copy_block)(cop_device *device, uint32_t src, uint32_t dst, uint32_t tokens);
    cop_status (*submit)(cop_device *device, const cop_batch *batch, cop_error *err);
    /* *done: the batch is done and *result is filled. Otherwise it is still computing. An error
     * (COP_ERR_DEVICE) is the end of the device: only close may follow. */
    cop_status (*poll)(cop_device *device, cop_step_result *result, bool *done, cop_error *err);
    /* Sleeps until poll will not say `still computing`: for a caller with nothing else to do. */
    void (*wait)(cop_device *device);

    uint32_t (*blocks)(const cop_device *device); /* of the pool */
    size_t (*block_bytes)(const cop_device *device);
    /* Where a block lies, for transports: in host memory if `host_memory`, else on the device. */
    void *(*block_address)(cop_device *device, uint32_t block);
    bool host_memory;
    /* A whole block to and from host memory. No batch may be in flight that writes it, and none
     * that reads it when it is written. */
    cop_status (*read_block)(cop_device *device, uint32_t block, void *host, cop_error *err);
    cop_status (*write_block)(cop_device *device, uint32_t block, const void *host, cop_error *err);

    void *(*host_slot)(cop_device *device, uint32_t slot); /* host memory of block_bytes */
    /* Block blocks[i] to slot slots[i], and back. Returns a ticket for `moved`: 1, 2, ... */
    uint64_t (*move_out)(cop_device *device, const uint32_t *blocks, const uint32_t *slots,
                         uint32_t count);
    uint64_t (*move_in)(cop_device *device, const uint32_t *blocks, const uint32_t *slots,
                        uint32_t count);
    bool (*moved)(cop_device *device, uint64_t ticket); /* and all before it */

    /* COP_ERR_UNSUPPORTED: this device has no such thing. */
    cop_status (*probe)(cop_device *device, cop_probe_kind kind, uint32_t rows, uint32_t context,
                        cop_probe *out, cop_error *err);
    /* "cpu avx512bf16, 2 threads, bf16", and ", int8 weights" where they are */
    const char *(*describe)(const cop_device *device);
    /* What no two workers should share, by a name that is unique in the world: "GPU-5a3f..."; ""
     * for devices that can be shared freely. */
    const char *(*identity)(const cop_device *device);
} cop_device_ops;

/* By config name. COP_ERR_UNSUPPORTED with the reason if this build or machine cannot. */
cop_status cop_device_find(const char *kind, const cop_device_ops **out, cop_error *err);

extern const cop_device_ops cop_device_cpu;

#endif
