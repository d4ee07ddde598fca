/* The arithmetic of the fake cublasLt.
 *
 * Every output is one dot product of two rows that run along k, unpacked to float32 and padded with
 * zeros to a multiple of LANES. Lane j sums the elements j, j + LANES, j + 2 LANES, ... in that
 * order, then the lanes are summed as a tree. So the order of an output's sum depends on k alone:
 * its bits never depend on m, n, the batch, the transposes, or where in the matrix it lies. They
 * may differ between machines with and without fused multiply-add. */
#include "cublaslt_private.h"

#include <string.h>
#include <vector>

using namespace fake_cublaslt;

namespace
{

constexpr size_t LANES = 16;
constexpr size_t PANEL = 64; /* rows of A that are unpacked at a time */

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef uint32_t words __attribute__((vector_size(LANES * sizeof(uint32_t))));
typedef uint16_t halves __attribute__((vector_size(LANES * sizeof(uint16_t))));

/* The same in memory: what a machine without such vectors aligns their type to is too little for
 * the functions below that have them. */
struct alignas(64) line {
    float element[LANES];
};

/* ---- BF16 ------------------------------------------------------------------------------- */

float widen(uint16_t value)
{
    const uint32_t bits = (uint32_t)value << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* To nearest, ties to even; a NaN stays one. */
uint16_t narrow(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float load(const void *data, bool bf16, size_t i)
{
    return bf16 ? widen(static_cast<const uint16_t *>(data)[i])
                : static_cast<const float *>(data)[i];
}

/* ---- unpacking -------------------------------------------------------------------------- */

/* A row that is contiguous along k. */
void unpack_row(const void *data, bool bf16, size_t first, size_t k, line *row)
{
    const size_t whole = k / LANES;
    if (bf16) {
        const auto *from = static_cast<const uint16_t *>(data) + first;
        for (size_t l = 0; l < whole; l++) {
            halves packed;
            memcpy(&packed, from + l * LANES, sizeof packed);
            const words wide = __builtin_convertvector(packed, words) << 16;
            memcpy(&row[l], &wide, sizeof wide);
        }
    } else {
        memcpy(row, static_cast<const float *>(data) + first, whole * sizeof *row);
    }
    for (size_t l = whole * LANES; l < k; l++)
        row[l / LANES].element[l % LANES] = load(data, bf16, first + l);
}

/* Rows [first, first + count) of an operand, `vectors` lines each; the padding is zero already. */
void unpack(const operand *o, size_t batch, size_t first, size_t count, size_t k, size_t vectors,
            line *rows)
{
    const size_t origin = batch * o->batch_stride + first * o->row_stride;
    if (o->k_stride == 1) {
        for (size_t i = 0; i < count; i++)
            unpack_row(o->data, o->bf16, origin + i * o->row_stride, k, rows + i * vectors);
        return;
    }
    for (size_t l = 0; l < k; l++)
        for (size_t i = 0; i < count; i++)
            rows[i * vectors + l / LANES].element[l % LANES] =
                load(o->data, o->bf16, origin + i * o->row_stride + l * o->k_stride);
}

/* ---- dot products ----------------------------------------------------------------------- */

__attribute__((always_inline)) inline float sum_of_lanes(const lanes &sum)
{
    float s[LANES];
    memcpy(s, &sum, sizeof s);
    for (size_t width = LANES / 2; width; width /= 2)
        for (size_t j = 0; j < width; j++)
            s[j] += s[j + width];
    return s[0];
}

/* sums[column][row] of ROWS x COLUMNS rows of A and B. */
template <int ROWS, int COLUMNS>
__attribute__((always_inline)) inline void dot_tile(const line *const *a, const line *const *b,
                                                    size_t vectors, float (*sums)[ROWS])
{
    lanes s[COLUMNS][ROWS] = {}; /* in registers, once the loops are unrolled */
    for (size_t l = 0; l < vectors; l++)
#pragma GCC unroll 8
        for (int j = 0; j < COLUMNS; j++)
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                lanes x, y;
                memcpy(&x, &a[i][l], sizeof x);
                memcpy(&y, &b[j][l], sizeof y);
                s[j][i] += x * y;
            }
#pragma GCC unroll 8
    for (int j = 0; j < COLUMNS; j++)
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
            sums[j][i] = sum_of_lanes(s[j][i]);
}

/* out[column][PANEL] = the dot products of `rows` rows with `columns` rows. A tile at the edge
 * computes its last row again instead of being another piece of code: other code could round
 * otherwise. */
template <int ROWS, int COLUMNS>
__attribute__((always_inline)) inline void dot_panel(const line *a, size_t rows, const line *b,
                                                     size_t columns, size_t vectors, float *out)
{
    for (size_t j = 0; j < columns; j += COLUMNS)
        for (size_t i = 0; i < rows; i += ROWS) {
            const line *a_rows[ROWS], *b_rows[COLUMNS];
            float sums[COLUMNS][ROWS];
            for (size_t x = 0; x < ROWS; x++)
                a_rows[x] = a + (i + x < rows ? i + x : rows - 1) * vectors;
            for (size_t y = 0; y < COLUMNS; y++)
                b_rows[y] = b + (j + y < columns ? j + y : columns - 1) * vectors;
            dot_tile<ROWS, COLUMNS>(a_rows, b_rows, vectors, sums);
            for (size_t y = 0; y < COLUMNS && j + y < columns; y++)
                for (size_t x = 0; x < ROWS && i + x < rows; x++)
                    out[(j + y) * PANEL + i + x] = sums[y][x];
        }
}

typedef void (*panel_function)(const line *a, size_t rows, const line *b, size_t columns,
                               size_t vectors, float *out);

void panel_baseline(const line *a, size_t rows, const line *b, size_t columns, size_t vectors,
                    float *out)
{
    dot_panel<1, 2>(a, rows, b, columns, vectors, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void panel_avx2(const line *a, size_t rows, const line *b,
                                                    size_t columns, size_t vectors, float *out)
{
    dot_panel<2, 2>(a, rows, b, columns, vectors, out);
}

__attribute__((target("avx512f"))) void panel_avx512(const line *a, size_t rows, const line *b,
                                                     size_t columns, size_t vectors, float *out)
{
    dot_panel<4, 4>(a, rows, b, columns, vectors, out);
}

panel_function panel_for_machine()
{
    if (__builtin_cpu_supports("avx512f"))
        return panel_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return panel_avx2;
    return panel_baseline;
}
#else
panel_function panel_for_machine()
{
    return panel_baseline;
}
#endif

/* ---- the epilogue ----------------------------------------------------------------------- */

/* Rows [first, first + rows) of d from their dot products. */
void finish(const product *p, size_t batch, size_t first, size_t rows, const float *sums)
{
    for (size_t j = 0; j < p->n; j++)
        for (size_t i = 0; i < rows; i++) {
            const size_t row = first + i;
            float value = p->alpha * sums[j * PANEL + i];
            if (p->beta != 0.0f)
                value += p->beta * load(p->c, p->output_bf16,
                                        batch * p->c_batch_stride + j * p->c_stride + row);
            if (p->bias)
                value += load(p->bias, p->output_bf16, batch * p->bias_batch_stride + row);
            const size_t to = batch * p->d_batch_stride + j * p->d_stride + row;
            if (p->output_bf16)
                static_cast<uint16_t *>(p->d)[to] = narrow(value);
            else
                static_cast<float *>(p->d)[to] = value;
        }
}

} // namespace

void fake_cublaslt::multiply(const product *p)
{
    static const panel_function panel = panel_for_machine();
    const size_t vectors = (p->k + LANES - 1) / LANES;
    std::vector<line> a(PANEL * vectors), b(p->n * vectors);
    std::vector<float> sums(p->n * PANEL);
    for (size_t batch = 0; batch < p->batches; batch++) {
        unpack(&p->b, batch, 0, p->n, p->k, vectors, b.data());
        for (size_t first = 0; first < p->m; first += PANEL) {
            const size_t rows = p->m - first < PANEL ? p->m - first : PANEL;
            unpack(&p->a, batch, first, rows, p->k, vectors, a.data());
            panel(a.data(), rows, b.data(), p->n, vectors, sums.data());
            finish(p, batch, first, rows, sums.data());
        }
    }
}
