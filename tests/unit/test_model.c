#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/text.h"
#include "model/geometry.h"
#include "model/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_presets_hold_what_the_device_needs(void **state)
{
    size_t n = 0;
    for (const cop_geometry *g; (g = cop_geometry_at(n)); n++) {
        const cop_geometry *found;
        assert_int_equal(cop_geometry_find(g->name, &found, NULL), COP_OK);
        assert_ptr_equal(found, g);
        assert_true(g->hidden % 64 == 0 && g->ffn % 64 == 0 && g->vocab % 64 == 0);
        assert_true(g->q_heads % g->kv_heads == 0);
        assert_true(g->head_dim == 64 || g->head_dim == 128);
        assert_true((uint64_t)g->vocab * g->hidden <= UINT32_MAX);
    }
    assert_int_equal(n, 9);
}

/* Parameter counts as published on the models' own pages. */
static void test_parameter_counts(void **state)
{
    static const struct {
        const char *name;
        uint64_t parameters;
    } known[] = {{"qwen2.5-0.5b", 494032768}, {"qwen2.5-1.5b", 1543714304},
                 {"qwen2.5-7b", 7615616512},  {"llama3-8b", 8030261248},
                 {"qwen3-0.6b", 596049920},   {"llama3.2-1b", 1235814400},
                 {"mistral-7b", 7248023552}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const cop_geometry *g;
        assert_int_equal(cop_geometry_find(known[i].name, &g, NULL), COP_OK);
        assert_int_equal(cop_geometry_parameters(g), known[i].parameters);
    }
}

static void test_sizes(void **state)
{
    const cop_geometry *qwen, *llama;
    assert_int_equal(cop_geometry_find("qwen2.5-0.5b", &qwen, NULL), COP_OK);
    assert_int_equal(cop_geometry_find("llama3-8b", &llama, NULL), COP_OK);
    assert_int_equal(cop_geometry_kv_bytes(qwen, 2) * 16, 192 << 10); /* a block of 16 tokens */
    assert_int_equal(cop_geometry_kv_bytes(llama, 2) * 16, 2 << 20);
    assert_int_equal(cop_geometry_linear_weights(qwen), 357826560);
}

static void test_unknown_preset_names_the_nearest(void **state)
{
    const cop_geometry *g = NULL;
    cop_error err;
    assert_int_equal(cop_geometry_find("qwen2.5-05b", &g, &err), COP_ERR_INVALID);
    assert_string_equal(err.text,
                        "model.preset: unknown preset 'qwen2.5-05b'; did you mean 'qwen2.5-0.5b'? "
                        "(tiny, small, qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-7b, qwen3-0.6b, "
                        "llama3.2-1b, llama3-8b, mistral-7b)");
    assert_int_equal(cop_geometry_find("gigantic", &g, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "'gigantic' (tiny, small, "));
    assert_null(g);
}

static void test_nearest_name(void **state)
{
    static const char *const names[] = {"lru", "fifo", "lfu", "longest_prefix"};
    assert_string_equal(cop_nearest("lur", names, 4), "lru");
    assert_string_equal(cop_nearest("fif", names, 4), "fifo");
    assert_string_equal(cop_nearest("longest-prefx", names, 4), "longest_prefix");
    assert_null(cop_nearest("random", names, 4));
    assert_null(cop_nearest("x", NULL, 0));
    char long_name[1000];
    memset(long_name, 'a', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    assert_null(cop_nearest(long_name, names, 4));
}

static void expect_weights(uint64_t seed, cop_tensor tensor, uint32_t layer, uint32_t row,
                           uint32_t column, const uint16_t want[4])
{
    const cop_geometry *g;
    assert_int_equal(cop_geometry_find("tiny", &g, NULL), COP_OK);
    cop_seeded_weights seeded = {g, seed};
    cop_weights_source source = cop_weights_seeded(&seeded);
    cop_weight_rows view;
    uint32_t columns = cop_tensor_shape_of(g, tensor).columns, rows = columns == 1 ? 4 : 1;
    uint16_t *got = cop_malloc((size_t)rows * columns * sizeof *got);
    assert_int_equal(source.read(source.self, tensor, layer, row, rows, got, &view, NULL), COP_OK);
    assert_ptr_equal(view.data, got);
    assert_memory_equal(got + column, want, 4 * sizeof *want);
    free(got);
}

/* Values made by tests/oracles/transformer.py, which shares no code with weights.c. */
static void test_weights_are_pinned(void **state)
{
    expect_weights(1, COP_TENSOR_EMBED, 0, 0, 0, (uint16_t[]){0x3db8, 0xbd82, 0x3bce, 0x3dce});
    expect_weights(1, COP_TENSOR_EMBED, 0, 2047, 252, (uint16_t[]){0x3cfa, 0x3ddc, 0x3dc0, 0xbdbb});
    expect_weights(1, COP_TENSOR_Q, 3, 255, 252, (uint16_t[]){0xbd61, 0x3d07, 0x3db6, 0x3d52});
    expect_weights(1, COP_TENSOR_DOWN, 1, 100, 0, (uint16_t[]){0x3d26, 0xbd81, 0xbd32, 0x3c89});
    expect_weights(1, COP_TENSOR_NORM1, 2, 0, 0, (uint16_t[]){0x3f90, 0x3f8b, 0x3f82, 0x3f89});
    expect_weights(1, COP_TENSOR_V_BIAS, 0, 0, 0, (uint16_t[]){0xbb18, 0xbd1d, 0xbd2a, 0x3cca});
    expect_weights(2, COP_TENSOR_EMBED, 0, 0, 0, (uint16_t[]){0xbd9b, 0x3d5a, 0xbd00, 0x3d13});
}

static void read_all(uint64_t seed, cop_tensor tensor, uint32_t layer, uint16_t *out)
{
    const cop_geometry *g;
    assert_int_equal(cop_geometry_find("tiny", &g, NULL), COP_OK);
    cop_seeded_weights seeded = {g, seed};
    cop_weights_source source = cop_weights_seeded(&seeded);
    cop_weight_rows view;
    uint32_t rows = cop_tensor_shape_of(g, tensor).rows;
    assert_int_equal(source.read(source.self, tensor, layer, 0, rows, out, &view, NULL), COP_OK);
}

/* Mean 0, variance 1 / columns; tensors, layers and seeds do not repeat each other. */
static void test_weights_have_their_moments(void **state)
{
    enum { ROWS = 256, N = ROWS * 704 };
    uint16_t *a = cop_malloc(N * sizeof *a), *b = cop_malloc(N * sizeof *b);
    read_all(1, COP_TENSOR_DOWN, 0, a);
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        double x = cop_bf16_to_float(a[i]);
        sum += x;
        squares += x * x;
    }
    double variance = squares / N * 704;
    assert_true(fabs(sum / N) < 4 / sqrt(704.0 * N)); /* 4 standard deviations */
    assert_true(variance > 0.99 && variance < 1.01);
    for (int other = 0; other < 2; other++) {
        read_all(1 + other, COP_TENSOR_DOWN, 1 - other, b);
        double product = 0;
        for (int i = 0; i < N; i++)
            product += cop_bf16_to_float(a[i]) * cop_bf16_to_float(b[i]);
        assert_true(fabs(product * 704 / N) < 4 / sqrt(N)); /* uncorrelated */
    }
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets_hold_what_the_device_needs),
        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_unknown_preset_names_the_nearest),
        cmocka_unit_test(test_nearest_name),
        cmocka_unit_test(test_weights_are_pinned),
        cmocka_unit_test(test_weights_have_their_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
