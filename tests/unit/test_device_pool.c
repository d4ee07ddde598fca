#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "device/cpu_pool.h"

#include <string.h>

enum { TASKS_MAX = 100, THREADS_MAX = 5 };

/* Plain memory: the pool itself must order what tasks write and what the job reads. */
typedef struct {
    cop_pool *pool;
    uint32_t rounds, threads;
    int count[TASKS_MAX];
    int running[THREADS_MAX];
    long sum;
    bool wrong;
} work;

static void count_task(void *ctx, uint32_t task, uint32_t thread)
{
    work *w = ctx;
    if (thread >= w->threads || w->running[thread]++)
        w->wrong = true;
    w->count[task]++;
    w->running[thread]--;
}

static void count_job(void *ctx)
{
    work *w = ctx;
    for (uint32_t round = 0; round < w->rounds; round++) {
        uint32_t tasks = round % TASKS_MAX;
        memset(w->count, 0, sizeof w->count);
        cop_pool_for(w->pool, tasks, count_task, w);
        for (uint32_t i = 0; i < TASKS_MAX; i++) {
            w->wrong |= w->count[i] != (i < tasks);
            w->sum += w->count[i];
        }
        if (round % 64 == 63)
            cop_sleep_ns(200000); /* long enough for helpers to fall asleep */
    }
}

static void test_every_task_runs_once(void **state)
{
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        work w = {.rounds = 600, .threads = threads};
        cop_error err;
        assert_int_equal(cop_pool_open(&w.pool, threads, &err), COP_OK);
        assert_int_equal(cop_pool_threads(w.pool), threads);
        assert_true(cop_pool_done(w.pool));
        for (int i = 0; i < 3; i++) {
            cop_pool_start(w.pool, count_job, &w);
            while (i == 1 && !cop_pool_done(w.pool))
                cop_sleep_ns(50000);
            if (i == 0)
                cop_pool_wait(w.pool);
            else if (i == 2)
                break; /* close waits for it */
        }
        cop_pool_close(w.pool);
        assert_false(w.wrong);
        assert_int_equal(w.sum, 3 * 6 * (99 * 100 / 2));
    }
    cop_pool_close(NULL);
}

static void empty_job(void *ctx)
{
    ++*(int *)ctx;
}

static void test_many_short_jobs(void **state)
{
    cop_pool *pool;
    cop_error err;
    int jobs = 0;
    assert_int_equal(cop_pool_open(&pool, 3, &err), COP_OK);
    for (int i = 0; i < 2000; i++) {
        cop_pool_start(pool, empty_job, &jobs);
        cop_pool_wait(pool);
        assert_int_equal(jobs, i + 1);
    }
    cop_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_task_runs_once),
        cmocka_unit_test(test_many_short_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
