/* Cache files: what is saved comes back; what is damaged, foreign or too large is refused with its
 * reason, and then the cache is as empty as before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/cache_file.h"
#include "base/alloc.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BLOCK_TOKENS = 2, CAPACITY = 64, KV_BYTES = BLOCK_TOKENS * 4 * 2 * 2 * 64 * 2 };
enum { RECORD = 24 + 8 + KV_BYTES, HEADER = sizeof(cop_cache_file_header) };

static cop_model *model;
static cop_error err;
static char folder[] = "/tmp/coppice_cache_file.XXXXXX", path[64];
static uint8_t *bytes; /* a file, as saved */
static size_t size;

static cop_model *open_model(cop_model_options options)
{
    cop_model *out;
    options.preset = options.preset ? options.preset : "tiny";
    options.threads = 1;
    assert_int_equal(cop_model_open(&out, &options, &err), COP_OK);
    return out;
}

static cop_cache *open_cache(cop_model *of, uint32_t capacity_tokens, uint32_t block_tokens)
{
    cop_cache *cache;
    cop_cache_options options = {
        .capacity_tokens = capacity_tokens, .block_tokens = block_tokens, .chunk_tokens = 16};
    assert_int_equal(cop_cache_open(&cache, of, &options, &err), COP_OK);
    return cache;
}

static uint32_t cached_blocks(const cop_cache *cache)
{
    cop_cache_stats stats;
    cop_cache_read(cache, &stats);
    assert_int_equal(stats.used_blocks, stats.cached_blocks);
    return stats.cached_blocks;
}

static uint8_t *read_file(const char *name, size_t *n)
{
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    uint8_t *data = cop_malloc(1 << 20);
    *n = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

/* Two prompts that part in the middle of a block; the second ends with a partial one:
 *     [1 2] [3 4] [5 6]     record 0, 1, 2
 *            [3 7] [8]      record 3, 4 */
static void fill(cop_cache *cache)
{
    static const uint32_t a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, 2, 3, 7, 8};
    assert_int_equal(cop_cache_insert(cache, a, 6, NULL, &err), COP_OK);
    assert_int_equal(cop_cache_insert(cache, b, 5, NULL, &err), COP_OK);
    assert_int_equal(cached_blocks(cache), 5);
}

static int set_up(void **state)
{
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/cache", folder);
    model = open_model((cop_model_options){.seed = 5});
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    fill(cache);
    assert_int_equal(cop_cache_save(cache, path, &err), COP_OK);
    bytes = read_file(path, &size);
    assert_int_equal(size, HEADER + 5 * RECORD);
    cop_cache_close(cache);
    return 0;
}

static int tear_down(void **state)
{
    unlink(path);
    rmdir(folder);
    free(bytes);
    cop_model_close(model);
    return 0;
}

static void test_round_trip(void **state)
{
    static const uint32_t a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, 2, 3, 7, 8};
    size_t again_size;
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    assert_int_equal(cop_cache_load(cache, path, &err), COP_OK);
    assert_int_equal(cached_blocks(cache), 5);
    assert_int_equal(cop_cache_match(cache, a, 6), 6);
    assert_int_equal(cop_cache_match(cache, b, 5), 5);
    assert_int_equal(cop_cache_save(cache, path, &err), COP_OK);
    uint8_t *again = read_file(path, &again_size);
    assert_int_equal(again_size, size);
    assert_memory_equal(again, bytes, size);
    free(again);
    cop_cache_close(cache);
}

static void test_empty_round_trip(void **state)
{
    char empty[80];
    snprintf(empty, sizeof empty, "%s/empty", folder);
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    assert_int_equal(cop_cache_save(cache, empty, &err), COP_OK);
    assert_int_equal(cop_cache_load(cache, empty, &err), COP_OK);
    assert_int_equal(cached_blocks(cache), 0);
    unlink(empty);
    cop_cache_close(cache);
}

/* ---- damage ---- */

static cop_status parse(cop_cache *cache, const uint8_t *data, size_t n)
{
    uint8_t *exact = cop_malloc(n ? n : 1); /* a sanitizer sees a read behind its end */
    memcpy(exact, data, n);
    cop_status status = cop_cache_file_parse(cache, "the file", exact, n, &err);
    free(exact);
    if (status != COP_OK) {
        assert_memory_equal(err.text, "the file: ", 10);
        assert_int_equal(cached_blocks(cache), 0);
    }
    return status;
}

static void test_any_flipped_bit(void **state)
{
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    for (size_t i = 0; i < size; i++) {
        uint8_t was = bytes[i];
        bytes[i] ^= (uint8_t)(1 << i % 8);
        assert_int_not_equal(parse(cache, bytes, size), COP_OK);
        bytes[i] = was;
    }
    assert_int_equal(parse(cache, bytes, size), COP_OK);
    cop_cache_close(cache);
}

static void test_any_length(void **state)
{
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    for (size_t n = 0; n < size; n += n < 300 || n + 300 > size ? 1 : 64)
        assert_int_equal(parse(cache, bytes, n), COP_ERR_CORRUPT);
    uint8_t *longer = cop_calloc(size + RECORD, 1);
    memcpy(longer, bytes, size);
    assert_int_equal(parse(cache, longer, size + 1), COP_ERR_CORRUPT);
    assert_int_equal(parse(cache, longer, size + RECORD), COP_ERR_CORRUPT);
    free(longer);
    cop_cache_close(cache);
}

/* Values that make no sense under checksums that do. */
static void refuse_header(size_t offset, uint64_t value, size_t width, cop_status status,
                          const char *text)
{
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    uint8_t *changed = cop_malloc(size);
    memcpy(changed, bytes, size);
    memcpy(changed + offset, &value, width);
    cop_cache_file_header header;
    memcpy(&header, changed, sizeof header);
    header.checksum = cop_cache_file_sum_header(&header);
    memcpy(changed, &header, sizeof header);
    assert_int_equal(parse(cache, changed, size), status);
    if (!strstr(err.text, text))
        fail_msg("%s: no '%s'", err.text, text);
    free(changed);
    cop_cache_close(cache);
}

static void test_header_fields(void **state)
{
    refuse_header(0, 'X', 1, COP_ERR_CORRUPT, "no cache file");
    refuse_header(8, 2, 4, COP_ERR_INVALID, "version 2; this is version 1");
    refuse_header(12, 4096, 4, COP_ERR_CORRUPT, "header is damaged");
    refuse_header(16, 77, 8, COP_ERR_INVALID,
                  "another model: 'tiny' with weights 000000000000004d");
    refuse_header(24, UINT64_MAX, 8, COP_ERR_INVALID, "bytes; those of this cache have 4096");
    refuse_header(32, UINT32_MAX, 4, COP_ERR_INVALID, "4294967295 tokens; those of this cache");
    refuse_header(36, 6, 4, COP_ERR_CORRUPT, "6 blocks of 4128 were announced");
    refuse_header(36, 4, 4, COP_ERR_CORRUPT, "4 blocks of 4128 were announced");
    refuse_header(36, UINT32_MAX, 4, COP_ERR_CORRUPT, "4294967295 blocks");
    for (size_t at = 40; at < 176; at += 8) { /* no zero at the end of either name */
        cop_cache_file_header *h = (cop_cache_file_header *)bytes, was = *h;
        memset(at < 104 ? h->model : h->kernels, 'x', at < 104 ? 64 : 72);
        refuse_header(at, 0x7878787878787878, 8, COP_ERR_CORRUPT, "header is damaged");
        *h = was;
    }
    refuse_header(104, 'C', 1, COP_ERR_INVALID, "other kernels: 'Cpu ");
}

static void refuse_record(uint32_t index, size_t offset, uint32_t value, const char *text)
{
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    uint8_t *changed = cop_malloc(size);
    memcpy(changed, bytes, size);
    uint8_t *at = changed + HEADER + (size_t)index * RECORD;
    memcpy(at + offset, &value, sizeof value);
    cop_cache_file_header header;
    cop_cache_file_record record;
    memcpy(&header, changed, sizeof header);
    memcpy(&record, at, sizeof record);
    record.checksum =
        cop_cache_file_sum_record(&header, index, &record, at + sizeof record,
                                  at + sizeof record + cop_cache_file_token_bytes(BLOCK_TOKENS));
    memcpy(at, &record, sizeof record);
    assert_int_equal(parse(cache, changed, size), COP_ERR_CORRUPT);
    if (!strstr(err.text, text))
        fail_msg("%s: no '%s'", err.text, text);
    free(changed);
    cop_cache_close(cache);
}

static void test_record_fields(void **state)
{
    refuse_record(1, 8, 1, "block 1 of 5 (byte 4312): its parent does not come before it");
    refuse_record(1, 8, 4, "its parent does not come before it");
    refuse_record(0, 8, UINT32_MAX - 1, "its parent does not come before it");
    refuse_record(2, 12, 0, "count of tokens is out of range");
    refuse_record(2, 12, 3, "count of tokens is out of range");
    refuse_record(2, 12, UINT32_MAX, "count of tokens is out of range");
    refuse_record(0, 12, 1, "block 1 of 5 (byte 4312): its parent is not full");
    refuse_record(3, 24, 2048, "a token is outside the vocabulary");
    refuse_record(3, 28, UINT32_MAX, "a token is outside the vocabulary");
    refuse_record(3, 28, 4, "two blocks hold the same tokens"); /* [3 4] twice */
    refuse_record(3, 12, 1, "its parent is not full");
}

/* (uses and last_use are free: any values make an order.) */
static void test_a_partial_block_that_another_begins_with(void **state)
{
    /* [1 2] [3 4] [5 6], and [1 2] [3]: the last would be part of the second. */
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    uint8_t *changed = cop_malloc(size);
    memcpy(changed, bytes, size);
    cop_cache_file_header header;
    memcpy(&header, changed, sizeof header);
    header.blocks = 4;
    header.checksum = cop_cache_file_sum_header(&header);
    memcpy(changed, &header, sizeof header);
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t *at = changed + HEADER + (size_t)i * RECORD;
        cop_cache_file_record record;
        memcpy(&record, at, sizeof record);
        if (i == 3)
            record.count = 1;
        record.uses = record.last_use = UINT32_MAX - i;
        record.checksum = cop_cache_file_sum_record(&header, i, &record, at + sizeof record,
                                                    at + sizeof record +
                                                        cop_cache_file_token_bytes(BLOCK_TOKENS));
        memcpy(at, &record, sizeof record);
    }
    assert_int_equal(parse(cache, changed, size - RECORD), COP_ERR_CORRUPT);
    assert_non_null(strstr(err.text, "two blocks hold the same tokens"));
    free(changed);
    cop_cache_close(cache);
}

/* ---- what does not fit ---- */

static void refuse_load(cop_model_options options, uint32_t capacity, uint32_t block_tokens,
                        cop_status status, const char *text)
{
    cop_model *other = open_model(options);
    cop_cache *cache = open_cache(other, capacity, block_tokens);
    assert_int_equal(cop_cache_load(cache, path, &err), status);
    if (!strstr(err.text, text))
        fail_msg("%s: no '%s'", err.text, text);
    assert_memory_equal(err.text, path, strlen(path));
    assert_int_equal(cached_blocks(cache), 0);
    cop_cache_close(cache);
    cop_model_close(other);
}

static void test_foreign_files(void **state)
{
    cop_model_options same = {.seed = 5}, seed = {.seed = 6}, isa = {.seed = 5, .isa = "baseline"};
    cop_model_options precision = {.seed = 5, .precision = "float32"};
    cop_model_options int8 = {.seed = 5, .weights = "int8"};
    cop_model_options small = {.preset = "small", .seed = 5};
    refuse_load(seed, CAPACITY, 2, COP_ERR_INVALID, "made by another model: 'tiny' with weights");
    refuse_load(small, CAPACITY, 2, COP_ERR_INVALID, "this is 'small'");
    refuse_load(precision, CAPACITY, 2, COP_ERR_INVALID, "computed by other kernels: 'cpu ");
    refuse_load(int8, CAPACITY, 2, COP_ERR_INVALID, "int8 weights', whose bits differ");
    refuse_load(same, CAPACITY, 3, COP_ERR_INVALID,
                "its blocks have 2 tokens; those of this cache have 3");
    refuse_load(same, 8, 2, COP_ERR_NO_SPACE, "5 blocks of 2 tokens; this cache has room for 4");
    cop_model_info info;
    cop_model_describe(model, &info);
    if (!strstr(info.device, "baseline"))
        refuse_load(isa, CAPACITY, 2, COP_ERR_INVALID, "these are 'cpu baseline, bf16'");
}

static void test_a_cache_in_use(void **state)
{
    static const uint32_t one = 9;
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    assert_int_equal(cop_cache_insert(cache, &one, 1, NULL, &err), COP_OK);
    assert_int_equal(cop_cache_load(cache, path, &err), COP_ERR_INVALID);
    assert_non_null(strstr(err.text, "holds 1 block"));
    assert_int_equal(cop_cache_match(cache, &one, 1), 1);
    cop_cache_close(cache);
}

/* ---- files ---- */

static int files_in_folder(void)
{
    int count = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void test_files_that_cannot_be(void **state)
{
    char name[96];
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    snprintf(name, sizeof name, "%s/none/cache", folder);
    assert_int_equal(cop_cache_load(cache, name, &err), COP_ERR_IO);
    assert_int_equal(cop_cache_save(cache, name, &err), COP_ERR_IO);
    assert_non_null(strstr(err.text, name));
    assert_int_equal(cop_cache_load(cache, folder, &err), COP_ERR_INVALID);
    assert_int_equal(cop_cache_save(cache, folder, &err), COP_ERR_IO); /* a folder cannot go */
    assert_int_equal(files_in_folder(), 1);
    cop_cache_close(cache);
}

static void test_a_full_disk_leaves_the_old_file(void **state)
{
    struct rlimit was, limit;
    cop_cache *cache = open_cache(model, CAPACITY, BLOCK_TOKENS);
    fill(cache);
    getrlimit(RLIMIT_FSIZE, &was);
    limit = was;
    limit.rlim_cur = HEADER + 3 * RECORD + 100;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    cop_status status = cop_cache_save(cache, path, &err);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(status, COP_ERR_IO);
    assert_non_null(strstr(err.text, "cannot write"));
    assert_int_equal(files_in_folder(), 1);
    size_t now_size;
    uint8_t *now = read_file(path, &now_size);
    assert_int_equal(now_size, size);
    assert_memory_equal(now, bytes, size);
    free(now);
    cop_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_empty_round_trip),
        cmocka_unit_test(test_any_flipped_bit),
        cmocka_unit_test(test_any_length),
        cmocka_unit_test(test_header_fields),
        cmocka_unit_test(test_record_fields),
        cmocka_unit_test(test_a_partial_block_that_another_begins_with),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_a_cache_in_use),
        cmocka_unit_test(test_files_that_cannot_be),
        cmocka_unit_test(test_a_full_disk_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
