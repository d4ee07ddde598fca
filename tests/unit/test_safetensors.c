#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file's bytes: a length, a header, and data that counts up from 0. Owned by the caller. */
static uint8_t *file_of(uint64_t length, const char *header, size_t data_bytes, size_t *size)
{
    size_t header_bytes = strlen(header);
    *size = 8 + header_bytes + data_bytes;
    uint8_t *bytes = cop_malloc(*size);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(length >> (8 * i));
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + header_bytes + i] = (uint8_t)i;
    return bytes;
}

static cop_status parse(cop_safetensors **out, const char *header, size_t data_bytes,
                        uint8_t **bytes, cop_error *err)
{
    size_t size;
    *bytes = file_of(strlen(header), header, data_bytes, &size);
    return cop_safetensors_parse(out, *bytes, size, "x.safetensors", err);
}

static void test_tensors_of_a_file(void **state)
{
    static const char header[] =
        "{\"b\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [4, 16]},"
        "\"__metadata__\": {\"format\": \"pt\"},"
        "\"a\": {\"dtype\": \"F32\", \"shape\": [], \"data_offsets\": [0, 4]},"
        "\"none\": {\"dtype\": \"I64\", \"shape\": [0, 7], \"data_offsets\": [4, 4]},"
        "\"four\": {\"dtype\": \"F4\", \"shape\": [4], \"data_offsets\": [16, 18]}}   ";
    cop_safetensors *file;
    cop_error err = {.text = ""};
    uint8_t *bytes;
    assert_int_equal(parse(&file, header, 18, &bytes, &err), COP_OK);
    assert_int_equal(cop_safetensors_count(file), 4);
    static const char *const sorted[] = {"a", "b", "four", "none"};
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(cop_safetensors_at(file, i)->name, sorted[i]);
    assert_null(cop_safetensors_at(file, 4));
    const cop_safetensor *b = cop_safetensors_find(file, "b");
    assert_string_equal(b->dtype, "BF16");
    assert_int_equal(b->dims, 2);
    assert_true(b->shape[0] == 2 && b->shape[1] == 3 && b->bytes == 12);
    assert_ptr_equal(b->data, bytes + 8 + strlen(header) + 4);
    assert_int_equal(b->data[0], 4);
    assert_int_equal(cop_safetensors_find(file, "a")->dims, 0);
    assert_int_equal(cop_safetensors_find(file, "none")->bytes, 0);
    assert_null(cop_safetensors_find(file, "__metadata__"));
    assert_string_equal(cop_safetensors_path(file), "x.safetensors");
    cop_safetensors_close(file);
    free(bytes);
}

static void test_no_tensors(void **state)
{
    cop_safetensors *file;
    uint8_t *bytes;
    assert_int_equal(parse(&file, "{}", 0, &bytes, NULL), COP_OK);
    assert_int_equal(cop_safetensors_count(file), 0);
    assert_null(cop_safetensors_find(file, "a"));
    cop_safetensors_close(file);
    free(bytes);
}

#define T(name, dtype, shape, offsets) \
    "\"" name "\": {\"dtype\": " dtype ", \"shape\": " shape ", \"data_offsets\": " offsets "}"

/* Headers that are refused, with the bytes of data behind them and the message. */
static const struct {
    const char *header;
    size_t data_bytes;
    const char *message;
} refused[] = {
    /* not cut short by the writer, but pointing behind the end all the same */
    {"{" T("a", "\"F32\"", "[2]", "[0, 8]") "}", 7,
     "x.safetensors: tensor 'a': data_offsets end at 8, but the file has 7 bytes of data"},
    {"{" T("a", "\"U8\"", "[4]", "[0, 4]") "," T("b", "\"U8\"", "[4]", "[3, 7]") "}", 7,
     "x.safetensors: tensor 'b' begins at byte 3 of the data and overlaps 'a', which ends at 4"},
    {"{" T("a", "\"U8\"", "[4]", "[0, 4]") "," T("b", "\"U8\"", "[4]", "[0, 4]") "}", 4,
     "begins at byte 0 of the data and overlaps"},
    {"{" T("b", "\"U8\"", "[4]", "[5, 9]") "," T("a", "\"U8\"", "[4]", "[0, 4]") "}", 9,
     "x.safetensors: bytes 4 to 5 of the data, before tensor 'b', belong to no tensor"},
    {"{" T("a", "\"U8\"", "[4]", "[1, 5]") "}", 5,
     "x.safetensors: bytes 0 to 1 of the data, before tensor 'a', belong to no tensor"},
    {"{" T("a", "\"U8\"", "[4]", "[0, 4]") "}", 6,
     "x.safetensors: 2 bytes after the last tensor belong to no tensor"},
    {"{}", 1, "x.safetensors: 1 bytes after the last tensor belong to no tensor"},
    {"{" T("a", "\"F16\"", "[3]", "[0, 4]") "}", 4,
     "x.safetensors: tensor 'a': data_offsets span 4 bytes, but dtype and shape make 6"},
    {"{" T("a", "\"U8\"", "[4]", "[4, 0]") "}", 4,
     "x.safetensors: tensor 'a': data_offsets [4, 0] do not begin at or after 0"},
    {"{" T("a", "\"U8\"", "[4]", "[-4, 0]") "}", 4, "data_offsets [-4, 0] do not begin"},
    {"{" T("a", "\"U8\"", "[4]", "[0, 9223372036854775807]") "}", 4,
     "data_offsets end at 9223372036854775807, but the file has 4 bytes of data"},
    {"{" T("a", "\"U8\"", "[4]", "[0]") "}", 4, "data_offsets is missing, or not two integers"},
    {"{" T("a", "\"U8\"", "[4]", "[0, 4.0]") "}", 4, "data_offsets is missing, or not two"},
    {"{\"a\": {\"dtype\": \"U8\", \"shape\": [4]}}", 4, "data_offsets is missing"},
    {"{" T("a", "\"U8\"", "[-4]", "[0, 4]") "}", 4,
     "x.safetensors: tensor 'a': shape has an element that is no count"},
    {"{" T("a", "\"U8\"", "[\"4\"]", "[0, 4]") "}", 4, "shape has an element that is no count"},
    {"{" T("a", "\"U8\"", "4", "[0, 4]") "}", 4, "shape is missing, or no array"},
    {"{" T("a", "\"U8\"", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "[0, 1]") "}", 1,
     "x.safetensors: tensor 'a': shape has 9 dimensions; at most 8 are expected"},
    {"{" T("a", "\"F32\"", "[4294967296, 4294967296]", "[0, 0]") "}", 0,
     "x.safetensors: tensor 'a': shape has more elements than can be addressed"},
    {"{" T("a", "\"F64\"", "[288230376151711745]", "[0, 8]") "}", 8, "more elements than can be"},
    {"{" T("a", "\"F4\"", "[3]", "[0, 2]") "}", 2, "shape and dtype do not fill whole bytes"},
    {"{" T("a", "\"BFP16\"", "[2]", "[0, 4]") "}", 4,
     "x.safetensors: tensor 'a': unknown dtype 'BFP16'; did you mean 'BF16'?"},
    {"{" T("a", "7", "[2]", "[0, 4]") "}", 4, "tensor 'a': dtype is missing, or no string"},
    {"{\"a\": [1]}", 0, "x.safetensors: tensor 'a': is no object"},
    {"{\"a\": null}", 0, "x.safetensors: tensor 'a': is no object"},
    {"{" T("a", "\"U8\"", "[1]", "[0, 1]") "," T("a", "\"U8\"", "[1]", "[1, 2]") "}", 2,
     "duplicate object key near '\"a\"'"},
    {"{\"__metadata__\": {\"format\": 1}}", 0, "__metadata__: 'format' is no string"},
    {"{\"__metadata__\": []}", 0, "x.safetensors: __metadata__ is no object"},
    {"{\"a\": ", 0, "x.safetensors: header:1:6: "},
    {"{} {}", 0, "x.safetensors: header:1:4: end of file expected near '{'"},
    {"{\"\xff\": 1}", 0, "x.safetensors: header:"},
    {" {}", 0, "x.safetensors: the header does not begin with '{'"},
    {"[]", 0, "x.safetensors: the header does not begin with '{'"},
    {"", 0, "x.safetensors: the header does not begin with '{'"},
    /* one line, whatever the file's names hold */
    {"{\"a\\nb\": 1}", 0, "x.safetensors: tensor 'a?b': is no object"},
};

static void assert_refused(const cop_error *err, cop_status status, const char *message)
{
    if (status != COP_ERR_INVALID || !strstr(err->text, message))
        fail_msg("status %d, '%s' instead of '%s'", (int)status, err->text, message);
    assert_int_equal(err->status, status);
    assert_null(strpbrk(err->text, "\r\n"));
}

static void test_bad_headers(void **state)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cop_safetensors *file = NULL;
        cop_error err = {.text = ""};
        uint8_t *bytes;
        cop_status status = parse(&file, refused[i].header, refused[i].data_bytes, &bytes, &err);
        assert_refused(&err, status, refused[i].message);
        assert_null(file);
        assert_int_equal(
            cop_safetensors_parse(&file, bytes,
                                  8 + strlen(refused[i].header) + refused[i].data_bytes, "x", NULL),
            COP_ERR_INVALID);
        free(bytes);
    }
}

static void test_bad_header_lengths(void **state)
{
    static const struct {
        uint64_t length;
        const char *message;
    } lengths[] = {
        {1ULL << 60,
         "a header length of 1152921504606846976 bytes; the format has at most 1000000"},
        {UINT64_MAX, "a header length of 18446744073709551615 bytes; the format has at most"},
        {100000001, "a header length of 100000001 bytes; the format has at most 100000000"},
        {100000000,
         "a header length of 100000000 bytes, but only 2 follow: is the file cut short?"},
        {3, "a header length of 3 bytes, but only 2 follow"},
        {0, "the header does not begin with '{'"},
    };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cop_safetensors *file = NULL;
        cop_error err = {.text = ""};
        size_t size;
        uint8_t *bytes = file_of(lengths[i].length, "{}", 0, &size);
        assert_refused(&err, cop_safetensors_parse(&file, bytes, size, "x.safetensors", &err),
                       lengths[i].message);
        assert_null(file);
        free(bytes);
    }
}

/* A file that was cut anywhere is refused; only the whole of it is not. */
static void test_cut_short_anywhere(void **state)
{
    static const char header[] = "{" T("a", "\"U8\"", "[4]", "[0, 4]") "}";
    size_t size;
    uint8_t *bytes = file_of(strlen(header), header, 4, &size);
    cop_safetensors *file;
    cop_error err;
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = cop_malloc(n + 1);
        memcpy(cut, bytes, n);
        assert_refused(&err, cop_safetensors_parse(&file, cut, n, "x.safetensors", &err),
                       "x.safetensors: ");
        free(cut);
    }
    assert_int_equal(cop_safetensors_parse(&file, bytes, size, "x.safetensors", &err), COP_OK);
    cop_safetensors_close(file);
    free(bytes);
}

static void test_opening_files(void **state)
{
    char folder[] = "/tmp/coppice-safetensors-XXXXXX", path[128];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    cop_safetensors *file = NULL;
    cop_error err;
    assert_int_equal(cop_safetensors_open(&file, path, &err), COP_ERR_IO);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(cop_safetensors_open(&file, folder, &err), COP_ERR_INVALID);

    size_t size;
    static const char header[] = "{" T("a", "\"U8\"", "[4]", "[0, 4]") "}";
    uint8_t *bytes = file_of(strlen(header), header, 4, &size);
    for (int whole = 0; whole <= 1; whole++) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bytes, 1, size - !whole, f), size - !whole);
        assert_int_equal(fclose(f), 0);
        cop_status status = cop_safetensors_open(&file, path, &err);
        if (whole)
            assert_int_equal(status, COP_OK);
        else
            assert_refused(&err, status, "a.safetensors: tensor 'a': data_offsets end at 4");
    }
    assert_memory_equal(cop_safetensors_find(file, "a")->data, "\0\1\2\3", 4);
    assert_string_equal(cop_safetensors_path(file), path);
    cop_safetensors_close(file);
    cop_safetensors_close(NULL);
    free(bytes);
    unlink(path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_of_a_file),  cmocka_unit_test(test_no_tensors),
        cmocka_unit_test(test_bad_headers),        cmocka_unit_test(test_bad_header_lengths),
        cmocka_unit_test(test_cut_short_anywhere), cmocka_unit_test(test_opening_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
