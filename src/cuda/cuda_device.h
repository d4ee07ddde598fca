/* Inside of the CUDA device: what its files share.
 *
 *     device.c    the operations of device.h; checks options and batches
 *     memory.c    what is allocated; all sizes are known, and compared with what is free, before
 *     load.c      the weights, from their source to the device
 *     gemm.c      matrix products by cuBLASLt
 *     batch.c     a batch as the kernels see it
 *     step.c      the launches of a step
 *     graph.c     steps that only decode, as CUDA graphs
 *     warm.c      what is not to happen at first use
 *     move.c      copies of blocks, and to and from host memory
 *     probe.c     what this GPU could do at best, for the benches
 *
 * Two streams. `compute` has the steps and copy_block, `moves` what goes to and from host memory;
 * move.c says what waits for what. One thread calls; each call that queues something first makes
 * the device current in it, as a process may have several. */
#ifndef COP_CUDA_CUDA_DEVICE_H
#define COP_CUDA_CUDA_DEVICE_H

#include "cuda/check.h"
#include "cuda/plugin.h"
#include "device/device.h"
#include "kernels.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

/* The matrix products of a layer, and the head. */
typedef enum {
    COP_PRODUCT_QKV,
    COP_PRODUCT_O,
    COP_PRODUCT_GATE_UP,
    COP_PRODUCT_DOWN,
    COP_PRODUCT_HEAD,
    COP_PRODUCTS
} cop_product;

/* Sizes of batches come in buckets: 1, 2, 3, 4, 6, 8, 12, ... 2^n, 3 * 2^(n-1). */
enum { COP_BUCKETS = 64 };

/* y[rows][out] = x[rows][in] w[out][in]^T + bias, for all matrices of one shape. */
typedef struct {
    uint32_t in, out, max_rows;
    bool bias;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t w, x, y;
    struct {
        bool known;
        cublasLtMatmulAlgo_t algorithm;
    } choice[COP_BUCKETS]; /* by bucket of rows; deterministic: the first, for all */
} cop_gemm;

typedef struct {
    uint16_t *qkv;      /* [q + 2 kv][hidden]: q, k, v */
    uint16_t *qkv_bias; /* [q + 2 kv]; NULL if the model has none */
    uint16_t *o;        /* [hidden][q] */
    uint16_t *gate_up;  /* [2 ffn][hidden]: gate, up */
    uint16_t *down;     /* [hidden][ffn] */
    float *norm1, *norm2;
    float *q_norm, *k_norm; /* [head_dim]; NULL if the model has none */
} cop_cuda_layer;

/* How much a step launches. */
typedef struct {
    uint32_t rows, sequences, sampled;
    uint32_t tiles;   /* of prefill attention */
    uint32_t decodes; /* sequences of decode attention: the first ones of the batch */
    uint32_t splits;  /* of their contexts */
} cop_step_size;

/* A step that was captured: its launches, for as many sequences of one token each. */
typedef struct {
    uint32_t sequences, splits; /* 0: an empty place */
    uint64_t used;              /* when it was last wanted, in steps */
    cudaGraphExec_t graph;      /* NULL: wanted once, and not captured yet */
} cop_cuda_graph;

/* A tile of prefill attention and where its context ends, by which tiles are sorted. */
typedef struct {
    uint32_t end;
    cop_cuda_tile tile;
} cop_tile_end;

enum {
    COP_WORKSPACE = 64 << 20, /* of cuBLASLt, bytes; it wants 32 MiB on Hopper */
    COP_GRAPHS = 64,          /* places for graphs; beyond, the one not wanted for longest goes */
    COP_MOVES = 256           /* calls of move_out and move_in that can be under way */
};

struct cop_device {
    cop_device_options options;
    cop_geometry g;
    cop_cuda_shape shape;
    char gpu[256]; /* its name */
    char description[300], identity[48];
    uint32_t multiprocessors;
    uint32_t q_size, kv_size, qkv_size; /* elements of a row of q, of k, of all three */
    uint32_t max_rows, max_sequences, max_context, max_tiles;
    uint32_t max_decodes; /* sequences of one token in one batch */
    size_t logits_stride;
    size_t block_bytes;
    uint32_t blocks; /* of the pool */

    bool current; /* the GPU is open: streams, events, memory may exist */
    cudaStream_t compute, moves;
    cudaEvent_t begun, ended; /* of the step in flight, with times */
    cublasLtHandle_t cublas;
    cublasLtMatmulPreference_t preference;
    cop_gemm gemm[COP_PRODUCTS];
    void *workspace; /* of cuBLASLt */

    /* weights, read-only after open */
    char *weights; /* all of them */
    size_t weight_bytes;
    size_t decode_bytes; /* of them from the start: those that every step reads whole */
    cop_cuda_layer *layers;
    uint16_t *embedding, *head; /* [vocab][hidden]; the same if tied */
    float *final_norm;
    float *cosine, *sine; /* [max_context][head_dim / 2] */

    uint16_t *pool; /* see device.h */
    char *host;     /* pinned, [host_slots] blocks */
    char *block;    /* pinned: one block on its way to or from the caller's memory */

    /* activations */
    float *x;                  /* [rows][hidden]: the residual stream */
    uint16_t *h, *delta;       /* [rows][hidden]: normalised; to be added to x */
    uint16_t *qkv, *q, *mixed; /* [rows][qkv_size], [rows][q_size]: q placed, attention's result */
    uint16_t *gate_up, *ffn;   /* [rows][2 ffn], [rows][ffn] */
    uint16_t *last;            /* [sampled][hidden] */
    float *logits;             /* [sampled][logits_stride] */
    float *partial;            /* of decode attention */
    size_t partial_bytes;
    void *sample_scratch;
    uint32_t *drawn; /* [sampled] */

    /* the batch in flight */
    bool in_flight;
    char *batch_device, *batch_host; /* one buffer, copied once per step; the latter pinned */
    size_t batch_bytes;              /* room in each */
    cop_cuda_batch batch;            /* in batch_device */
    const cop_cuda_tile *tiles;      /* likewise */
    cop_tile_end *tile_end;          /* [max_tiles]: scratch of batch.c */
    uint32_t *sampled_sequence;      /* [sampled] */
    uint32_t sequences, sampled;
    uint32_t *drawn_host; /* pinned, [sequences] */
    float *logits_host;   /* pinned, [sequences][logits_stride]; NULL: no digests */
    int64_t started_ns;
    cop_step_result result;
    cop_cuda_graph graphs[COP_GRAPHS];
    uint64_t steps; /* that only decoded */

    /* move.c */
    cudaEvent_t copied; /* the last copy_block */
    bool any_copied;
    cudaEvent_t moved[COP_MOVES]; /* [ticket % COP_MOVES] */
    uint64_t tickets, tickets_done;
    uint64_t last_out,
        waited_out; /* tickets of moves out: the last, and what `compute` waits for */

    /* The first failure of a call that had no way to say so; whoever can, says it. */
    cop_error failure;
};

/* The device becomes the current one of this thread. A failure that is still to be told comes out
 * here. */
cop_status cop_cuda_enter(cop_device *d, cop_error *err);
/* Keeps the first failure of a call that has no status to return. */
void cop_cuda_remember(cop_device *d, const cop_error *err);

cop_status cop_cuda_allocate(cop_device *d, cop_error *err); /* memory.c */
/* Bytes of `partial`: enough for decode attention of 1 to max_decodes sequences, of contexts up to
 * max_context. */
size_t cop_cuda_decode_room(const cop_cuda_shape *shape, uint32_t max_decodes, uint32_t max_context,
                            uint32_t multiprocessors);
void cop_cuda_release(cop_device *d);
cop_status cop_cuda_load(cop_device *d, cop_error *err);
cop_status cop_cuda_warm(cop_device *d, cop_error *err);

cop_status cop_cuda_gemms_open(cop_device *d, cop_error *err);
void cop_cuda_gemms_close(cop_device *d);
cop_status cop_cuda_gemm_open(cop_gemm *g, uint32_t in, uint32_t out, size_t y_stride, bool bias,
                              cudaDataType_t y_type, uint32_t max_rows, cop_error *err);
void cop_cuda_gemm_close(cop_gemm *g);
/* x BF16[rows][in], w BF16[out][in], bias BF16[out] if the product has one; y BF16[rows][out], of
 * the head f32[rows][logits_stride]. Queued on `compute`. */
cop_status cop_cuda_multiply(cop_device *d, cop_gemm *g, const uint16_t *w, const uint16_t *bias,
                             const uint16_t *x, uint32_t rows, void *y, cop_error *err);

uint32_t cop_cuda_bucket(uint32_t n);           /* the first that holds n >= 1 */
uint32_t cop_cuda_bucket_size(uint32_t bucket); /* what it holds */

/* A checked batch into the pinned buffer, and its copy to the device queued. *decode_only: nothing
 * but sampled sequences of one token; then *size is rounded up to a bucket. */
cop_status cop_cuda_lay_out(cop_device *d, const cop_batch *batch, cop_step_size *size,
                            bool *decode_only, cop_error *err);
cop_status cop_cuda_step(cop_device *d, cop_step_size size, cop_error *err);
/* Attention of one layer, from q to `mixed`. */
cop_status cop_cuda_attend(cop_device *d, cop_step_size size, uint32_t layer, cop_error *err);
/* Captures a step of this size if there is an empty place. */
cop_status cop_cuda_graph_prepare(cop_device *d, cop_step_size size, cop_error *err);
cop_status cop_cuda_graph_step(cop_device *d, cop_step_size size, cop_error *err);
void cop_cuda_graphs_close(cop_device *d);

cop_status cop_cuda_moves_open(cop_device *d, cop_error *err);
void cop_cuda_moves_close(cop_device *d);
cop_status cop_cuda_wait_for_moves_out(cop_device *d, cop_error *err);

void *cop_cuda_block(const cop_device *d, uint32_t block); /* its address */
/* The operations of device.h that are not in device.c. */
void cop_cuda_copy(cop_device *d, uint32_t src, uint32_t dst, uint32_t tokens);
cop_status cop_cuda_read(cop_device *d, uint32_t block, void *host, cop_error *err);
cop_status cop_cuda_write(cop_device *d, uint32_t block, const void *host, cop_error *err);
void *cop_cuda_host_slot(cop_device *d, uint32_t slot);
uint64_t cop_cuda_move_out(cop_device *d, const uint32_t *blocks, const uint32_t *slots,
                           uint32_t count);
uint64_t cop_cuda_move_in(cop_device *d, const uint32_t *blocks, const uint32_t *slots,
                          uint32_t count);
bool cop_cuda_moved(cop_device *d, uint64_t ticket);
cop_status cop_cuda_probe(cop_device *d, cop_probe_kind kind, uint32_t rows, uint32_t context,
                          cop_probe *out, cop_error *err);

#endif
