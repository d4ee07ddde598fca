/* Free list of KV block ids 0 .. capacity-1: a stack, so that two runs allocate alike. */
#ifndef COP_CORE_BLOCK_POOL_H
#define COP_CORE_BLOCK_POOL_H

#include <stdint.h>

enum { COP_NO_BLOCK = UINT32_MAX };

typedef struct {
    uint32_t *free_ids; /* stack */
    uint8_t *taken;     /* per block, catches a double free */
    uint32_t capacity, free_count;
} cop_pool;

void cop_pool_init(cop_pool *pool, uint32_t capacity);
void cop_pool_fini(cop_pool *pool);
uint32_t cop_pool_take(cop_pool *pool);             /* COP_NO_BLOCK: none is free */
void cop_pool_give(cop_pool *pool, uint32_t block); /* must be taken */
void cop_pool_check(const cop_pool *pool);

#endif
