/* Launchers of the CUDA kernels: what the CUDA device computes with, beside cuBLAS.
 *
 * Every pointer is device memory, unless said; a launcher queues its kernel on `stream`, never
 * blocks, allocates nothing, may be captured in a graph, and returns what the launch returned. BF16
 * values travel as uint16_t, activations are rounded to BF16 where they are stored, sums are
 * float32. Matrices are row-major and begin at multiples of 16 bytes. Rows of a batch are its
 * tokens, sequence after sequence.
 *
 * A step, in the order of its launches (G: a matrix product by cuBLASLt):
 *
 *     embed -> { rmsnorm -> G qkv -> place_qkv -> attention -> G o -> add_rmsnorm
 *                -> G gate_up -> swiglu -> G down -> add_rmsnorm (of the next layer) }*
 *           -> last_rows -> G head -> sample
 *
 * The residual stream x is float32 (as on the cpu device); what a layer adds to it comes out of the
 * matrix product in BF16 (`delta`) and is added by the norm that follows.
 *
 * Padding: a batch may be longer than what it holds, so that one graph serves several sizes. Rows at
 * or beyond *batch.rows and sequences of count 0 are left alone: their outputs keep what they had. */
#ifndef COP_KERNELS_H
#define COP_KERNELS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What never changes while a device is open. */
typedef struct {
    uint32_t layers, hidden, ffn, vocab;
    uint32_t q_heads, kv_heads, head_dim; /* head_dim 64 or 128 */
    uint32_t block_tokens;                /* any number from 1 up */
    float rms_epsilon;
    uint16_t *pool;       /* [blocks][layers][k,v][kv_heads][block_tokens][head_dim] */
    const float *cosine;  /* [max_context][head_dim / 2] */
    const float *sine;    /* likewise */
} cop_cuda_shape;

/* One sequence of the batch. */
typedef struct {
    uint32_t first_row; /* of its tokens in the batch */
    uint32_t start;     /* position of the first of them: so many tokens lie in the pool already */
    uint32_t count;     /* 0: padding */
    uint32_t table;     /* where its block table begins in batch.blocks */
} cop_cuda_sequence;

/* A tile of queries of one sequence, for prefill attention: tokens [query, query + COP_QUERY_TILE)
 * of the sequence's `count`, cut at its end. */
typedef struct {
    uint32_t sequence, query;
} cop_cuda_tile;

enum { COP_QUERY_TILE = 128 };

/* How a sampled row becomes a token. */
typedef struct {
    float temperature, top_p; /* temperature 0: greedy, lowest id on equal logits */
    uint32_t row;             /* of the batch: the sequence's last token */
    uint32_t position;        /* of the token to be drawn */
    uint64_t seed;
} cop_cuda_draw;

/* A batch as the kernels see it: filled by one copy per step. */
typedef struct {
    const uint32_t *counts;   /* [3]: rows, sequences, sampled rows, of this step */
    const uint32_t *token;    /* [rows] */
    const uint32_t *position; /* [rows] */
    const uint32_t *slot;     /* [rows]: block * block_tokens + place, where its K and V go */
    const cop_cuda_sequence *sequence;
    const uint32_t *blocks; /* block tables of all sequences */
    const cop_cuda_draw *draw;
} cop_cuda_batch;

/* Loads the code of every kernel. CUDA does so at the first launch otherwise, and may wait for all
 * that is on the GPU then: for ever, if that is a receive whose sender waits for us (CUDA Programming
 * Guide, "Lazy Loading"). Blocks; not in a capture. */
cudaError_t cop_cuda_load_kernels(void);

/* x f32[rows][hidden] = embedding[token]. embedding: BF16 [vocab][hidden]. */
cudaError_t cop_cuda_embed(const cop_cuda_shape *shape, const cop_cuda_batch *batch, uint32_t rows,
                           const uint16_t *embedding, float *x, cudaStream_t stream);

/* h BF16[rows][hidden] = rmsnorm(x) * gain. gain f32[hidden]. */
cudaError_t cop_cuda_rmsnorm(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                             uint32_t rows, const float *x, const float *gain, uint16_t *h,
                             cudaStream_t stream);

/* x += delta, then as above: what was added stays in x. delta BF16[rows][hidden]. */
cudaError_t cop_cuda_add_rmsnorm(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                                 uint32_t rows, float *x, const uint16_t *delta, const float *gain,
                                 uint16_t *h, cudaStream_t stream);

/* The sampled rows alone: out BF16[sampled][hidden] = rmsnorm(x + delta) * gain of row
 * draw[i].row. x is left as it is. */
cudaError_t cop_cuda_last_rows(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                               uint32_t sampled, const float *x, const uint16_t *delta,
                               const float *gain, uint16_t *out, cudaStream_t stream);

/* From qkv BF16[rows][(q_heads + 2 * kv_heads) * head_dim], q first, then k, then v (the biases are
 * in it already): q and k are normed per head (gains f32[head_dim], NULL: not), turned by RoPE
 * (pairs i and i + head_dim / 2), q goes to q BF16[rows][q_heads][head_dim], k and v to the pool. */
cudaError_t cop_cuda_place_qkv(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                               uint32_t rows, uint32_t layer, const uint16_t *qkv,
                               const float *q_norm, const float *k_norm, uint16_t *q,
                               cudaStream_t stream);

/* Attention of the tokens of each tile over their sequence's context in the pool (their own K and V
 * included), causal: out BF16[rows][q_heads][head_dim], scores scaled by 1 / sqrt(head_dim).
 * tiles [count], 65,535 at most; a tile of a sequence of count 0, or beyond its end, does nothing.
 * They begin in this order: those with the longest context come first best. Keys are taken 64 at a
 * time from position 0 on, so the bits of a row depend on its query and its context alone, never on
 * chunking or on the other rows. */
cudaError_t cop_cuda_prefill_attention(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                                       const cop_cuda_tile *tiles, uint32_t count, uint32_t layer,
                                       const uint16_t *q, uint16_t *out, cudaStream_t stream);

/* The same for sequences of one token each, `sequences` of them from sequence `first` on; others
 * among them are left alone. The context is split into `splits` parts, computed side by side and
 * then combined; the parts and so the bits depend on `splits`. partial: scratch of
 * cop_cuda_decode_scratch bytes. */
cudaError_t cop_cuda_decode_attention(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                                      uint32_t first, uint32_t sequences, uint32_t splits,
                                      uint32_t layer, const uint16_t *q, uint16_t *out,
                                      float *partial, cudaStream_t stream);
size_t cop_cuda_decode_scratch(const cop_cuda_shape *shape, uint32_t sequences, uint32_t splits);
/* Splits that fill `multiprocessors` at this many sequences and this longest context; a power of
 * two, 1 or more. */
uint32_t cop_cuda_decode_splits(const cop_cuda_shape *shape, uint32_t sequences, uint32_t context,
                                uint32_t multiprocessors);

/* out BF16[rows][ffn] = silu(gate) * up, of gate_up BF16[rows][2 * ffn], gate first. */
cudaError_t cop_cuda_swiglu(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                            uint32_t rows, const uint16_t *gate_up, uint16_t *out,
                            cudaStream_t stream);

/* tokens[i] drawn from logits f32[sampled][stride] as draw[i] says: greedy, or from
 * softmax(logits / temperature) cut to the nucleus top_p, the lower id first among equals; the draw
 * is splitmix64(splitmix64(seed) ^ position), walked in order of ids, as on the cpu device.
 * scratch: cop_cuda_sample_scratch bytes. */
cudaError_t cop_cuda_sample(const cop_cuda_shape *shape, const cop_cuda_batch *batch,
                            uint32_t sampled, const float *logits, size_t stride,
                            uint32_t *tokens, void *scratch, cudaStream_t stream);
size_t cop_cuda_sample_scratch(const cop_cuda_shape *shape, uint32_t sampled);

/* The first `tokens` tokens of every layer of block src to block dst. */
cudaError_t cop_cuda_copy_block(const cop_cuda_shape *shape, uint32_t src, uint32_t dst,
                                uint32_t tokens, cudaStream_t stream);

/* Reads `bytes` (a multiple of 16) of memory, for probes; may write *sink. */
cudaError_t cop_cuda_read_all(const void *data, size_t bytes, uint32_t *sink,
                              uint32_t multiprocessors, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
