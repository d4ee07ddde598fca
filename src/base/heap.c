#include "base/heap.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

void cop_heap_init(cop_heap *heap, size_t items)
{
    *heap = (cop_heap){.items = items};
    heap->nodes = cop_calloc(items, sizeof *heap->nodes);
    heap->place = cop_calloc(items, sizeof *heap->place);
}

void cop_heap_fini(cop_heap *heap)
{
    free(heap->nodes);
    free(heap->place);
    memset(heap, 0, sizeof *heap);
}

static bool before(const cop_heap_node *a, const cop_heap_node *b)
{
    if (a->key.major != b->key.major)
        return a->key.major < b->key.major;
    if (a->key.minor != b->key.minor)
        return a->key.minor < b->key.minor;
    return a->item < b->item;
}

static void set(cop_heap *heap, size_t i, cop_heap_node node)
{
    heap->nodes[i] = node;
    heap->place[node.item] = (uint32_t)i + 1;
}

static void sift_up(cop_heap *heap, size_t i, cop_heap_node node)
{
    while (i > 0 && before(&node, &heap->nodes[(i - 1) / 2])) {
        set(heap, i, heap->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    set(heap, i, node);
}

static void sift_down(cop_heap *heap, size_t i, cop_heap_node node)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && before(&heap->nodes[child + 1], &heap->nodes[child]))
            child++;
        if (!before(&heap->nodes[child], &node))
            break;
        set(heap, i, heap->nodes[child]);
        i = child;
    }
    set(heap, i, node);
}

static void place_at(cop_heap *heap, size_t i, cop_heap_node node)
{
    if (i > 0 && before(&node, &heap->nodes[(i - 1) / 2]))
        sift_up(heap, i, node);
    else
        sift_down(heap, i, node);
}

bool cop_heap_contains(const cop_heap *heap, uint32_t item)
{
    return heap->place[item] != 0;
}

void cop_heap_put(cop_heap *heap, uint32_t item, cop_heap_key key)
{
    COP_CHECK(item < heap->items);
    cop_heap_node node = {.key = key, .item = item};
    if (heap->place[item])
        place_at(heap, heap->place[item] - 1, node);
    else
        sift_up(heap, heap->count++, node);
}

void cop_heap_remove(cop_heap *heap, uint32_t item)
{
    if (!heap->place[item])
        return;
    size_t hole = heap->place[item] - 1;
    heap->place[item] = 0;
    cop_heap_node last = heap->nodes[--heap->count];
    if (hole < heap->count)
        place_at(heap, hole, last);
}

bool cop_heap_top(const cop_heap *heap, uint32_t *item)
{
    if (heap->count == 0)
        return false;
    *item = heap->nodes[0].item;
    return true;
}
