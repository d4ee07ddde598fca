#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/transport.h"

#include <stdlib.h>
#include <string.h>

static void test_known_name(void **state)
{
    const cop_kv_ops *ops = NULL;
    cop_error err;
    assert_int_equal(cop_kv_find("mpi", &ops, &err), COP_OK);
    assert_ptr_equal(ops, &cop_kv_mpi);
    assert_string_equal(ops->name, "mpi");
}

static void test_names_that_cannot_be_used(void **state)
{
    const struct {
        const char *name;
        cop_status status;
        const char *text;
    } cases[] = {
        {"nccl", COP_ERR_UNSUPPORTED,
         "transport.kv nccl: plugin coppice-cuda.so: /nowhere/plugin.so: cannot open shared object "
         "file: No such file or directory (it is built where nvcc is; COPPICE_CUDA_PLUGIN can say "
         "where it is)"},
        {"nckl", COP_ERR_INVALID,
         "transport.kv: unknown transport 'nckl'; did you mean 'nccl'? (mpi, nccl)"},
        {"pigeon", COP_ERR_INVALID, "transport.kv: unknown transport 'pigeon' (mpi, nccl)"},
        {"", COP_ERR_INVALID, "transport.kv: unknown transport '' (mpi, nccl)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const cop_kv_ops *ops = NULL;
        cop_error err;
        assert_int_equal(cop_kv_find(cases[i].name, &ops, &err), cases[i].status);
        assert_string_equal(err.text, cases[i].text);
        assert_null(ops);
    }
}

int main(void)
{
    setenv("COPPICE_CUDA_PLUGIN", "/nowhere/plugin.so", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_name),
        cmocka_unit_test(test_names_that_cannot_be_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
