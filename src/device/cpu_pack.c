/* Rows of weights, in the type of their source, to panels. */
#include "base/bits.h"
#include "device/cpu.h"

#include <math.h>
#include <string.h>

void cop_convert_weights(const void *in, cop_dtype dtype, size_t n, size_t panel_bytes, void *out)
{
    if (panel_bytes == sizeof(float))
        cop_weights_to_float(in, dtype, n, out);
    else
        cop_weights_to_bf16(in, dtype, n, out);
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static const char zeros[COP_LOAD_BLOCK * sizeof(float)]; /* stands in for rows that are not there */

static bool is_panel_type(cop_dtype dtype, size_t panel_bytes)
{
    return dtype == (panel_bytes == sizeof(float) ? COP_F32 : COP_BF16);
}

/* Rows that have the panel's type already are read where they lie. */
static void pack_plain(const cop_device *d, size_t in, char *out, cop_weight_rows from,
                       uint32_t count, cop_scratch *scratch)
{
    const size_t bytes = d->kernels->panel_bytes, in_bytes = cop_dtype_bytes(from.dtype);
    for (size_t k = 0, n; k < in; k += n) {
        const void *rows[COP_PANEL];
        n = min_size(COP_LOAD_BLOCK, in - k);
        for (uint32_t i = count; i < COP_PANEL; i++)
            rows[i] = zeros;
        for (uint32_t i = 0; i < count; i++) {
            const char *row = (const char *)from.data + (i * in + k) * in_bytes;
            char *converted = scratch->converted + i * n * bytes;
            bool as_it_is = is_panel_type(from.dtype, bytes);
            rows[i] = as_it_is ? row : converted;
            if (!as_it_is)
                cop_convert_weights(row, from.dtype, n, bytes, converted);
        }
        d->kernels->transpose(rows, n * bytes / 4, (uint32_t *)(out + k * COP_PANEL * bytes));
    }
}

/* Bits of the greatest magnitude as float32: 0x7f800000 or more if one is no finite number. */
static uint32_t greatest_bits(const char *x, cop_dtype dtype, size_t n)
{
    uint32_t greatest = 0;
    for (size_t k = 0, step; k < n; k += step) {
        float part[COP_LOAD_BLOCK];
        step = min_size(COP_LOAD_BLOCK, n - k);
        cop_weights_to_float(x + k * cop_dtype_bytes(dtype), dtype, step, part);
        for (size_t i = 0; i < step; i++) {
            uint32_t bits = cop_bits_of(part[i]) & 0x7fffffffu;
            greatest = bits > greatest ? bits : greatest;
        }
    }
    return greatest;
}

float cop_int8_scale(float greatest)
{
    float scale = greatest / 127;
    return scale < 0x1p-100f ? 0 : scale;
}

/* The division is never beyond 127, as the greatest magnitude / (itself / 127) rounds to at most a
 * little more. Adding 1.5 * 2^23 rounds to the nearest even integer. */
void cop_int8_round(const float *x, size_t n, float scale, int8_t *restrict q)
{
    const float magic = 12582912.0f, divisor = scale > 0 ? scale : INFINITY;
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)(int32_t)(x[i] / divisor + magic - magic);
}

static bool pack_int8(const cop_device *d, size_t in, char *out, float *factors,
                      cop_weight_rows from, uint32_t count, cop_scratch *scratch, uint32_t *bad)
{
    const size_t in_bytes = cop_dtype_bytes(from.dtype);
    float scales[COP_PANEL] = {0};
    for (uint32_t i = 0; i < COP_PANEL; i++) {
        uint32_t bits = 0;
        if (i < count)
            bits = greatest_bits((const char *)from.data + i * in * in_bytes, from.dtype, in);
        if (bits >= 0x7f800000u) {
            *bad = i;
            return false;
        }
        scales[i] = cop_int8_scale(cop_float_of(bits));
        factors[i] = scales[i] * 0x1p-24f;
    }
    for (size_t k = 0, n; k < in; k += n) {
        const void *rows[COP_PANEL];
        n = min_size(COP_LOAD_BLOCK, in - k);
        for (uint32_t i = 0; i < COP_PANEL; i++) {
            float x[COP_LOAD_BLOCK] = {0};
            int8_t *q = (int8_t *)scratch->converted + i * n;
            if (i < count)
                cop_weights_to_float((const char *)from.data + (i * in + k) * in_bytes, from.dtype,
                                     n, x);
            cop_int8_round(x, n, scales[i], q);
            rows[i] = q;
        }
        d->kernels->transpose(rows, n / 4, (uint32_t *)(out + k * COP_PANEL));
    }
    return true;
}

bool cop_pack_panel(const cop_device *d, const cop_matrix *w, uint32_t panel, cop_weight_rows from,
                    uint32_t count, cop_scratch *scratch, uint32_t *bad)
{
    char *out = w->panels + (size_t)panel * COP_PANEL * w->in * d->weight_bytes;
    if (w->factors)
        return pack_int8(d, w->in, out, w->factors + panel * COP_PANEL, from, count, scratch, bad);
    pack_plain(d, w->in, out, from, count, scratch);
    return true;
}
