/* The compute threads of a CPU device: one runner and its helpers, `threads` in all.
 *
 *     owner thread                 runner                        helpers
 *     cop_pool_start(job)  ----->  job(ctx)
 *     cop_pool_done? ...             cop_pool_for(tasks) ----->  claim tasks one by one
 *     cop_pool_done: true  <-----  job returned
 *
 * The owner never computes, and never blocks except in cop_pool_wait. A parallel loop ends when its
 * tasks are done, not when every helper has been seen: a helper that the system keeps off its core
 * delays nobody. Whoever waits spins for some microseconds, yields a few times, then sleeps, so
 * that ranks which share cores do not burn each other's time (a spinning barrier costs 20x there).
 */
#ifndef COP_DEVICE_CPU_POOL_H
#define COP_DEVICE_CPU_POOL_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct cop_pool cop_pool;
typedef void (*cop_pool_job)(void *ctx);
/* thread: 0 for the runner, 1 .. threads-1 for helpers; never two tasks at once on one thread. */
typedef void (*cop_pool_task)(void *ctx, uint32_t task, uint32_t thread);

cop_status cop_pool_open(cop_pool **out, uint32_t threads, cop_error *err);
void cop_pool_close(cop_pool *pool); /* NULL is legal; waits for the job in flight */

/* Owner's side: at most one job in flight. */
void cop_pool_start(cop_pool *pool, cop_pool_job job, void *ctx);
bool cop_pool_done(cop_pool *pool);
void cop_pool_wait(cop_pool *pool);

/* Inside a job only: task(ctx, 0 .. tasks-1, thread), in any order; returns when all are done. */
void cop_pool_for(cop_pool *pool, uint32_t tasks, cop_pool_task task, void *ctx);
uint32_t cop_pool_threads(const cop_pool *pool);

#endif
