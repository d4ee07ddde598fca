/* `coppice bench tokenizer` on a text that is not well-formed, which its regex must not see as it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drive/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const tokenizer =
    "model.tokenizer=" COP_SOURCE_DIR "/tests/data/tokenizers/qwen-small.json";

/* Owned text. */
static char *run(const char *path, cop_status want, cop_error *err)
{
    char *text = NULL, set_text[96];
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    cop_config cfg;
    cop_config_default(&cfg);
    snprintf(set_text, sizeof set_text, "bench.text=%s", path);
    const char *const set[] = {tokenizer, set_text, "bench.repeats=1"};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        assert_int_equal(cop_config_set(&cfg, set[i], "test", err), COP_OK);
    cop_status status = cop_bench_tokenizer(&cfg, out, err);
    fclose(out);
    cop_config_fini(&cfg);
    if (status != want)
        fail_msg("status %d: %s", status, status == COP_OK ? text : err->text);
    return text;
}

static void test_ill_formed_text(void **state)
{
    char path[] = "/tmp/coppice-bench-tokenizer-XXXXXX";
    int fd = mkstemp(path);
    cop_error err;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "a b\n\xff\x80 \xf0\x9f", 9), 9);
    close(fd);
    char *text = run(path, COP_OK, &err);
    /* Three flaws, of 1, 1 and 2 bytes, are 3 bytes each. */
    assert_non_null(strstr(text, ": 14 bytes, 1 lines, 5 words, "));
    assert_non_null(strstr(text, "decode"));
    free(text);
    assert_int_equal(truncate(path, 0), 0);
    free(run(path, COP_ERR_INVALID, &err));
    assert_non_null(strstr(err.text, "is empty"));
    unlink(path);
    free(run(path, COP_ERR_INVALID, &err));
    assert_non_null(strstr(err.text, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ill_formed_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
