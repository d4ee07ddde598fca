#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drive/bench.h"
#include "record/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Every table, the flushes and the closing get their lines; only a record asked for stays. */
static void test_bench_reports_and_leaves_what_was_asked_for(void **state)
{
    char folder[] = "/tmp/coppice-bench-test-XXXXXX", path[64], *text = NULL;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/kept.h5", folder);
    setenv("TMPDIR", folder, 1);
    char *const paths[] = {"", path};
    for (int i = 0; i < 2; i++) {
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        cop_config cfg = {
            .record_path = paths[i], .bench_rows = 2000, .record_flush_ms = 5, .seed = 1};
        cop_error err;
        assert_int_equal(cop_bench_record(&cfg, out, &err), COP_OK);
        fclose(out);
        for (int t = 0; t < COP_TABLES; t++)
            assert_non_null(strstr(text, cop_table_name((cop_table)t)));
        assert_non_null(strstr(text, "flushes, each after 10 rows"));
        assert_non_null(strstr(text, "repacked to"));
        free(text);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

static void test_bench_passes_errors_up(void **state)
{
    cop_config cfg = {
        .record_path = "/no/such/run.h5", .bench_rows = 10, .record_flush_ms = 5, .seed = 1};
    cop_error err;
    assert_int_equal(cop_bench_record(&cfg, stdout, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "/no/such' does not exist"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench_reports_and_leaves_what_was_asked_for),
        cmocka_unit_test(test_bench_passes_errors_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
