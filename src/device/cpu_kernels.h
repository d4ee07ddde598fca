/* The inner loops of the CPU device, as a table for each (instruction set, precision).
 *
 * Everything that multiplies matrices goes through one shape, the tile: up to 6 rows of activations
 * against a panel of 64 columns.
 *
 *     c[rows][64] (+)= a[rows][k] * panel[k][64]
 *
 *     panel, BF16:     [k / 2][64 columns][2]     pairs along k interleaved, as VDPBF16PS wants
 *     panel, float32:  [k][64 columns]            the float32 mode
 *     panel, int8:     [k / 4][64 columns][4]     weights only; unpacked to one of the others
 *
 * Each output sums its products in the order of k, whatever the number of rows: a row's bits do not
 * depend on its neighbours. Calls over consecutive ranges of k with `accumulate` give the same bits
 * as one call over all of them.
 *
 *     table                activations   weights   KV        sums
 *     avx512bf16, bf16     bf16          bf16      bf16      float32 (VDPBF16PS)
 *     others, bf16         float32 that  bf16      bf16      float32
 *                          are rounded to bf16
 *     all, float32         float32       float32   float32   float32 */
#ifndef COP_DEVICE_CPU_KERNELS_H
#define COP_DEVICE_CPU_KERNELS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COP_PANEL = 64,    /* columns of a panel; keys of an attention tile */
    COP_TILE_ROWS = 6, /* rows of a tile: 6 x 64 float32 = 24 of 32 AVX-512 registers */
    COP_SOFTMAX_LANES = 16
};

typedef struct {
    const void *a; /* [rows][k], row stride lda elements */
    size_t lda;
    const void *panel;
    size_t k; /* even */
    float *c; /* [rows][64], row stride ldc */
    size_t ldc;
    bool accumulate;   /* c += instead of c = */
    const void *ahead; /* k / 2 cache lines that will be wanted soon; NULL: none */
} cop_tile;

/* Online softmax of one row (Milakov and Gimelshein): the running maximum and the running sum, kept
 * as 16 partial sums that are added up at the end. */
typedef struct {
    float max;
    float sum[COP_SOFTMAX_LANES];
} cop_softmax;

typedef void cop_tile_fn(const cop_tile *tile, uint32_t rows);

typedef struct {
    const char *isa, *precision;
    size_t act_bytes;   /* of an activation */
    size_t panel_bytes; /* of an element of a panel, be it of weights or of KV: 2, BF16, or 4 */
    double peak_work;   /* floating-point operations of one call of `peak` */

    cop_tile_fn *tile; /* activations x panel */

    /* n a multiple of 64 */
    void (*store_act)(const float *x, void *out, size_t n);
    void (*store_kv)(const float *x, void *out, size_t n);

    /* out[n] = x / rms(x) * g */
    void (*rmsnorm)(const float *x, const float *g, float epsilon, float *out, size_t n);
    /* x[n] += y[n] */
    void (*add)(float *x, const float *y, size_t n);
    /* out[n] = silu(gate) * up */
    void (*swiglu)(const float *gate, const float *up, float *out, size_t n);
    /* out[d] = rotate-half(x + bias) with cos, sin [d / 2]; bias may be NULL */
    void (*rope)(const float *x, const float *bias, const float *cosine, const float *sine,
                 float *out, size_t d);

    /* scores[64] to probabilities in place: exp2(scores * scale - max), 0 from `valid` (>= 1) on.
     * Returns what the sums of the tiles before are to be multiplied by. */
    float (*softmax)(cop_softmax *row, float *scores, uint32_t valid, float scale);
    void (*scale)(float *x, float factor, size_t n);
    /* x[n] *= y[n] */
    void (*multiply)(float *x, const float *y, size_t n);

    /* out[w][64] = rows[j][w]: 32-bit words, a multiple of 16, 64 rows, not aligned. Makes panels
     * of weights and of keys. */
    void (*transpose)(const void *const rows[COP_PANEL], size_t words, uint32_t *out);
    /* k (a multiple of 4) of an int8 panel to a panel of panel_bytes: each q as q * 2^24, which both
     * types hold exactly. Prefetches half of the k that follow. */
    void (*unpack)(const void *int8_panel, size_t k, void *panel);

    /* Panel of 64 values (k = 64) from 64 elements at `column` of each row. */
    void (*pack_values)(const void *const rows[COP_PANEL], size_t column, void *panel);

    float (*peak)(uint32_t rounds); /* registers only; the result keeps the compiler honest */
    uint64_t (*read)(const void *data, size_t bytes); /* reads all, multiple of 1024 bytes */
} cop_kernels;

/* isa: auto, avx512bf16, avx2, baseline. COP_ERR_UNSUPPORTED if this machine lacks it. */
cop_status cop_kernels_find(const char *isa, bool float32, const cop_kernels **out, cop_error *err);

/* [0] bf16, [1] float32 */
extern const cop_kernels cop_kernels_baseline[2];
#ifdef __x86_64__
extern const cop_kernels cop_kernels_avx2[2];
extern const cop_kernels cop_kernels_avx512[2];
#endif

#endif
