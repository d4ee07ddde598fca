/* A float32 as its bits, and back. */
#ifndef COP_BASE_BITS_H
#define COP_BASE_BITS_H

#include <stdint.h>
#include <string.h>

static inline float cop_float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t cop_bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

#endif
