/* Rows of weights, in the type of their source, to panels. */
#include "device/cpu.h"

#include <string.h>

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Exponent and fraction move to their places in float32; a product puts the bias right, of
 * subnormal numbers too. */
static float f16_to_float(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, rest = (uint32_t)(x & 0x7fff) << 13;
    uint32_t bits = bits_of(float_of(rest) * 0x1p112f);
    bits = rest >= 0x0f800000u ? rest | 0x7f800000u : bits; /* infinity, NaN */
    return float_of(sign | bits);
}

static uint16_t float_to_bf16(float x)
{
    uint32_t bits = bits_of(x);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)(x != x ? bits >> 16 | 0x40 : rounded);
}

/* Loops of one type each, so that they become vectors. Sources are not aligned: memcpy. */
#define EACH(type, expression, result)                 \
    do {                                               \
        for (size_t i = 0; i < n; i++) {               \
            type x;                                    \
            memcpy(&x, from + i * sizeof x, sizeof x); \
            (result)[i] = (expression);                \
        }                                              \
    } while (0)

static void convert_to_float(const char *from, cop_dtype dtype, size_t n, float *restrict out)
{
    if (dtype == COP_F32)
        memcpy(out, from, n * sizeof *out);
    else if (dtype == COP_F16)
        EACH(uint16_t, f16_to_float(x), out);
    else
        EACH(uint16_t, cop_bf16_to_float(x), out);
}

static void convert_to_bf16(const char *from, cop_dtype dtype, size_t n, uint16_t *restrict out)
{
    if (dtype == COP_F32)
        EACH(float, float_to_bf16(x), out);
    else if (dtype == COP_F16)
        EACH(uint16_t, float_to_bf16(f16_to_float(x)), out);
    else
        memcpy(out, from, n * sizeof *out);
}

void cop_convert_weights(const void *in, cop_dtype dtype, size_t n, size_t panel_bytes, void *out)
{
    if (panel_bytes == sizeof(float))
        convert_to_float(in, dtype, n, out);
    else
        convert_to_bf16(in, dtype, n, out);
}

static const char zeros[COP_LOAD_BLOCK * sizeof(float)]; /* stands in for rows that are not there */

static bool is_panel_type(cop_dtype dtype, size_t panel_bytes)
{
    return dtype == (panel_bytes == sizeof(float) ? COP_F32 : COP_BF16);
}

/* Rows that have the panel's type already are read where they lie. */
void cop_pack_panel(const cop_device *d, const cop_matrix *w, uint32_t panel, cop_weight_rows from,
                    uint32_t count, cop_scratch *scratch)
{
    const size_t bytes = d->kernels->panel_bytes, in_bytes = cop_dtype_bytes(from.dtype);
    char *out = w->panels + (size_t)panel * COP_PANEL * w->in * bytes;
    for (size_t k = 0, n; k < w->in; k += n) {
        const void *rows[COP_PANEL];
        n = w->in - k < COP_LOAD_BLOCK ? w->in - k : COP_LOAD_BLOCK;
        for (uint32_t i = 0; i < COP_PANEL; i++) {
            const char *row = (const char *)from.data + ((size_t)i * w->in + k) * in_bytes;
            char *converted = scratch->converted + i * n * bytes;
            if (i >= count) {
                rows[i] = zeros;
            } else if (is_panel_type(from.dtype, bytes)) {
                rows[i] = row;
            } else {
                cop_convert_weights(row, from.dtype, n, bytes, converted);
                rows[i] = converted;
            }
        }
        d->kernels->transpose(rows, n * bytes / 4, (uint32_t *)(out + k * COP_PANEL * bytes));
    }
}
