/* Indexed binary min-heap over items 0 .. n-1 with 128-bit keys and a total order:
 * (major, minor, item id). Any item can be removed or re-keyed in O(log n). */
#ifndef COP_BASE_HEAP_H
#define COP_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t major, minor;
} cop_heap_key;

typedef struct {
    cop_heap_key key;
    uint32_t item;
} cop_heap_node;

typedef struct {
    cop_heap_node *nodes;
    uint32_t *place; /* item -> 1 + index in nodes; 0: not in the heap */
    size_t count, items;
} cop_heap;

void cop_heap_init(cop_heap *heap, size_t items);
void cop_heap_fini(cop_heap *heap);

bool cop_heap_contains(const cop_heap *heap, uint32_t item);
void cop_heap_put(cop_heap *heap, uint32_t item, cop_heap_key key); /* inserts or re-keys */
void cop_heap_remove(cop_heap *heap, uint32_t item);                /* absent: no effect */
bool cop_heap_top(const cop_heap *heap, uint32_t *item);            /* false: empty */

#endif
