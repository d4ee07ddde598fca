#include "core/block_pool.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

void cop_pool_init(cop_pool *pool, uint32_t capacity)
{
    *pool = (cop_pool){.capacity = capacity, .free_count = capacity};
    pool->free_ids = cop_malloc(capacity * sizeof *pool->free_ids);
    pool->taken = cop_calloc(capacity, sizeof *pool->taken);
    for (uint32_t i = 0; i < capacity; i++)
        pool->free_ids[i] = capacity - 1 - i; /* block 0 is taken first */
}

void cop_pool_fini(cop_pool *pool)
{
    free(pool->free_ids);
    free(pool->taken);
    memset(pool, 0, sizeof *pool);
}

uint32_t cop_pool_take(cop_pool *pool)
{
    if (pool->free_count == 0)
        return COP_NO_BLOCK;
    uint32_t block = pool->free_ids[--pool->free_count];
    pool->taken[block] = 1;
    return block;
}

void cop_pool_give(cop_pool *pool, uint32_t block)
{
    COP_CHECK(block < pool->capacity && pool->taken[block]);
    pool->taken[block] = 0;
    pool->free_ids[pool->free_count++] = block;
}

/* As many ids are listed as are not taken, none of them taken and none twice. */
void cop_pool_check(const cop_pool *pool)
{
    uint8_t *listed = cop_calloc(pool->capacity, sizeof *listed);
    COP_CHECK(pool->free_count <= pool->capacity);
    for (uint32_t i = 0; i < pool->free_count; i++) {
        uint32_t block = pool->free_ids[i];
        COP_CHECK(block < pool->capacity && !pool->taken[block] && !listed[block]);
        listed[block] = 1;
    }
    for (uint32_t block = 0; block < pool->capacity; block++)
        COP_CHECK(listed[block] != pool->taken[block]);
    free(listed);
}
