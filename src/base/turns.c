#include "base/turns.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

void cop_turns_fini(cop_turns *turns)
{
    free(turns->items);
    *turns = (cop_turns){0};
}

/* Few are open at a time. */
static size_t find(const cop_turns *turns, uint64_t id)
{
    size_t i = 0;
    while (i < turns->count && turns->items[i].id != id)
        i++;
    COP_CHECK(i < turns->count && !turns->items[i].posted);
    return i;
}

static void remove_at(cop_turns *turns, size_t i)
{
    turns->count--;
    memmove(&turns->items[i], &turns->items[i + 1], (turns->count - i) * sizeof *turns->items);
}

void cop_turns_expect(cop_turns *turns, uint64_t id)
{
    COP_CHECK(id > turns->last);
    COP_GROW(turns->items, turns->capacity, turns->count + 1);
    turns->items[turns->count++] = (cop_turn){.id = id};
    turns->last = id;
}

void cop_turns_forget(cop_turns *turns, uint64_t id)
{
    remove_at(turns, find(turns, id));
}

void cop_turns_post(cop_turns *turns, uint64_t id, void *transfer)
{
    COP_CHECK(transfer);
    turns->items[find(turns, id)].posted = transfer;
    turns->posted++;
}

void *cop_turns_next(const cop_turns *turns)
{
    return turns->count ? turns->items[0].posted : NULL;
}

void cop_turns_take(cop_turns *turns)
{
    COP_CHECK(cop_turns_next(turns));
    remove_at(turns, 0);
    turns->posted--;
}
