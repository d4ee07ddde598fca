/* Warp operations, computed for all lanes at once by the last to come. */
#include "emulator.h"
#include "executor.h"
#include <string.h>

namespace
{

template <typename F> void each_lane(uint32_t mask, F f)
{
    for (; mask; mask &= mask - 1)
        f((uint32_t)__builtin_ctz(mask));
}

/* A value from a lane that takes no part is undefined: all ones here. */
void shuffle(uint32_t mask, void *const *arguments)
{
    each_lane(mask, [&](uint32_t lane) {
        emulator_shuffle_argument *mine = (emulator_shuffle_argument *)arguments[lane];
        bool there = mask >> mine->source & 1;
        mine->result =
            there ? ((emulator_shuffle_argument *)arguments[mine->source])->value : UINT64_MAX;
    });
}

void ballot(uint32_t mask, void *const *arguments)
{
    uint32_t votes = 0;
    each_lane(mask, [&](uint32_t lane) {
        if (((emulator_vote_argument *)arguments[lane])->predicate)
            votes |= 1u << lane;
    });
    each_lane(mask,
              [&](uint32_t lane) { ((emulator_vote_argument *)arguments[lane])->result = votes; });
}

void match(uint32_t mask, void *const *arguments)
{
    each_lane(mask, [&](uint32_t lane) {
        emulator_vote_argument *mine = (emulator_vote_argument *)arguments[lane];
        mine->result = 0;
        each_lane(mask, [&](uint32_t other) {
            if (((emulator_vote_argument *)arguments[other])->value == mine->value)
                mine->result |= 1u << other;
        });
    });
}

void sync(uint32_t, void *const *) {}

template <typename F> void reduce(uint32_t mask, void *const *arguments, F f)
{
    uint32_t first = (uint32_t)__builtin_ctz(mask);
    uint32_t result = ((emulator_reduce_argument *)arguments[first])->value;
    each_lane(mask & (mask - 1), [&](uint32_t lane) {
        result = f(result, ((emulator_reduce_argument *)arguments[lane])->value);
    });
    each_lane(mask, [&](uint32_t lane) {
        ((emulator_reduce_argument *)arguments[lane])->result = result;
    });
}

typedef float row8 __attribute__((vector_size(32), aligned(32)));

float low(uint32_t pair)
{
    uint32_t bits = pair << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

float high(uint32_t pair)
{
    uint32_t bits = pair & 0xffff0000u;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* c += a b. Four rows at a time, so that sums do not wait for each other. */
void multiply(const float (&a)[16][16], const row8 (&b)[16], row8 (&c)[16])
{
    for (int y = 0; y < 16; y += 4) {
        row8 sum0 = c[y], sum1 = c[y + 1], sum2 = c[y + 2], sum3 = c[y + 3];
        for (int x = 0; x < 16; x++) {
            sum0 += a[y][x] * b[x];
            sum1 += a[y + 1][x] * b[x];
            sum2 += a[y + 2][x] * b[x];
            sum3 += a[y + 3][x] * b[x];
        }
        c[y] = sum0;
        c[y + 1] = sum1;
        c[y + 2] = sum2;
        c[y + 3] = sum3;
    }
}

/* Lane 4 g + t holds of a: rows g and g + 8, columns 2 t, 2 t + 1 and the same + 8; of b: rows as
 * a's columns, column g; of c: rows g and g + 8, columns 2 t, 2 t + 1. */
void mma(uint32_t, void *const *arguments)
{
    float a[16][16];
    row8 b[16], c[16];
    for (int lane = 0; lane < 32; lane++) {
        const emulator_mma_argument *m = (const emulator_mma_argument *)arguments[lane];
        int g = lane / 4, t = lane % 4 * 2;
        for (int half = 0; half < 2; half++) {
            float *left = &a[g + half * 8][t];
            left[0] = low(m->a[half]);
            left[1] = high(m->a[half]);
            left[8] = low(m->a[half + 2]);
            left[9] = high(m->a[half + 2]);
            b[t + half * 8][g] = low(m->b[half]);
            b[t + half * 8 + 1][g] = high(m->b[half]);
            memcpy((float *)&c[g + half * 8] + t, m->c + half * 2, 8);
        }
    }
    multiply(a, b, c);
    for (int lane = 0; lane < 32; lane++) {
        float *out = ((const emulator_mma_argument *)arguments[lane])->c;
        memcpy(out, (float *)&c[lane / 4] + lane % 4 * 2, 8);
        memcpy(out + 2, (float *)&c[lane / 4 + 8] + lane % 4 * 2, 8);
    }
}

void load(void *const *arguments, bool transposed)
{
    uint16_t matrix[4][8][8];
    for (int lane = 0; lane < 32; lane++)
        memcpy(matrix[lane / 8][lane % 8], ((const emulator_load_argument *)arguments[lane])->row,
               16);
    for (int lane = 0; lane < 32; lane++) {
        uint32_t *r = ((const emulator_load_argument *)arguments[lane])->r;
        int y = lane / 4, x = lane % 4 * 2;
        for (int m = 0; m < 4; m++) {
            uint32_t first = transposed ? matrix[m][x][y] : matrix[m][y][x];
            uint32_t second = transposed ? matrix[m][x + 1][y] : matrix[m][y][x + 1];
            r[m] = first | second << 16;
        }
    }
}

void load_plain(uint32_t, void *const *arguments)
{
    load(arguments, false);
}

void load_transposed(uint32_t, void *const *arguments)
{
    load(arguments, true);
}

} // namespace

#define REDUCE(name, expression)                                                      \
    const emulator_operation emulator_reduce_##name = {                               \
        "__reduce_" #name "_sync", false, [](uint32_t mask, void *const *arguments) { \
            reduce(mask, arguments,                                                   \
                   [](uint32_t a, uint32_t b) { return (uint32_t)(expression); });    \
        }}
REDUCE(add, a + b);
REDUCE(min, a < b ? a : b);
REDUCE(max, a > b ? a : b);
REDUCE(and, a &b);
REDUCE(or, a | b);
REDUCE(xor, a ^ b);
REDUCE(min_signed, (int32_t)a < (int32_t)b ? a : b);
REDUCE(max_signed, (int32_t)a > (int32_t)b ? a : b);

const emulator_operation emulator_shuffle = {"shuffle", false, shuffle};
const emulator_operation emulator_ballot = {"vote", false, ballot};
const emulator_operation emulator_match = {"match", false, match};
const emulator_operation emulator_syncwarp = {"__syncwarp", false, sync};
const emulator_operation emulator_mma = {"cop_mma", true, mma};
const emulator_operation emulator_load = {"cop_load_matrices", true, load_plain};
const emulator_operation emulator_load_transposed = {"cop_load_matrices_transposed", true,
                                                     load_transposed};
