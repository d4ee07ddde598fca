/* Weights from the type of their source to the types that devices compute with. */
#include "base/bits.h"
#include "model/weights.h"

#include <string.h>

/* Exponent and fraction move to their places in float32; a product puts the bias right, of
 * subnormal numbers too. */
static float f16_to_float(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, rest = (uint32_t)(x & 0x7fff) << 13;
    uint32_t bits = cop_bits_of(cop_float_of(rest) * 0x1p112f);
    bits = rest >= 0x0f800000u ? rest | 0x7f800000u : bits; /* infinity, NaN */
    return cop_float_of(sign | bits);
}

static uint16_t float_to_bf16(float x)
{
    uint32_t bits = cop_bits_of(x);
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

void cop_weights_to_float(const void *in, cop_dtype dtype, size_t n, float *restrict out)
{
    const char *from = in;
    if (dtype == COP_F32)
        memcpy(out, from, n * sizeof *out);
    else if (dtype == COP_F16)
        EACH(uint16_t, f16_to_float(x), out);
    else
        EACH(uint16_t, cop_bf16_to_float(x), out);
}

void cop_weights_to_bf16(const void *in, cop_dtype dtype, size_t n, uint16_t *restrict out)
{
    const char *from = in;
    if (dtype == COP_F32)
        EACH(float, float_to_bf16(x), out);
    else if (dtype == COP_F16)
        EACH(uint16_t, float_to_bf16(f16_to_float(x)), out);
    else
        memcpy(out, from, n * sizeof *out);
}
