#include "base/arena.h"

#include "base/alloc.h"

#include <stdlib.h>

struct cop_arena_chunk {
    cop_arena_chunk *next;
    size_t size, used;
    _Alignas(16) char data[];
};

static cop_arena_chunk *new_chunk(size_t bytes)
{
    size_t size = bytes > 65536 ? bytes : 65536;
    cop_arena_chunk *chunk = cop_malloc(sizeof *chunk + size);
    chunk->next = NULL;
    chunk->size = size;
    chunk->used = 0;
    return chunk;
}

void *cop_arena_take(cop_arena *arena, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15;
    if (!arena->first)
        arena->first = arena->current = new_chunk(bytes);
    while (arena->current->size - arena->current->used < bytes) {
        if (!arena->current->next)
            arena->current->next = new_chunk(bytes);
        arena->current = arena->current->next;
    }
    void *at = arena->current->data + arena->current->used;
    arena->current->used += bytes;
    return at;
}

void cop_arena_reset(cop_arena *arena)
{
    for (cop_arena_chunk *chunk = arena->first; chunk; chunk = chunk->next)
        chunk->used = 0;
    arena->current = arena->first;
}

void cop_arena_fini(cop_arena *arena)
{
    for (cop_arena_chunk *chunk = arena->first; chunk;) {
        cop_arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    *arena = (cop_arena){0};
}
