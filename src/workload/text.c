#include "workload/text.h"

void cop_text_fill(uint32_t *tokens, uint32_t count, uint64_t key, uint32_t vocab)
{
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)((cop_splitmix64(key ^ i) >> 32) * vocab >> 32);
}
