#include "core/directory.h"

#include "base/alloc.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>

enum {
    FIRST_BITS = 8,
    HUGE_PAGE = 2 << 20,
    AHEAD = 16 /* prefetch distance in blocks; more than the misses a core keeps in flight */
};

/* ---- the table ------------------------------------------------------------------------- */

static cop_directory_entry *new_table(size_t capacity)
{
    void *table = NULL;
    cop_error err;
    bool memory_for_the_directory = cop_alloc_large(&table, capacity * sizeof(cop_directory_entry),
                                                    "the directory", &err) == COP_OK;
    COP_CHECK(memory_for_the_directory);
    /* The first touch of a page must be a write: a read would map the shared zero page, and the
     * write after it fault again. */
    for (size_t at = 0; at < capacity * sizeof(cop_directory_entry); at += HUGE_PAGE)
        ((volatile char *)table)[at] = 0;
    return table;
}

static void free_table(cop_directory *dir)
{
    cop_free_large(dir->entries, dir->capacity * sizeof *dir->entries);
}

void cop_directory_init(cop_directory *dir, uint32_t workers, bool remember)
{
    *dir = (cop_directory){
        .capacity = (size_t)1 << FIRST_BITS, .shift = 64 - FIRST_BITS, .remember = remember};
    dir->entries = new_table(dir->capacity);
    cop_holders_init(&dir->holders, workers);
}

void cop_directory_fini(cop_directory *dir)
{
    free_table(dir);
    cop_holders_fini(&dir->holders);
}

static uint64_t stored(uint64_t hash)
{
    return hash ? hash : 1;
}

/* Where the hash is, or the empty slot where it would go. */
static cop_directory_entry *find(const cop_directory *dir, uint64_t hash)
{
    size_t i = cop_directory_home(dir, hash);
    while (dir->entries[i].hash != hash && dir->entries[i].hash != 0)
        i = (i + 1) & (dir->capacity - 1);
    return &dir->entries[i];
}

/* Room for `more` entries, so that a bulk operation never moves the table midway. */
static void reserve(cop_directory *dir, size_t more)
{
    if ((dir->count + more) * 4 <= dir->capacity * 3)
        return;
    cop_directory old = *dir;
    while ((dir->count + more) * 4 > dir->capacity * 3) {
        dir->capacity *= 2;
        dir->shift--;
    }
    dir->entries = new_table(dir->capacity);
    for (size_t i = 0; i < old.capacity; i++)
        if (old.entries[i].hash)
            *find(dir, old.entries[i].hash) = old.entries[i];
    free_table(&old);
}

/* Closes the gap: moves back every follower whose home is not after it. */
static void erase(cop_directory *dir, cop_directory_entry *entry)
{
    size_t mask = dir->capacity - 1, gap = (size_t)(entry - dir->entries), i = gap;
    for (;;) {
        i = (i + 1) & mask;
        if (dir->entries[i].hash == 0)
            break;
        size_t home = cop_directory_home(dir, dir->entries[i].hash);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            dir->entries[gap] = dir->entries[i];
            gap = i;
        }
    }
    dir->entries[gap] = (cop_directory_entry){0};
    dir->count--;
}

static void prefetch_first(const cop_directory *dir, const uint64_t *hashes, uint32_t count)
{
    for (uint32_t i = 0; i < count && i < AHEAD; i++)
        cop_directory_prefetch(dir, stored(hashes[i]));
}

static void prefetch_ahead(const cop_directory *dir, const uint64_t *hashes, uint32_t i,
                           uint32_t count)
{
    if (i + AHEAD < count)
        cop_directory_prefetch(dir, stored(hashes[i + AHEAD]));
}

/* ---- requests -------------------------------------------------------------------------- */

uint32_t cop_directory_ask(cop_directory *dir, const uint64_t *hashes, uint32_t count,
                           uint32_t *holders)
{
    COP_CHECK(dir->remember);
    reserve(dir, count);
    prefetch_first(dir, hashes, count);
    uint32_t known = count;
    for (uint32_t i = 0; i < count; i++) {
        prefetch_ahead(dir, hashes, i, count);
        uint64_t hash = stored(hashes[i]);
        cop_directory_entry *entry = find(dir, hash);
        if (entry->hash == 0) {
            *entry = (cop_directory_entry){.hash = hash};
            dir->count++;
            if (known > i)
                known = i;
        }
        entry->uses += entry->uses < UINT32_MAX;
        holders[i] = entry->holders;
    }
    return known;
}

void cop_directory_look(const cop_directory *dir, const uint64_t *hashes, uint32_t count,
                        uint32_t *holders)
{
    prefetch_first(dir, hashes, count);
    for (uint32_t i = 0; i < count; i++) {
        prefetch_ahead(dir, hashes, i, count);
        holders[i] = find(dir, stored(hashes[i]))->holders; /* an empty slot says NONE */
    }
}

uint32_t cop_directory_uses(const cop_directory *dir, uint64_t hash)
{
    return find(dir, stored(hash))->uses;
}

/* Sets matched[w] = value for every worker of these 64. */
static void settle(uint32_t *matched, uint32_t lane, uint64_t workers, uint32_t value)
{
    for (; workers; workers &= workers - 1)
        matched[lane * 64 + (uint32_t)__builtin_ctzll(workers)] = value;
}

/* Walks the chain lane by lane: `alive` are those of 64 workers that hold everything so far. */
static void match_lane(const cop_directory *dir, const uint32_t *holders, uint32_t count,
                       uint32_t lane, uint32_t *matched)
{
    uint64_t alive = ~UINT64_C(0);
    uint32_t same = UINT32_MAX; /* the word that `alive` was last cut with */
    for (uint32_t i = 0; i < count && alive; i++) {
        if (holders[i] == same)
            continue;
        same = holders[i];
        uint64_t held = cop_holders_lane(&dir->holders, same, lane);
        if (i > 0)
            settle(matched, lane, alive & ~held, i);
        alive &= held;
    }
    if (count > 0)
        settle(matched, lane, alive, count);
}

void cop_directory_match(const cop_directory *dir, const uint32_t *holders, uint32_t count,
                         uint32_t *matched)
{
    memset(matched, 0, dir->holders.workers * sizeof *matched);
    for (uint32_t lane = 0; lane < dir->holders.lanes; lane++)
        match_lane(dir, holders, count, lane, matched);
}

/* ---- what workers say ------------------------------------------------------------------ */

/* Blocks told of together mostly had the same holders before, so the step from one set to the next
 * is looked up once. It stays right: a set can only take a freed number by being made, and making
 * one replaces what is remembered here. */
typedef struct {
    uint32_t from, to;
} cop_transition;

static void move(cop_directory *dir, cop_directory_entry *entry, uint32_t to)
{
    if (entry->holders == to)
        return;
    cop_holders_move(&dir->holders, entry->holders, to);
    entry->holders = to;
}

void cop_directory_insert(cop_directory *dir, uint32_t worker, const uint64_t *hashes,
                          uint32_t count)
{
    COP_CHECK(worker < dir->holders.workers);
    reserve(dir, count);
    prefetch_first(dir, hashes, count);
    cop_transition last = {.from = COP_HOLDERS_NONE, .to = worker + 1};
    for (uint32_t i = 0; i < count; i++) {
        prefetch_ahead(dir, hashes, i, count);
        uint64_t hash = stored(hashes[i]);
        cop_directory_entry *entry = find(dir, hash);
        if (entry->hash == 0) {
            *entry = (cop_directory_entry){.hash = hash};
            dir->count++;
        }
        if (entry->holders != last.from)
            last = (cop_transition){entry->holders,
                                    cop_holders_with(&dir->holders, entry->holders, worker)};
        move(dir, entry, last.to);
    }
}

void cop_directory_remove(cop_directory *dir, uint32_t worker, const uint64_t *hashes,
                          uint32_t count)
{
    COP_CHECK(worker < dir->holders.workers);
    prefetch_first(dir, hashes, count);
    cop_transition last = {.from = worker + 1, .to = COP_HOLDERS_NONE};
    for (uint32_t i = 0; i < count; i++) {
        prefetch_ahead(dir, hashes, i, count);
        cop_directory_entry *entry = find(dir, stored(hashes[i]));
        if (entry->hash == 0)
            continue;
        if (entry->holders != last.from)
            last = (cop_transition){entry->holders,
                                    cop_holders_without(&dir->holders, entry->holders, worker)};
        move(dir, entry, last.to);
        if (!dir->remember && entry->holders == COP_HOLDERS_NONE)
            erase(dir, entry);
    }
}

void cop_directory_check(const cop_directory *dir)
{
    const cop_holders *h = &dir->holders;
    uint32_t *refs = cop_calloc(h->capacity, sizeof *refs);
    size_t count = 0;
    for (size_t i = 0; i < dir->capacity; i++) {
        const cop_directory_entry *entry = &dir->entries[i];
        if (entry->hash == 0) {
            COP_CHECK(entry->holders == 0 && entry->uses == 0);
            continue;
        }
        COP_CHECK(find(dir, entry->hash) == entry);
        COP_CHECK(dir->remember || entry->holders != COP_HOLDERS_NONE);
        if (entry->holders > h->workers) {
            COP_CHECK(entry->holders - h->workers - 1 < h->count);
            refs[entry->holders - h->workers - 1]++;
        }
        count++;
    }
    COP_CHECK(count == dir->count && count * 4 <= dir->capacity * 3);
    cop_holders_check(h, refs);
    free(refs);
}
