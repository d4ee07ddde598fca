/* Inside of the CPU device: what its files share.
 *
 *     cpu.c            the operations of device.h; checks a batch and hands it to the runner
 *     cpu_load.c       memory; reads and packs the weights
 *     cpu_forward.c    a batch through the layers
 *     cpu_gemm.c       activations x packed weights
 *     cpu_attention.c  paged attention
 *     cpu_sample.c     logits to tokens
 *     cpu_probe.c      what this machine could do at best, for the benches
 *
 * The tokens of all sequences of a batch are its rows, in order:  row = first row of the sequence +
 * token. All work on rows runs on the pool's threads; the owner's thread only fills in `batch`. */
#ifndef COP_DEVICE_CPU_H
#define COP_DEVICE_CPU_H

#include "device/cpu_kernels.h"
#include "device/cpu_pool.h"
#include "device/device.h"
#include "model/weights.h"

enum {
    COP_K_BLOCK = 1024,   /* k of one pass over a panel: 128 KiB of it stay in L2 */
    COP_ROW_BLOCK = 256,  /* rows of one pass: their 64 columns of sums stay in L2 */
    COP_QUERY_TOKENS = 32 /* tokens of an attention task: keys are packed once for all of them */
};

/* out columns in panels of 64, panel after panel; see cpu_kernels.h. */
typedef struct {
    uint16_t *panels;
    uint32_t in, out;
} cop_matrix;

typedef struct {
    cop_matrix qkv;                  /* [hidden][q, k, v] */
    cop_matrix o;                    /* [q][hidden] */
    cop_matrix gate_up;              /* [hidden][2 ffn]: panels of gate and up alternate */
    cop_matrix down;                 /* [ffn][hidden] */
    float *norm1, *norm2, *qkv_bias; /* qkv_bias: NULL if the model has none */
} cop_layer;

/* What to do with the sums of a matrix product. */
typedef enum {
    COP_GEMM_STORE, /* out[row][column] = sum */
    COP_GEMM_ADD,   /* out[row][column] += sum */
    COP_GEMM_SWIGLU /* act[row][column / 2] = silu(even panel) * odd panel */
} cop_gemm_end;

typedef struct {
    float *sums;          /* [COP_ROW_BLOCK][2 * 64] */
    float *row;           /* [largest row of anything] */
    char *keys;           /* panel of 64 keys */
    char *values;         /* panels of 64 values, head_dim / 64 of them */
    float *attention;     /* [COP_QUERY_TOKENS * group][head_dim] */
    cop_softmax *softmax; /* [COP_QUERY_TOKENS * group] */
    uint16_t *pack;       /* [64][largest in]: rows of weights on their way to a panel */
    double *weights;      /* [vocab]: sampling */
} cop_scratch;            /* one for each thread */

typedef struct {
    uint32_t sequence, kv_head, first, count; /* tokens [first, first + count) of the sequence */
} cop_attention_item;

typedef struct {
    uint32_t token, position;
    char *kv; /* slot of layer 0, K, head 0 */
} cop_row;

struct cop_device {
    cop_device_options options; /* isa: not kept */
    cop_geometry g;
    const cop_kernels *kernels;
    cop_pool *pool;
    char description[96];
    uint32_t q_size, kv_size, qkv_size,
        group; /* elements of a row of q, of k; q heads per kv head */
    uint32_t max_rows, max_sequences, max_context;

    /* weights, read-only after open */
    uint16_t *packed; /* all matrices in the order of use: one stream */
    size_t packed_bytes;
    cop_layer *layers;
    cop_matrix head;     /* [hidden][vocab]; also the embedding when tied */
    uint16_t *embedding; /* bf16[vocab][hidden] when untied, else NULL */
    float *vectors;      /* norms and biases */
    size_t vectors_floats;
    float *final_norm;
    float *cosine, *sine; /* [max_context][head_dim / 2] */

    /* KV pool: [block][layer][k,v][kv_head][token][head_dim] */
    char *kv;
    size_t block_bytes, stripe_bytes; /* stripe: [token][head_dim] of a block */

    /* activations: "act" are elements of kernels->act_bytes */
    float *x;      /* [rows][hidden]: the residual stream */
    char *h;       /* act [rows][hidden]: normalised */
    float *qkv;    /* [rows][qkv_size] */
    char *q;       /* act [kv_head][rows][group][head_dim] */
    char *mixed;   /* act [rows][q_size]: what attention gives */
    char *ffn;     /* act [rows][ffn] */
    float *logits; /* [sampled][vocab] */
    char *last;    /* act [sampled][hidden] */
    cop_scratch *scratch;
    void **large; /* everything allocated by cop_alloc_large, with sizes */
    size_t *large_bytes, large_count;

    /* the batch in flight */
    bool in_flight;
    cop_batch batch;
    uint32_t rows, sampled, items;
    cop_row *row;               /* [rows] */
    uint32_t *first_row;        /* [sequences] */
    uint32_t *sampled_sequence; /* [sampled] */
    cop_attention_item *item;   /* [items] */
    cop_step_result result;
};

cop_status cop_cpu_load(cop_device *d, const cop_weights_source *source, cop_error *err);
void cop_cpu_unload(cop_device *d);

/* Inside a job of the pool: */
void cop_cpu_forward(cop_device *d);
void cop_cpu_lay_out(cop_device *d); /* `batch` to rows, sampled rows and attention tasks */
/* a: act [rows][w->in]; out: f32[rows][w->out], or act [rows][w->out / 2] for COP_GEMM_SWIGLU. */
void cop_cpu_gemm(cop_device *d, const cop_matrix *w, const void *a, uint32_t rows,
                  cop_gemm_end end, void *out);
void cop_cpu_attention(cop_device *d, uint32_t layer);
void cop_cpu_sample(cop_device *d);

/* One draw for the token at `position`. logits: f32[n]; weights: scratch f64[n]. Temperature 0: the
 * lowest id of the greatest. */
uint32_t cop_sample(const float *logits, uint32_t n, float temperature, float top_p, uint64_t seed,
                    uint32_t position, double *weights);

/* Rows of the next tile when `left` are left: as even as can be, at most 6. */
static inline uint32_t cop_tile_rows(uint32_t left)
{
    uint32_t tiles = (left + COP_TILE_ROWS - 1) / COP_TILE_ROWS;
    return (left + tiles - 1) / tiles;
}

#endif
