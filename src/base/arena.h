/* Bump allocator: many small arrays that die together. Pointers stay valid until the reset. */
#ifndef COP_BASE_ARENA_H
#define COP_BASE_ARENA_H

#include <stddef.h>

typedef struct cop_arena_chunk cop_arena_chunk;

typedef struct {
    cop_arena_chunk *first, *current;
} cop_arena; /* zero-initialise */

void *cop_arena_take(cop_arena *arena, size_t bytes); /* 16-byte aligned, not zeroed */
void cop_arena_reset(cop_arena *arena);               /* keeps the memory for reuse */
void cop_arena_fini(cop_arena *arena);

#define COP_ARENA_ARRAY(arena, type, count) \
    ((type *)cop_arena_take((arena), (count) * sizeof(type)))

#endif
