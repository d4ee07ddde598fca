/* Hash map u64 -> u32: open addressing, linear probing, deletion by backward shift (no tombstones).
 * Keys are hashes already, or small integers: they are mixed once. Owned by one thread. */
#ifndef COP_BASE_MAP_H
#define COP_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t key;
    uint32_t value;
    uint32_t used;
} cop_map_slot;

typedef struct {
    cop_map_slot *slots; /* power of two, at most 3/4 full */
    size_t capacity, count;
} cop_map;

void cop_map_init(cop_map *map);
void cop_map_fini(cop_map *map);

/* Value of `key`, or NULL. Valid until the next put or remove. */
uint32_t *cop_map_get(const cop_map *map, uint64_t key);
void cop_map_put(cop_map *map, uint64_t key, uint32_t value); /* inserts or replaces */
bool cop_map_remove(cop_map *map, uint64_t key);              /* false: was not there */

#endif
