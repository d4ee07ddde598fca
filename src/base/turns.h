/* Turns of transfers in one order for all ranks.
 *
 *     expect 7, expect 9, expect 12      announced; ids ascend
 *     post 9                             waits: 7 may still be posted
 *     post 7                             next: 7, after it is taken 9
 *     forget 12                          it will not be posted here
 *
 * Why a transport that starts transfers in turns, and finishes each with what it has once its turn
 * has come, cannot deadlock: take the unfinished transfer with the smallest id. At both of its ends
 * all that come before it are finished or forgotten, so it has its turn at both, and ends. Nothing
 * else is assumed of when a rank posts, only that it posts or forgets all that it announces without
 * waiting for a transfer with a larger id. */
#ifndef COP_BASE_TURNS_H
#define COP_BASE_TURNS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t id;
    void *posted; /* borrowed; NULL: announced only */
} cop_turn;

typedef struct {
    cop_turn *items; /* those not yet taken, ids ascend */
    size_t count, capacity, posted;
    uint64_t last; /* id announced last */
} cop_turns;       /* zero-initialise; cop_turns_fini */

void cop_turns_fini(cop_turns *turns);
void cop_turns_expect(cop_turns *turns, uint64_t id); /* larger than all before it */
void cop_turns_forget(cop_turns *turns, uint64_t id); /* announced, and never to be posted */
/* transfer: what cop_turns_next shall return, not NULL. */
void cop_turns_post(cop_turns *turns, uint64_t id, void *transfer);
void *cop_turns_next(const cop_turns *turns); /* whose turn it is; NULL: nobody's yet */
void cop_turns_take(cop_turns *turns); /* the next one; its turn is over for others to come */

#endif
