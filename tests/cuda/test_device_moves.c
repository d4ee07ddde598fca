/* Blocks of the CUDA device on their way: copied within the pool, moved to and from host memory,
 * written by a transport; and that each comes before or after what it has to. */
#include "device_truth.h"

#include "cuda/plugin.h"

#include "../shapes.h"

/* A prefix of 77 tokens whose last block was copied in part, onto a block full of rubbish. */
static void test_copied_prefix(void **state)
{
    enum { PREFIX = 77, BLOCK = 16, REST = PREFIX % BLOCK };
    truth t;
    uint32_t blocks[BLOCKS], mine[BLOCKS];
    cop_error err;
    make_truth(&t, &shape_wide);
    make_table(blocks, 4);
    memcpy(mine, blocks, sizeof mine);
    const cop_device_options options = options_of(&t.weights, BLOCK);
    cop_device *device = open_with(cuda, &options);
    prefill(&t, device, blocks, 0, TOKENS, 64, "before the copy");
    const uint32_t src = blocks[PREFIX / BLOCK], dst = blocks[300];
    memcpy(mine + PREFIX / BLOCK, blocks + 300, 50 * sizeof *mine);
    const size_t bytes = cuda->block_bytes(device), token = t.g->head_dim * sizeof(uint16_t);
    char *rubbish = cop_malloc(bytes);
    memset(rubbish, 0xff, bytes);
    assert_int_equal(cuda->write_block(device, dst, rubbish, &err), COP_OK);
    cuda->copy_block(device, src, dst, REST);
    char *from = read_block(device, src), *to = read_block(device, dst);
    for (size_t at = 0; at < bytes; at += BLOCK * token) {
        assert_memory_equal(to + at, from + at, REST * token);
        assert_memory_equal(to + at + REST * token, rubbish, (BLOCK - REST) * token);
    }
    cuda->copy_block(device, src, src, BLOCK); /* nothing happens */
    prefill(&t, device, mine, PREFIX, TOKENS, 40, "after a copied prefix");
    free(rubbish);
    free(from);
    free(to);
    cuda->close(device);
    free_truth(&t);
}

/* Blocks go out while the next batch already writes them; they come back into others. */
static void test_moves(void **state)
{
    enum { PREFIX = 80, USED = 5, BLOCK = 16 };
    truth t;
    uint32_t blocks[BLOCKS], slots[] = {3, 0, 5, 1, 4};
    make_truth(&t, &shape_odd);
    make_table(blocks, 8);
    const cop_device_options options = options_of(&t.weights, BLOCK);
    cop_device *device = open_with(cuda, &options);
    const size_t bytes = cuda->block_bytes(device);
    char *kept[USED];
    uint32_t other[TOKENS];
    make_prompt(other, t.g->vocab, 3);
    prefill(&t, device, blocks, 0, PREFIX, PREFIX, "before moves");
    for (int i = 0; i < USED; i++)
        kept[i] = read_block(device, blocks[i]);
    const uint64_t out = cuda->move_out(device, blocks, slots, USED);
    cop_sequence s = part_of(other, 0, PREFIX, blocks); /* into the same blocks, at once */
    const cop_batch batch = {.count = 1, .sequences = &s};
    start_step(cuda, device, &batch);
    while (!cuda->moved(device, out))
        cop_sleep_ns(1000);
    for (int i = 0; i < USED; i++)
        assert_memory_equal(cuda->host_slot(device, slots[i]), kept[i], bytes);
    end_step(cuda, device);
    const uint64_t in = cuda->move_in(device, blocks + 20, slots, USED);
    assert_true(in > out);
    while (!cuda->moved(device, in))
        cop_sleep_ns(1000);
    assert_true(cuda->moved(device, out));
    for (int i = 0; i < USED; i++) {
        char *back = read_block(device, blocks[20 + i]), *now = read_block(device, blocks[i]);
        assert_memory_equal(back, kept[i], bytes);
        assert_memory_not_equal(now, kept[i], bytes);
        free(back);
        free(now);
        free(kept[i]);
    }
    prefill(&t, device, blocks + 20, PREFIX, TOKENS, 30, "after moves");
    cuda->close(device);
    free_truth(&t);
}

/* More moves than there are tickets, of which nobody asks; copies out of blocks that a move in then
 * fills, and into blocks that a move out has just read. */
static void test_order_of_moves_and_copies(void **state)
{
    enum { BLOCK = 16, ROUNDS = 300 };
    const cop_seeded_weights weights = {.geometry = &shape_odd, .seed = SEED};
    const cop_device_options options = options_of(&weights, BLOCK);
    cop_device *device = open_with(cuda, &options);
    const size_t bytes = cuda->block_bytes(device);
    char *pattern = cop_malloc(bytes);
    const uint32_t a = 7, b = 9, c = 11;
    uint64_t ticket = 0;
    cop_error err;
    for (int i = 0; i < ROUNDS; i++) {
        memset(pattern, i, bytes);
        assert_int_equal(cuda->write_block(device, a, pattern, &err), COP_OK);
        memset(cuda->host_slot(device, 0), i + 1, bytes);
        cuda->copy_block(device, a, b, BLOCK);          /* b = i */
        cuda->move_in(device, &a, (uint32_t[]){0}, 1);  /* a = i + 1, after the copy */
        cuda->move_out(device, &b, (uint32_t[]){1}, 1); /* slot 1 = i */
        cuda->copy_block(device, c, b, BLOCK);          /* b = c, after the move */
        ticket = cuda->move_out(device, &a, (uint32_t[]){2}, 1);
        if (i % 50 == 0) {
            while (!cuda->moved(device, ticket))
                ;
            char *of_b = read_block(device, b), *of_c = read_block(device, c);
            assert_memory_equal(of_b, of_c, bytes);
            free(of_b);
            free(of_c);
        }
        assert_int_equal(cuda->read_block(device, a, pattern, &err),
                         COP_OK); /* all moves are done */
        assert_true(cuda->moved(device, ticket));
        const char *out = cuda->host_slot(device, 1), *in = cuda->host_slot(device, 2);
        assert_int_equal((unsigned char)out[bytes - 1], i % 256);
        assert_int_equal((unsigned char)in[0], (i + 1) % 256);
        assert_int_equal((unsigned char)pattern[bytes / 2], (i + 1) % 256);
    }
    for (int i = 0; i < ROUNDS; i++) /* nobody asks */
        ticket = cuda->move_out(device, &a, (uint32_t[]){2}, 1);
    while (!cuda->moved(device, ticket))
        ;
    assert_int_equal(ticket, 3 * ROUNDS + ROUNDS);
    free(pattern);
    cuda->close(device);
}

/* What a transport writes comes after the copies and moves asked for before. */
static void test_fence(void **state)
{
    enum { BLOCK = 16 };
    const cop_seeded_weights weights = {.geometry = &shape_odd, .seed = SEED};
    const cop_device_options options = options_of(&weights, BLOCK);
    cop_device *device = open_with(cuda, &options);
    const size_t bytes = cuda->block_bytes(device);
    char *pattern = cop_malloc(bytes);
    cudaStream_t stream;
    cop_error err;
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    assert_int_equal(cop_cuda_device_index(device), 0);
    for (int i = 0; i < 20; i++) {
        memset(pattern, 0x40 + i, bytes);
        assert_int_equal(cuda->write_block(device, 1, pattern, &err), COP_OK);
        assert_int_equal(cuda->write_block(device, 2, pattern, &err), COP_OK);
        cuda->copy_block(device, 1, 3, BLOCK);
        uint64_t ticket = cuda->move_out(device, (uint32_t[]){2}, (uint32_t[]){0}, 1);
        assert_int_equal(cop_cuda_fence(device, stream, &err), COP_OK);
        CUDA(cudaMemsetAsync(cuda->block_address(device, 1), 0x11, bytes, stream));
        CUDA(cudaMemsetAsync(cuda->block_address(device, 2), 0x22, bytes, stream));
        CUDA(cudaStreamSynchronize(stream));
        while (!cuda->moved(device, ticket))
            ;
        char *copy = read_block(device, 3);
        assert_memory_equal(copy, pattern, bytes);
        assert_memory_equal(cuda->host_slot(device, 0), pattern, bytes);
        free(copy);
    }
    CUDA(cudaStreamDestroy(stream));
    free(pattern);
    cuda->close(device);
}

int main(void)
{
    harness_device_or_skip();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copied_prefix),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_order_of_moves_and_copies),
        cmocka_unit_test(test_fence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
