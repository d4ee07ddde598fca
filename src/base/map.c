#include "base/map.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static size_t home_of(const cop_map *map, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (map->capacity - 1);
}

void cop_map_init(cop_map *map)
{
    memset(map, 0, sizeof *map);
}

void cop_map_fini(cop_map *map)
{
    free(map->slots);
    cop_map_init(map);
}

static cop_map_slot *find(const cop_map *map, uint64_t key)
{
    size_t i = home_of(map, key);
    while (map->slots[i].used && map->slots[i].key != key)
        i = (i + 1) & (map->capacity - 1);
    return &map->slots[i];
}

uint32_t *cop_map_get(const cop_map *map, uint64_t key)
{
    if (map->count == 0)
        return NULL;
    cop_map_slot *slot = find(map, key);
    return slot->used ? &slot->value : NULL;
}

static void grow(cop_map *map)
{
    cop_map bigger = {.capacity = map->capacity ? map->capacity * 2 : 64, .count = map->count};
    bigger.slots = cop_calloc(bigger.capacity, sizeof *bigger.slots);
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i].used)
            *find(&bigger, map->slots[i].key) = map->slots[i];
    free(map->slots);
    *map = bigger;
}

void cop_map_put(cop_map *map, uint64_t key, uint32_t value)
{
    if ((map->count + 1) * 4 > map->capacity * 3)
        grow(map);
    cop_map_slot *slot = find(map, key);
    map->count += !slot->used;
    *slot = (cop_map_slot){.key = key, .value = value, .used = 1};
}

bool cop_map_remove(cop_map *map, uint64_t key)
{
    if (map->count == 0)
        return false;
    cop_map_slot *slot = find(map, key);
    if (!slot->used)
        return false;
    /* Close the gap: move back every follower whose home is not after the gap. */
    size_t mask = map->capacity - 1, gap = (size_t)(slot - map->slots), i = gap;
    for (;;) {
        i = (i + 1) & mask;
        if (!map->slots[i].used)
            break;
        size_t home = home_of(map, map->slots[i].key);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            map->slots[gap] = map->slots[i];
            gap = i;
        }
    }
    map->slots[gap].used = 0;
    map->count--;
    return true;
}
