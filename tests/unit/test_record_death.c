#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../record/read_back.h"
#include "base/clock.h"
#include "base/rng.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Writers that die or run out of space: in children, which tell through a pipe how many rows of
 * each table the last good flush covered. */

enum { SEED = 77, HANG_S = 60 };

typedef struct {
    uint64_t rows[COP_TABLES];
} counts;

typedef struct {
    char folder[64], path[96], plain[96];
} files;

static int make_folder(void **state)
{
    static files f;
    snprintf(f.folder, sizeof f.folder, "/tmp/coppice-death-XXXXXX");
    if (!mkdtemp(f.folder))
        return -1;
    snprintf(f.path, sizeof f.path, "%s/run.h5", f.folder);
    snprintf(f.plain, sizeof f.plain, "%s/plain.h5", f.folder);
    *state = &f;
    return 0;
}

static int remove_folder(void **state)
{
    files *f = *state;
    unlink(f->path);
    unlink(f->plain);
    return rmdir(f->folder);
}

/* Appends at random, flushes and tells, until something fails. */
static cop_status write_and_tell(cop_record *record, int pipe_end, uint64_t seed, cop_error *err)
{
    cop_rng rng;
    cop_rng_init(&rng, seed, 0);
    cop_status status = cop_record_start(record, err);
    while (status == COP_OK) {
        cop_table table = (cop_table)cop_rng_below(&rng, COP_TABLES);
        for (uint64_t n = cop_rng_below(&rng, 300); n > 0 && status == COP_OK; n--)
            status = pattern_append(record, table, err);
        if (status == COP_OK)
            status = cop_record_flush(record, err);
        counts told;
        for (int t = 0; t < COP_TABLES; t++)
            told.rows[t] = cop_record_rows(record, (cop_table)t);
        if (status == COP_OK && write(pipe_end, &told, sizeof told) != sizeof told)
            _exit(3);
    }
    return status;
}

static void check_salvage(const files *f, const counts *told)
{
    counts salvaged, found;
    cop_error err;
    cop_status status = cop_record_salvage(f->path, f->plain, salvaged.rows, &err);
    if (status != COP_OK)
        fail_msg("%s", err.text);
    read_back_all(f->plain, found.rows);
    assert_memory_equal(&found, &salvaged, sizeof found);
    for (int t = 0; t < COP_TABLES; t++)
        assert_true(found.rows[t] >= told->rows[t]);
}

static pid_t start_writer(const files *f, int ends[2], uint64_t seed)
{
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        cop_record *record;
        cop_error err;
        if (cop_record_open(&record, f->path, &err) == COP_OK)
            write_and_tell(record, ends[1], seed, &err);
        _exit(3);
    }
    close(ends[1]);
    return child;
}

/* Everything the child has told; the last one whole counts. */
static counts drain(int pipe_end, counts last)
{
    counts told;
    while (read(pipe_end, &told, sizeof told) == sizeof told)
        last = told;
    close(pipe_end);
    return last;
}

static void test_flushed_rows_survive_a_kill(void **state)
{
    files *f = *state;
    cop_rng rng;
    cop_rng_init(&rng, SEED, 1);
    printf("seed %d\n", SEED);
    for (int trial = 0; trial < 20; trial++) {
        int ends[2], how;
        counts first;
        pid_t child = start_writer(f, ends, cop_rng_u64(&rng));
        assert_int_equal(read(ends[0], &first, sizeof first), sizeof first);
        int64_t until_ns = cop_clock_ns() + (int64_t)cop_rng_below(&rng, 20 * COP_NS_PER_MS);
        while (cop_clock_ns() < until_ns) /* keeps the pipe from filling */
            assert_int_equal(read(ends[0], &first, sizeof first), sizeof first);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
        counts last = drain(ends[0], first);
        check_salvage(f, &last);
    }
}

/* A salvage of a file that another process still writes is a reader like any other. */
static void test_salvage_beside_a_live_writer(void **state)
{
    files *f = *state;
    int ends[2], how;
    counts told;
    pid_t child = start_writer(f, ends, SEED);
    for (int i = 0; i < 3; i++) {
        for (int skip = 0; skip < 20; skip++)
            assert_int_equal(read(ends[0], &told, sizeof told), sizeof told);
        check_salvage(f, &told);
        assert_int_equal(waitpid(child, &how, WNOHANG), 0);
    }
    kill(child, SIGKILL);
    waitpid(child, &how, 0);
    close(ends[0]);
}

/* In a child whose files may not grow past `limit`. Ends through exit(), with all its handlers. */
static void fill_up(const files *f, int pipe_end, rlim_t limit)
{
    cop_error err, again;
    cop_record *record = NULL;
    alarm(HANG_S);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
    cop_status status = cop_record_open(&record, f->path, &err);
    if (status == COP_OK) {
        status = write_and_tell(record, pipe_end, SEED + limit, &err);
        bool same = cop_record_flush(record, &again) == status && !strcmp(again.text, err.text);
        if (!same || cop_record_close(record, true, &again) != status)
            exit(4);
    }
    bool clear = strstr(err.text, f->path) && strstr(err.text, "File too large");
    if (!clear)
        fprintf(stderr, "%s\n", err.text);
    exit(status == COP_ERR_NO_SPACE && clear ? 0 : 5);
}

static void test_a_full_disk_is_an_error_and_no_more(void **state)
{
    files *f = *state;
    const rlim_t limits[] = {0, 4096, 100000, 1000000, 3000000, 20000000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        int ends[2], how;
        assert_int_equal(pipe(ends), 0);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            fill_up(f, ends[1], limits[i]);
        close(ends[1]);
        counts last = drain(ends[0], (counts){0});
        assert_int_equal(waitpid(child, &how, 0), child);
        if (!WIFEXITED(how) || WEXITSTATUS(how) != 0)
            fail_msg("limit %ju: wait status 0x%x", (uintmax_t)limits[i], (unsigned)how);
        uint64_t flushed = 0;
        for (int t = 0; t < COP_TABLES; t++)
            flushed += last.rows[t];
        if (limits[i] >= 1000000)
            assert_true(flushed > 0);
        if (flushed)
            check_salvage(f, &last);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_flushed_rows_survive_a_kill),
        TEST(test_salvage_beside_a_live_writer),
        TEST(test_a_full_disk_is_an_error_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
