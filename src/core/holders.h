/* Interned sets of workers: a 32-bit word names a set, and equal sets (nearly always) have equal
 * words, so that "the same workers hold the next block too" is one comparison.
 *
 *     0                nobody
 *     1 .. workers     the one worker word - 1
 *     above            set number word - workers - 1, at least two workers:
 *                      a row of bits, counted references, found again by its key
 *
 * The key of a set is the XOR of a random 64-bit number per member (Zobrist), so the key after one
 * worker joins or leaves costs one XOR. Rows are compared, so equal words mean equal sets; two sets
 * of one key would get two words, which costs speed and nothing else. */
#ifndef COP_CORE_HOLDERS_H
#define COP_CORE_HOLDERS_H

#include "base/map.h"

#include <stdbool.h>
#include <stdint.h>

enum { COP_HOLDERS_NONE = 0 };

typedef struct {
    uint64_t key;
    uint32_t refs;  /* directory entries with this word */
    uint32_t count; /* workers in it; 0: the row is free */
    uint32_t next_free;
    bool interned; /* in `index` */
} cop_holder_set;

typedef struct {
    uint32_t workers, lanes; /* lanes: u64 in a row of bits */
    cop_holder_set *sets;    /* [capacity] */
    uint64_t *bits;          /* u64[capacity][lanes] */
    uint32_t capacity, count, first_free;
    cop_map index; /* key -> set number */
} cop_holders;

void cop_holders_init(cop_holders *h, uint32_t workers);
void cop_holders_fini(cop_holders *h);

/* The word of the set with or without `worker`. A set made by this has no references yet: move an
 * entry to it before the next call. */
uint32_t cop_holders_with(cop_holders *h, uint32_t word, uint32_t worker);
uint32_t cop_holders_without(cop_holders *h, uint32_t word, uint32_t worker);

/* One directory entry changes its word; a set that loses its last reference is freed. */
void cop_holders_move(cop_holders *h, uint32_t from, uint32_t to);

bool cop_holders_has(const cop_holders *h, uint32_t word, uint32_t worker);
uint32_t cop_holders_count(const cop_holders *h, uint32_t word);
/* Workers 64 * lane .. 64 * lane + 63 of the set, as bits. */
uint64_t cop_holders_lane(const cop_holders *h, uint32_t word, uint32_t lane);

/* refs: u32[capacity], references counted by the caller; compared with those kept here. */
void cop_holders_check(const cop_holders *h, const uint32_t *refs);

#endif
