/* What open prepares, so that no step has to: room for every batch, kernels, algorithms, graphs. */
#include "cuda/cuda_device.h"

#include "device_harness.h"

#include "../shapes.h"

static const cop_seeded_weights weights = {.geometry = &shape_odd, .seed = 5};

/* Decode attention's scratch holds any number of decodes at any context. Shapes: as the presets
 * have them, and one with groups of more than 16. */
static void test_room_for_decodes(void **state)
{
    static const struct {
        uint32_t q_heads, kv_heads, head_dim;
    } shapes[] = {{32, 8, 128}, {14, 2, 64}, {28, 4, 128}, {64, 8, 128}, {34, 2, 128}};
    static const uint32_t multiprocessors[] = {4, 58, 108, 132, 148};
    static const uint32_t most[] = {1, 7, 16, 29, 64}, contexts[] = {300, 8192, 33000};
    for (int i = 0; i < 5; i++)
        for (int m = 0; m < 5; m++)
            for (int k = 0; k < 5; k++)
                for (int c = 0; c < 3; c++) {
                    const cop_cuda_shape shape = {.q_heads = shapes[i].q_heads,
                                                  .kv_heads = shapes[i].kv_heads,
                                                  .head_dim = shapes[i].head_dim};
                    const size_t room =
                        cop_cuda_decode_room(&shape, most[k], contexts[c], multiprocessors[m]);
                    for (uint32_t n = 1; n <= most[k]; n++)
                        for (uint32_t context = 1; context <= contexts[c];
                             context += 1 + context / 32) {
                            const uint32_t splits =
                                cop_cuda_decode_splits(&shape, n, context, multiprocessors[m]);
                            if (cop_cuda_decode_scratch(&shape, n, splits) > room)
                                fail_msg("%u heads, %u multiprocessors: %u decodes of %u tokens "
                                         "in %u splits do not fit into %zu bytes",
                                         shape.q_heads, multiprocessors[m], n, context, splits,
                                         room);
                        }
                }
}

/* A batch of a number of decodes between two buckets, of which neither wants as much: with the four
 * multiprocessors of the emulator and contexts of 512, 7 decodes have two splits and 8 have one.
 * The emulator tells of writes beside the scratch when close frees it. */
static void test_decodes_between_buckets(void **state)
{
    enum { DECODES = 7, CONTEXT = 512, BLOCK = 64 };
    cop_geometry g = shape_odd;
    g.max_context = CONTEXT;
    const cop_seeded_weights short_weights = {.geometry = &g, .seed = 5};
    cop_device_options options = options_of(&short_weights, BLOCK);
    options.max_sequences = 8;
    cop_device *device = open_with(cuda, &options);
    uint32_t blocks[CONTEXT / BLOCK], tokens[1] = {3};
    for (uint32_t i = 0; i < CONTEXT / BLOCK; i++)
        blocks[i] = i;
    cop_sequence s[DECODES];
    for (int i = 0; i < DECODES; i++)
        s[i] = (cop_sequence){.tokens = tokens, .start = CONTEXT - 1, .count = 1, .blocks = blocks};
    step(cuda, device, s, DECODES);
    cuda->close(device);
}

/* All algorithms are chosen, and graphs are there for all batches that only decode. */
static void test_nothing_is_left_for_the_first_use(void **state)
{
    cop_device_options options = options_of(&weights, 64);
    options.max_sequences = 6;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        options.deterministic = deterministic;
        cop_device *d = open_with(cuda, &options);
        for (int i = 0; i < COP_PRODUCTS; i++)
            for (uint32_t b = 0; b <= cop_cuda_bucket(d->gemm[i].max_rows); b++)
                assert_int_equal(d->gemm[i].choice[b].known, !deterministic || b == 0);
        static const uint32_t sizes[] = {1, 2, 3, 4, 6};
        for (int i = 0; i < 5; i++) {
            int graphs = 0;
            for (int k = 0; k < COP_GRAPHS; k++)
                graphs += d->graphs[k].graph && d->graphs[k].sequences == sizes[i];
            assert_true(graphs >= 1);
            assert_true(!deterministic || graphs == 1);
        }
        cuda->close(d);
    }
}

int main(void)
{
    harness_device_or_skip();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room_for_decodes),
        cmocka_unit_test(test_decodes_between_buckets),
        cmocka_unit_test(test_nothing_is_left_for_the_first_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
