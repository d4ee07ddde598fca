#include "device/cpu_pool.h"

#include "base/alloc.h"
#include "base/check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Waiting: about 20 us of pauses, then some turns given away, then sleep. Between two loops of one
 * decode step a helper waits for less than that. */
enum { SPINS = 1000, YIELDS = 20 };

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_uint sleepers;
} gate;

typedef struct {
    struct cop_pool *pool;
    uint32_t thread;
    pthread_t handle;
} member;

struct cop_pool {
    gate work;    /* helpers sleep here until there is a task */
    gate control; /* the runner and the owner sleep here */
    atomic_bool stop;

    cop_pool_job job; /* written by the owner while the runner is idle */
    void *job_ctx;
    atomic_bool busy;

    /* The current loop: tasks in the high half, next unclaimed task in the low one. `task` and its
     * context are read only after a claim, and a claimed task keeps the loop from ending, so they
     * need no lock. */
    _Alignas(64) atomic_uint_least64_t ticket;
    _Alignas(64) atomic_uint remaining;
    cop_pool_task task;
    void *task_ctx;

    uint32_t threads, started;
    member *members;
};

static void gate_init(gate *g)
{
    pthread_mutex_init(&g->mutex, NULL);
    pthread_cond_init(&g->wake, NULL);
    atomic_init(&g->sleepers, 0);
}

static void gate_fini(gate *g)
{
    pthread_cond_destroy(&g->wake);
    pthread_mutex_destroy(&g->mutex);
}

/* Called after the condition was made true. Both sides order their two accesses (condition,
 * sleepers) sequentially, so one of them always sees the other. */
static void gate_open(gate *g)
{
    if (atomic_load(&g->sleepers) == 0)
        return;
    pthread_mutex_lock(&g->mutex);
    pthread_cond_broadcast(&g->wake);
    pthread_mutex_unlock(&g->mutex);
}

static void pause_briefly(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

__attribute__((noinline)) static void gate_wait(gate *g, cop_pool *pool, bool (*ready)(cop_pool *))
{
    for (int i = 0; i < SPINS; i++) {
        if (ready(pool))
            return;
        pause_briefly();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (ready(pool))
            return;
        sched_yield();
    }
    pthread_mutex_lock(&g->mutex);
    atomic_fetch_add(&g->sleepers, 1);
    while (!ready(pool))
        pthread_cond_wait(&g->wake, &g->mutex);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->mutex);
}

static bool has_task(cop_pool *pool)
{
    uint64_t t = atomic_load(&pool->ticket);
    return (uint32_t)t < (uint32_t)(t >> 32) || atomic_load(&pool->stop);
}

static bool loop_finished(cop_pool *pool)
{
    return atomic_load(&pool->remaining) == 0;
}

static bool has_job(cop_pool *pool)
{
    return atomic_load(&pool->busy) || atomic_load(&pool->stop);
}

static bool is_idle(cop_pool *pool)
{
    return !atomic_load(&pool->busy);
}

static bool claim(cop_pool *pool, uint32_t *task)
{
    uint64_t t = atomic_load(&pool->ticket);
    while ((uint32_t)t < (uint32_t)(t >> 32)) {
        if (atomic_compare_exchange_weak(&pool->ticket, &t, t + 1)) {
            *task = (uint32_t)t;
            return true;
        }
    }
    return false;
}

static void run_tasks(cop_pool *pool, uint32_t thread)
{
    uint32_t task;
    while (claim(pool, &task)) {
        pool->task(pool->task_ctx, task, thread);
        if (atomic_fetch_sub(&pool->remaining, 1) == 1 && thread != 0)
            gate_open(&pool->control);
    }
}

static void *helper_main(void *arg)
{
    member *self = arg;
    while (!atomic_load(&self->pool->stop)) {
        gate_wait(&self->pool->work, self->pool, has_task);
        run_tasks(self->pool, self->thread);
    }
    return NULL;
}

static void *runner_main(void *arg)
{
    cop_pool *pool = ((member *)arg)->pool;
    for (;;) {
        gate_wait(&pool->control, pool, has_job);
        if (!atomic_load(&pool->busy))
            return NULL;
        pool->job(pool->job_ctx);
        atomic_store(&pool->busy, false);
        gate_open(&pool->control);
    }
}

cop_status cop_pool_open(cop_pool **out, uint32_t threads, cop_error *err)
{
    COP_CHECK(threads >= 1);
    cop_pool *pool = aligned_alloc(64, sizeof *pool);
    if (!pool)
        return cop_fail(err, COP_ERR_NO_MEMORY, "cannot allocate the compute pool");
    memset(pool, 0, sizeof *pool);
    gate_init(&pool->work);
    gate_init(&pool->control);
    pool->threads = threads;
    pool->members = cop_calloc(threads, sizeof *pool->members);
    for (uint32_t i = 0; i < threads; i++) {
        member *m = &pool->members[i];
        *m = (member){.pool = pool, .thread = i};
        int error = pthread_create(&m->handle, NULL, i == 0 ? runner_main : helper_main, m);
        if (error) {
            cop_pool_close(pool);
            return cop_fail(err, COP_ERR_DEVICE, "cannot start compute thread %u of %u: %s", i + 1,
                            threads, strerror(error));
        }
        pool->started++;
    }
    *out = pool;
    return COP_OK;
}

void cop_pool_close(cop_pool *pool)
{
    if (!pool)
        return;
    cop_pool_wait(pool);
    atomic_store(&pool->stop, true);
    gate_open(&pool->work);
    gate_open(&pool->control);
    for (uint32_t i = 0; i < pool->started; i++)
        pthread_join(pool->members[i].handle, NULL);
    gate_fini(&pool->work);
    gate_fini(&pool->control);
    free(pool->members);
    free(pool);
}

void cop_pool_start(cop_pool *pool, cop_pool_job job, void *ctx)
{
    COP_CHECK(!atomic_load(&pool->busy));
    pool->job = job;
    pool->job_ctx = ctx;
    atomic_store(&pool->busy, true);
    gate_open(&pool->control);
}

bool cop_pool_done(cop_pool *pool)
{
    return is_idle(pool);
}

void cop_pool_wait(cop_pool *pool)
{
    gate_wait(&pool->control, pool, is_idle);
}

void cop_pool_for(cop_pool *pool, uint32_t tasks, cop_pool_task task, void *ctx)
{
    if (pool->threads == 1 || tasks <= 1) {
        for (uint32_t i = 0; i < tasks; i++)
            task(ctx, i, 0);
        return;
    }
    pool->task = task;
    pool->task_ctx = ctx;
    atomic_store(&pool->remaining, tasks);
    atomic_store(&pool->ticket, (uint64_t)tasks << 32);
    gate_open(&pool->work);
    run_tasks(pool, 0);
    gate_wait(&pool->control, pool, loop_finished);
}

uint32_t cop_pool_threads(const cop_pool *pool)
{
    return pool->threads;
}
