#include "core/holders.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

enum { NO_SET = UINT32_MAX };

void cop_holders_init(cop_holders *h, uint32_t workers)
{
    COP_CHECK(workers >= 1);
    *h = (cop_holders){.workers = workers, .lanes = (workers + 63) / 64, .first_free = NO_SET};
    cop_map_init(&h->index);
}

void cop_holders_fini(cop_holders *h)
{
    free(h->sets);
    free(h->bits);
    cop_map_fini(&h->index);
}

static bool is_single(const cop_holders *h, uint32_t word)
{
    return word <= h->workers; /* or none */
}

static uint64_t *row(const cop_holders *h, uint32_t set)
{
    return h->bits + (size_t)set * h->lanes;
}

static uint64_t key_of(uint32_t worker)
{
    return cop_splitmix64(worker);
}

uint64_t cop_holders_lane(const cop_holders *h, uint32_t word, uint32_t lane)
{
    if (!is_single(h, word))
        return row(h, word - h->workers - 1)[lane];
    if (word == COP_HOLDERS_NONE || (word - 1) / 64 != lane)
        return 0;
    return UINT64_C(1) << (word - 1) % 64;
}

bool cop_holders_has(const cop_holders *h, uint32_t word, uint32_t worker)
{
    return cop_holders_lane(h, word, worker / 64) >> worker % 64 & 1;
}

uint32_t cop_holders_count(const cop_holders *h, uint32_t word)
{
    return is_single(h, word) ? word != COP_HOLDERS_NONE : h->sets[word - h->workers - 1].count;
}

/* Does `set` equal the set of `word` with `flip` toggled? */
static bool equals(const cop_holders *h, uint32_t set, uint32_t word, uint32_t flip)
{
    for (uint32_t lane = 0; lane < h->lanes; lane++) {
        uint64_t bits = cop_holders_lane(h, word, lane);
        if (lane == flip / 64)
            bits ^= UINT64_C(1) << flip % 64;
        if (bits != row(h, set)[lane])
            return false;
    }
    return true;
}

static uint32_t take_row(cop_holders *h)
{
    if (h->first_free != NO_SET) {
        uint32_t set = h->first_free;
        h->first_free = h->sets[set].next_free;
        return set;
    }
    if (h->count == h->capacity) {
        h->capacity = h->capacity ? h->capacity * 2 : 16;
        h->sets = cop_realloc(h->sets, h->capacity * sizeof *h->sets);
        h->bits = cop_realloc(h->bits, (size_t)h->capacity * h->lanes * sizeof *h->bits);
    }
    return h->count++;
}

/* The set of `word` with `flip` toggled, which has `count` >= 2 members. */
static uint32_t find_or_make(cop_holders *h, uint32_t word, uint32_t flip, uint32_t count)
{
    uint64_t key = is_single(h, word) ? key_of(word - 1) : h->sets[word - h->workers - 1].key;
    key ^= key_of(flip);
    const uint32_t *known = cop_map_get(&h->index, key);
    if (known && equals(h, *known, word, flip))
        return *known + h->workers + 1;
    bool interned = known == NULL;
    uint32_t set = take_row(h);
    for (uint32_t lane = 0; lane < h->lanes; lane++)
        row(h, set)[lane] = cop_holders_lane(h, word, lane);
    row(h, set)[flip / 64] ^= UINT64_C(1) << flip % 64;
    h->sets[set] =
        (cop_holder_set){.key = key, .count = count, .next_free = NO_SET, .interned = interned};
    if (interned)
        cop_map_put(&h->index, key, set);
    return set + h->workers + 1;
}

uint32_t cop_holders_with(cop_holders *h, uint32_t word, uint32_t worker)
{
    if (word == COP_HOLDERS_NONE)
        return worker + 1;
    if (cop_holders_has(h, word, worker))
        return word;
    return find_or_make(h, word, worker, cop_holders_count(h, word) + 1);
}

static uint32_t other_of_two(const cop_holders *h, uint32_t word, uint32_t worker)
{
    for (uint32_t lane = 0;; lane++) {
        uint64_t bits = cop_holders_lane(h, word, lane);
        if (lane == worker / 64)
            bits &= ~(UINT64_C(1) << worker % 64);
        if (bits)
            return lane * 64 + (uint32_t)__builtin_ctzll(bits);
    }
}

uint32_t cop_holders_without(cop_holders *h, uint32_t word, uint32_t worker)
{
    if (!cop_holders_has(h, word, worker))
        return word;
    uint32_t left = cop_holders_count(h, word) - 1;
    if (left == 0)
        return COP_HOLDERS_NONE;
    if (left == 1)
        return other_of_two(h, word, worker) + 1;
    return find_or_make(h, word, worker, left);
}

static void release(cop_holders *h, uint32_t set)
{
    cop_holder_set *s = &h->sets[set];
    if (--s->refs)
        return;
    if (s->interned)
        cop_map_remove(&h->index, s->key);
    *s = (cop_holder_set){.next_free = h->first_free};
    h->first_free = set;
}

void cop_holders_move(cop_holders *h, uint32_t from, uint32_t to)
{
    if (!is_single(h, to))
        h->sets[to - h->workers - 1].refs++;
    if (!is_single(h, from))
        release(h, from - h->workers - 1);
}

void cop_holders_check(const cop_holders *h, const uint32_t *refs)
{
    uint32_t live = 0, interned = 0;
    for (uint32_t set = 0; set < h->count; set++) {
        const cop_holder_set *s = &h->sets[set];
        COP_CHECK(s->refs == refs[set]);
        COP_CHECK((s->refs == 0) == (s->count == 0));
        if (s->count == 0)
            continue;
        uint64_t key = 0;
        uint32_t members = 0;
        for (uint32_t worker = 0; worker < h->lanes * 64; worker++)
            if (row(h, set)[worker / 64] >> worker % 64 & 1) {
                COP_CHECK(worker < h->workers);
                key ^= key_of(worker);
                members++;
            }
        COP_CHECK(members == s->count && members >= 2);
        COP_CHECK(key == s->key);
        const uint32_t *known = cop_map_get(&h->index, key);
        COP_CHECK((known && *known == set) == s->interned);
        live++;
        interned += s->interned;
    }
    COP_CHECK(interned == h->index.count);
    uint32_t free_rows = 0;
    for (uint32_t set = h->first_free; set != NO_SET; set = h->sets[set].next_free)
        free_rows++;
    COP_CHECK(live + free_rows == h->count);
}
