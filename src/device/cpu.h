/* Inside of the CPU device: what its files share.
 *
 *     cpu.c            the operations of device.h; checks a batch and hands it to the runner
 *     cpu_load.c       memory; reads the weights
 *     cpu_pack.c       rows of weights to panels
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
    COP_INT8_BLOCK = 128,  /* k unpacked at a time: in BF16 16 KiB, which stay in L1 */
    COP_K_BLOCK = 1024,    /* k of one pass over a panel: 128 KiB of it stay in L2 */
    COP_ROW_BLOCK = 256,   /* rows of one pass: their 64 columns of sums stay in L2 */
    COP_QUERY_TOKENS = 32, /* tokens of an attention task: keys are packed once for all of them */
    COP_LOAD_BLOCK = 512   /* k of one step of packing: 64 rows of it stay in L2 */
};

/* out columns in panels of 64, panel after panel, elements of device->weight_bytes; see
 * cpu_kernels.h.
 *
 * int8: weight = q * scale, q = weight / scale rounded to the nearest even integer, with one scale
 * for each column: its greatest magnitude / 127, or 0, and the column with it, below 2^-100. */
typedef struct {
    char *panels;
    float *factors; /* [out] scale * 2^-24, for what unpack makes of q; NULL unless int8 */
    uint32_t in, out;
} cop_matrix;

typedef struct {
    cop_matrix qkv;     /* [hidden][q, k, v] */
    cop_matrix o;       /* [q][hidden] */
    cop_matrix gate_up; /* [hidden][2 ffn]: panels of gate and up alternate */
    cop_matrix down;    /* [ffn][hidden] */
    float *norm1, *norm2;
    float *qkv_bias;        /* [q, k, v]; NULL if the model has none */
    float *q_norm, *k_norm; /* [head_dim]; NULL if the model has none */
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
    uint16_t *rows;       /* [64][largest in]: for sources that make their weights */
    char *converted;      /* [64][COP_LOAD_BLOCK] elements: weights on their way to a panel */
    char *unpacked;       /* panel of COP_INT8_BLOCK; NULL unless int8 */
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
        group;             /* elements of a row of q, of k; q heads per kv head */
    uint32_t padded_vocab; /* to a whole panel; the columns beyond vocab are zero */
    uint32_t max_rows, max_sequences, max_context;

    /* weights, read-only after open */
    char *packed; /* all matrices in the order of use: one stream */
    size_t packed_bytes, weight_bytes;
    cop_layer *layers;
    cop_matrix head; /* [hidden][padded_vocab]; also the embedding when that is NULL */
    char *embedding; /* [vocab][hidden], elements of panel_bytes; NULL: tied */
    float *factors;  /* of all matrices; int8 only */
    size_t columns;  /* of all matrices */
    float *vectors;  /* norms and biases */
    float *final_norm;
    float *cosine, *sine; /* [max_context][head_dim / 2] */

    /* KV pool: [block][layer][k,v][kv_head][token][head_dim] */
    char *kv;
    char *host;                       /* [host_slots] blocks: the host slots */
    size_t block_bytes, stripe_bytes; /* stripe: [token][head_dim] of a block */

    /* activations: "act" are elements of kernels->act_bytes */
    float *x;      /* [rows][hidden]: the residual stream */
    char *h;       /* act [rows][hidden]: normalised */
    float *qkv;    /* [rows][qkv_size] */
    char *q;       /* act [kv_head][rows][group][head_dim] */
    char *mixed;   /* act [rows][q_size]: what attention gives */
    char *ffn;     /* act [rows][ffn] */
    float *logits; /* [sampled][padded_vocab] */
    char *last;    /* act [sampled][hidden] */
    cop_scratch *scratch;
    void **large; /* everything allocated by cop_alloc_large, with sizes */
    size_t *large_bytes, large_count;

    uint64_t moves; /* to and from host slots, so far */

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

/* n weights of a source to elements of panel_bytes: nearest even where that rounds; a NaN stays
 * one. */
void cop_convert_weights(const void *in, cop_dtype dtype, size_t n, size_t panel_bytes, void *out);
/* Panel number `panel` of a matrix from 64 rows of k, of which the first `count` are there and the
 * others are zero. False, and *bad its row, if int8 meets a weight that is not finite. */
bool cop_pack_panel(const cop_device *d, const cop_matrix *w, uint32_t panel, cop_weight_rows from,
                    uint32_t count, cop_scratch *scratch, uint32_t *bad);
/* See cop_matrix: the scale of a column from its greatest magnitude, finite; x[n] to q[n]. */
float cop_int8_scale(float greatest);
void cop_int8_round(const float *x, size_t n, float scale, int8_t *q);

cop_status cop_cpu_probe(cop_device *d, cop_probe_kind kind, uint32_t rows, uint32_t context,
                         cop_probe *out, cop_error *err);

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
