/* Kernels for AVX-512 with BF16 products. GCC has names for the instructions from version 10 on,
 * but no -march for every machine that has them: the target is set here, for this file alone. */
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#include <immintrin.h>

#define LANES          16
#define ROWS           6
#define VECTORS        4
#define VECTORS_OF_FEW 4
#define VECTORS_OF_1   4
#define NAME(x)        x##_avx512
#define SOFTMAX        softmax_zmm
#define TRANSPOSE      transpose_zmm
#include "device/cpu_kernels.inc"

ALWAYS_INLINE __m512bh broadcast_pair(const uint16_t *p)
{
    uint32_t pair;
    memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32((int)pair);
}

/* rows is a constant wherever this is inlined, so all accumulators live in registers: 24 for 6
 * rows. tests/checks/gemm_asm.sh holds that. */
ALWAYS_INLINE void dot_rows(const cop_tile *t, const int rows)
{
    const uint16_t *a = t->a;
    const char *panel = t->panel, *ahead = t->ahead ? t->ahead : t->panel;
    const size_t ahead_step = t->ahead ? 64 : 0;
    __m512 acc[COP_TILE_ROWS][4];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < 4; v++)
            acc[r][v] =
                t->accumulate ? _mm512_loadu_ps(t->c + r * t->ldc + v * 16) : _mm512_setzero_ps();
    for (size_t k = 0; k < t->k; k += 2, panel += 4 * COP_PANEL, ahead += ahead_step) {
        _mm_prefetch(ahead, _MM_HINT_T1);
        __m512bh b[4];
#pragma GCC unroll 8
        for (int v = 0; v < 4; v++)
            b[v] = (__m512bh)_mm512_loadu_si512(panel + v * 64);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512bh x = broadcast_pair(a + r * t->lda + k);
#pragma GCC unroll 8
            for (int v = 0; v < 4; v++)
                acc[r][v] = _mm512_dpbf16_ps(acc[r][v], x, b[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < 4; v++)
            _mm512_storeu_ps(t->c + r * t->ldc + v * 16, acc[r][v]);
}

static void dot_tile(const cop_tile *t, uint32_t rows)
{
    switch (rows) {
    case 1:
        dot_rows(t, 1);
        break;
    case 2:
        dot_rows(t, 2);
        break;
    case 3:
        dot_rows(t, 3);
        break;
    case 4:
        dot_rows(t, 4);
        break;
    case 5:
        dot_rows(t, 5);
        break;
    default:
        dot_rows(t, 6);
    }
}

static void convert_bf16(const float *x, void *out, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __m256bh y = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
        _mm256_storeu_si256((__m256i *)((uint16_t *)out + i), (__m256i)y);
    }
}

/* out[w][16] = rows[j][w] for 16 rows and 16 words: neighbours, pairs, quarters, halves. */
ALWAYS_INLINE void transpose_block(const void *const rows[16], size_t word, uint32_t *out)
{
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++)
        a[j] = _mm512_loadu_si512((const char *)rows[j] + 4 * word);
#pragma GCC unroll 8
    for (int j = 0; j < 16; j += 2) {
        b[j] = _mm512_unpacklo_epi32(a[j], a[j + 1]);
        b[j + 1] = _mm512_unpackhi_epi32(a[j], a[j + 1]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 16; j += 4)
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            a[j + 2 * i] = _mm512_unpacklo_epi64(b[j + i], b[j + i + 2]);
            a[j + 2 * i + 1] = _mm512_unpackhi_epi64(b[j + i], b[j + i + 2]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* a[4 g + i]: word 4 q + i of rows 4 g .. in quarter q */
        b[0] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0x88);
        b[1] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0x88);
        b[2] = _mm512_shuffle_i32x4(a[i], a[4 + i], 0xdd);
        b[3] = _mm512_shuffle_i32x4(a[8 + i], a[12 + i], 0xdd);
        _mm512_storeu_si512(out + i * COP_PANEL, _mm512_shuffle_i32x4(b[0], b[1], 0x88));
        _mm512_storeu_si512(out + (4 + i) * COP_PANEL, _mm512_shuffle_i32x4(b[2], b[3], 0x88));
        _mm512_storeu_si512(out + (8 + i) * COP_PANEL, _mm512_shuffle_i32x4(b[0], b[1], 0xdd));
        _mm512_storeu_si512(out + (12 + i) * COP_PANEL, _mm512_shuffle_i32x4(b[2], b[3], 0xdd));
    }
}

static void transpose_zmm(const void *const rows[COP_PANEL], size_t words, uint32_t *out)
{
    for (size_t w = 0; w < words; w += 16)
        for (size_t j = 0; j < COP_PANEL; j += 16)
            transpose_block(rows + j, w, out + w * COP_PANEL + j);
}

/* As unpack_to_bf16 of cpu_kernels.inc in the fewest operations: what bounds it is the two ports
 * that vectors of 512 bits have, which the products want too. 10 operations for 64 weights. */
static void unpack_zmm(const void *int8_panel, size_t k, void *panel)
{
    const __m512i top = _mm512_set1_epi32((int)0xff000000u);
    const __m512i byte1 = _mm512_broadcast_i32x4(
        _mm_setr_epi8(-1, -1, -1, 1, -1, -1, -1, 5, -1, -1, -1, 9, -1, -1, -1, 13));
    const __m512i byte2 = _mm512_broadcast_i32x4(
        _mm_setr_epi8(-1, -1, -1, 2, -1, -1, -1, 6, -1, -1, -1, 10, -1, -1, -1, 14));
    const __m512i half_down = _mm512_broadcast_i32x4(
        _mm_setr_epi8(2, 3, -1, -1, 6, 7, -1, -1, 10, 11, -1, -1, 14, 15, -1, -1));
    const __mmask64 lower_half = 0x3333333333333333u;
    const char *in = int8_panel, *ahead = in + k * COP_PANEL;
    char *out = panel;
    for (size_t i = 0; i < k; i += 4, out += 8 * COP_PANEL, ahead += 128)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++, in += 64) {
            if (v < 2)
                _mm_prefetch(ahead + v * 64, _MM_HINT_T1);
            __m512i words = _mm512_loadu_si512(in);
            __m512 y0 = _mm512_cvtepi32_ps(_mm512_slli_epi32(words, 24));
            __m512 y1 = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(words, byte1));
            __m512 y2 = _mm512_cvtepi32_ps(_mm512_shuffle_epi8(words, byte2));
            __m512 y3 = _mm512_cvtepi32_ps(_mm512_and_si512(words, top));
            __m512i low = _mm512_mask_shuffle_epi8((__m512i)y1, lower_half, (__m512i)y0, half_down);
            __m512i high =
                _mm512_mask_shuffle_epi8((__m512i)y3, lower_half, (__m512i)y2, half_down);
            _mm512_storeu_si512(out + v * 64, low);
            _mm512_storeu_si512(out + 4 * COP_PANEL + v * 64, high);
        }
}

/* exp2_float of 16 lanes, with the instructions for rounding and scaling. */
ALWAYS_INLINE __m512 exp2_zmm(__m512 x)
{
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_sub_ps(x, n), p = _mm512_set1_ps(1.5403530e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3333558e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* As softmax of cpu_kernels.inc; the reduction to one maximum stays in registers. */
static float softmax_zmm(cop_softmax *row, float *scores, uint32_t valid, float scale)
{
    const uint64_t mask = valid < COP_PANEL ? ((uint64_t)1 << valid) - 1 : UINT64_MAX;
    __m512 s[4], total;
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        s[v] = _mm512_mask_mul_ps(_mm512_set1_ps(-FLT_MAX), (__mmask16)(mask >> (16 * v)),
                                  _mm512_loadu_ps(scores + 16 * v), _mm512_set1_ps(scale));
    float max =
        _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(s[0], s[1]), _mm512_max_ps(s[2], s[3])));
    max = max > row->max ? max : row->max;
    float factor = max == row->max ? 1.0f : exp2_float(row->max - max);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        __m512 p = exp2_zmm(_mm512_sub_ps(s[v], _mm512_set1_ps(max)));
        s[v] = _mm512_maskz_mov_ps((__mmask16)(mask >> (16 * v)), p);
        _mm512_storeu_ps(scores + 16 * v, s[v]);
    }
    total = _mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3]));
    total = _mm512_fmadd_ps(_mm512_loadu_ps(row->sum), _mm512_set1_ps(factor), total);
    _mm512_storeu_ps(row->sum, total);
    row->max = max;
    return factor;
}

enum { DOT_CHAINS = 24, DOT_STEPS = 64 };

static float dot_peak(uint32_t rounds)
{
    __m512 acc[DOT_CHAINS];
    __m512i a = _mm512_setzero_si512(), b = a;
#pragma GCC unroll 32
    for (int i = 0; i < DOT_CHAINS; i++)
        acc[i] = _mm512_set1_ps((float)i);
    __asm__ volatile("" : "+v"(a), "+v"(b));
    for (uint32_t round = 0; round < rounds * DOT_STEPS; round++)
#pragma GCC unroll 32
        for (int i = 0; i < DOT_CHAINS; i++)
            acc[i] = _mm512_dpbf16_ps(acc[i], (__m512bh)a, (__m512bh)b);
#pragma GCC unroll 32
    for (int i = 1; i < DOT_CHAINS; i++)
        acc[0] += acc[i];
    return acc[0][0];
}

const cop_kernels cop_kernels_avx512[2] = {
    {.isa = "avx512bf16",
     .precision = "bf16",
     .act_bytes = 2,
     .panel_bytes = 2,
     .tile = dot_tile,
     .store_act = convert_bf16,
     .store_kv = convert_bf16,
     .transpose = transpose_zmm,
     .pack_values = pack_values_bf16_avx512,
     .unpack = unpack_zmm,
     .peak = dot_peak,
     .peak_work = (double)DOT_CHAINS * DOT_STEPS * 16 * 2 * 2,
     COMMON_KERNELS},
    {.isa = "avx512bf16", KERNELS_FLOAT},
};
#else
typedef int cop_kernels_avx512_unused;
#endif
