#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../record/read_back.h"
#include "record/h5.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    char folder[64], path[96], plain[96];
} files;

static int make_folder(void **state)
{
    static files f;
    snprintf(f.folder, sizeof f.folder, "/tmp/coppice-record-XXXXXX");
    if (!mkdtemp(f.folder))
        return -1;
    snprintf(f.path, sizeof f.path, "%s/run.h5", f.folder);
    snprintf(f.plain, sizeof f.plain, "%s/plain.h5", f.folder);
    *state = &f;
    return 0;
}

/* Fails when a test left anything but its two files, or an open HDF5 handle. */
static int remove_folder(void **state)
{
    files *f = *state;
    unlink(f->path);
    unlink(f->plain);
    ssize_t open_handles = H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL);
    if (open_handles)
        print_error("%zd HDF5 handles left open\n", open_handles);
    return rmdir(f->folder) == 0 && open_handles == 0 ? 0 : -1;
}

static int64_t int_attribute(const char *path, const char *object, const char *name)
{
    int64_t value = INT64_MIN;
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t attribute = H5Aopen_by_name(file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0) {
        H5Aread(attribute, H5T_NATIVE_INT64, &value);
        H5Aclose(attribute);
    }
    H5Fclose(file);
    return value;
}

static cop_record *start_record(const char *path)
{
    cop_record *record;
    cop_error err;
    assert_int_equal(cop_record_open(&record, path, &err), COP_OK);
    cop_record_int(record, "seed", 5);
    assert_int_equal(cop_record_start(record, &err), COP_OK);
    return record;
}

static void test_columns_and_gaps_cover_each_row(void **state)
{
    for (int t = 0; t < COP_TABLES; t++) {
        const cop_schema *schema = cop_schema_of((cop_table)t);
        unsigned char covered[sizeof(pattern_row)] = {0};
        cop_gap gaps[64];
        uint32_t gap_count = cop_schema_gaps(schema, gaps);
        for (uint32_t i = 0; i < schema->column_count; i++)
            for (size_t b = 0; b < schema->columns[i].bytes; b++)
                covered[schema->columns[i].offset + b]++;
        for (uint32_t g = 0; g < gap_count; g++)
            for (size_t b = 0; b < gaps[g].bytes; b++)
                covered[gaps[g].offset + b]++;
        for (size_t b = 0; b < schema->row_bytes; b++)
            assert_int_equal(covered[b], 1);
    }
}

/* Row counts around a live chunk's end (248 rows of /requests), with and without flushes. */
static void test_every_table_round_trips(void **state)
{
    files *f = *state;
    const uint64_t counts[] = {0, 1, 247, 248, 249, 3000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        cop_error err;
        cop_record *record = start_record(f->path);
        assert_int_equal(pattern_append_all(record, counts[c] / 2, &err), COP_OK);
        if (c % 2)
            assert_int_equal(cop_record_flush(record, &err), COP_OK);
        assert_int_equal(pattern_append_all(record, counts[c] - counts[c] / 2, &err), COP_OK);
        cop_record_int(record, "late", 9);
        cop_record_int(record, "seed", 6);
        bool completed = c % 2;
        assert_int_equal(cop_record_close(record, completed, &err), COP_OK);
        uint64_t rows[COP_TABLES];
        read_back_all(f->path, rows);
        for (int t = 0; t < COP_TABLES; t++)
            assert_int_equal(rows[t], counts[c] + 2 * (uint64_t)t);
        /* A run cut short is left as it was written: what came after the start is lost. */
        assert_int_equal(int_attribute(f->path, "/", "late"), completed ? 9 : INT64_MIN);
        assert_int_equal(int_attribute(f->path, "/", "seed"), completed ? 6 : 5);
        assert_int_equal(int_attribute(f->path, "/", "completed"), completed);
        assert_int_equal(int_attribute(f->path, "/", "schema_version"), COP_RECORD_SCHEMA);
    }
}

static void test_one_large_append_equals_many_small(void **state)
{
    files *f = *state;
    enum { ROWS = 5000 };
    cop_workers_row *rows = cop_calloc(ROWS, sizeof *rows);
    for (uint64_t i = 0; i < ROWS; i++) {
        pattern_row row;
        pattern_fill(&row, COP_TABLE_workers, i);
        rows[i] = row.workers;
    }
    cop_error err;
    cop_record *record = start_record(f->path);
    assert_int_equal(cop_record_append(record, COP_TABLE_workers, rows, 7, &err), COP_OK);
    assert_int_equal(cop_record_append(record, COP_TABLE_workers, rows + 7, ROWS - 7, &err), 0);
    assert_int_equal(cop_record_rows(record, COP_TABLE_workers), ROWS);
    assert_int_equal(cop_record_close(record, true, &err), COP_OK);
    free(rows);
    uint64_t counts[COP_TABLES];
    read_back_all(f->path, counts);
    assert_int_equal(counts[COP_TABLE_workers], ROWS);
}

/* A configuration may be long: over HDF5's 64 KiB of a plain attribute. */
static void test_long_text_survives(void **state)
{
    files *f = *state;
    enum { LONG = 300000 };
    char *text = cop_malloc(LONG + 1), *read = NULL;
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    cop_error err;
    cop_record *record;
    assert_int_equal(cop_record_open(&record, f->path, &err), COP_OK);
    cop_record_text(record, "config", text);
    assert_int_equal(cop_record_start(record, &err), COP_OK);
    assert_int_equal(cop_record_close(record, true, &err), COP_OK);
    hid_t file = H5Fopen(f->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t attribute = H5Aopen(file, "config", H5P_DEFAULT), type = H5Aget_type(attribute);
    assert_true(H5Aread(attribute, type, &read) >= 0);
    assert_string_equal(read, text);
    H5free_memory(read);
    H5Tclose(type);
    H5Aclose(attribute);
    H5Fclose(file);
    free(text);
}

static void assert_one_line(const cop_error *err, const char *part)
{
    assert_non_null(strstr(err->text, part));
    assert_null(strchr(err->text, '\n'));
}

static void test_bad_paths_are_one_clear_line(void **state)
{
    files *f = *state;
    cop_record *record = NULL;
    cop_error err;
    char path[160];
    snprintf(path, sizeof path, "%s/none/run.h5", f->folder);
    assert_int_equal(cop_record_open(&record, path, &err), COP_ERR_INVALID);
    assert_one_line(&err, "none' does not exist");
    assert_int_equal(cop_record_open(&record, f->folder, &err), COP_ERR_INVALID);
    assert_one_line(&err, "Is a directory");
    assert_int_equal(cop_record_open(&record, "/dev/null", &err), COP_ERR_INVALID);
    assert_one_line(&err, "not a regular file");
    assert_int_equal(cop_record_open(&record, "", &err), COP_ERR_INVALID);
    assert_null(record);
    assert_int_equal(cop_record_close(NULL, true, &err), COP_OK);
    if (geteuid() != 0) {
        chmod(f->folder, 0500);
        assert_int_equal(cop_record_open(&record, f->path, &err), COP_ERR_IO);
        assert_one_line(&err, "Permission denied");
        chmod(f->folder, 0700);
    }
}

/* When the compressed copy cannot be written, the uncompressed record stays, whole and plain. */
static void test_failed_repack_keeps_the_rows(void **state)
{
    files *f = *state;
    char temporary[128];
    snprintf(temporary, sizeof temporary, "%s.tmp", f->path);
    mkdir(temporary, 0700);
    cop_error err;
    cop_record *record = start_record(f->path);
    assert_int_equal(pattern_append_all(record, 1000, &err), COP_OK);
    assert_int_equal(cop_record_close(record, true, &err), COP_ERR_IO);
    assert_one_line(&err, "stays uncompressed");
    assert_int_equal(rmdir(temporary), 0);
    uint64_t rows[COP_TABLES];
    read_back_all(f->path, rows);
    assert_int_equal(rows[0], 1000);
    assert_int_equal(int_attribute(f->path, "/", "completed"), 0);
}

static void test_abandon_leaves_what_salvage_reads(void **state)
{
    files *f = *state;
    cop_error err;
    cop_record *record = start_record(f->path);
    assert_int_equal(pattern_append_all(record, 777, &err), COP_OK);
    assert_int_equal(cop_record_abandon(record, &err), COP_OK);
    uint64_t told[COP_TABLES], rows[COP_TABLES];
    assert_int_equal(cop_record_salvage(f->path, f->plain, told, &err), COP_OK);
    read_back_all(f->plain, rows);
    assert_memory_equal(told, rows, sizeof rows);
    assert_int_equal(rows[COP_TABLE_workers], 777 + COP_TABLE_workers);
    assert_int_equal(int_attribute(f->plain, "/", "completed"), 0);
    assert_int_equal(int_attribute(f->plain, "/", "salvaged"), 1);
    assert_int_equal(int_attribute(f->plain, "/", "seed"), 5);
}

static void test_salvage_of_a_completed_record(void **state)
{
    files *f = *state;
    cop_error err;
    cop_record *record = start_record(f->path);
    assert_int_equal(pattern_append_all(record, 500, &err), COP_OK);
    assert_int_equal(cop_record_close(record, true, &err), COP_OK);
    uint64_t told[COP_TABLES], rows[COP_TABLES];
    assert_int_equal(cop_record_salvage(f->path, f->plain, told, &err), COP_OK);
    read_back_all(f->plain, rows);
    assert_memory_equal(told, rows, sizeof rows);
    assert_int_equal(int_attribute(f->plain, "/", "completed"), 1);
    /* and of a salvaged one */
    assert_int_equal(cop_record_salvage(f->plain, f->path, told, &err), COP_OK);
    assert_memory_equal(told, rows, sizeof rows);
}

static void refuse_salvage(const char *in, const char *out, cop_status status, const char *part)
{
    uint64_t rows[COP_TABLES];
    cop_error err;
    assert_int_equal(cop_record_salvage(in, out, rows, &err), status);
    assert_one_line(&err, part);
}

static void test_salvage_refuses_what_it_cannot_read(void **state)
{
    files *f = *state;
    refuse_salvage(f->path, f->plain, COP_ERR_INVALID, "No such file");
    refuse_salvage(f->folder, f->plain, COP_ERR_INVALID, "not a regular file");
    FILE *text = fopen(f->path, "w");
    fputs("this is no HDF5 file\n", text);
    fclose(text);
    refuse_salvage(f->path, f->path, COP_ERR_INVALID, "into itself");
    refuse_salvage(f->path, f->plain, COP_ERR_CORRUPT, "signature");
    refuse_salvage(f->path, "/no/such/folder.h5", COP_ERR_INVALID, "does not exist");
    hid_t other = H5Fcreate(f->path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(other);
    refuse_salvage(f->path, f->plain, COP_ERR_CORRUPT, "not a coppice record");
    cop_error err;
    cop_record *record;
    assert_int_equal(cop_record_open(&record, f->path, &err), COP_OK);
    cop_record_int(record, "schema_version", 99);
    assert_int_equal(cop_record_close(record, true, &err), COP_OK);
    refuse_salvage(f->path, f->plain, COP_ERR_UNSUPPORTED, "schema 99");
    assert_int_equal(access(f->plain, F_OK), -1);
}

/* Overwrites part of a compressed chunk on disk: its rows and those after it are lost. */
static void test_salvage_stops_at_an_unreadable_chunk(void **state)
{
    files *f = *state;
    cop_error err;
    cop_record *record = start_record(f->path);
    assert_int_equal(pattern_append_all(record, 9000, &err), COP_OK);
    assert_int_equal(cop_record_close(record, true, &err), COP_OK);
    hid_t file = H5Fopen(f->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t dataset = H5Dopen2(file, "requests", H5P_DEFAULT), space = H5Dget_space(dataset);
    hsize_t first = 0, bytes = 0;
    haddr_t address = 0;
    unsigned mask;
    assert_true(H5Dget_chunk_info(dataset, space, 2, &first, &mask, &address, &bytes) >= 0);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Fclose(file);
    FILE *raw = fopen(f->path, "r+");
    fseek(raw, (long)address, SEEK_SET);
    for (hsize_t i = 0; i < bytes; i++)
        fputc(0xee, raw);
    fclose(raw);
    uint64_t told[COP_TABLES], rows[COP_TABLES];
    assert_int_equal(cop_record_salvage(f->path, f->plain, told, &err), COP_OK);
    read_back_all(f->plain, rows);
    assert_int_equal(rows[COP_TABLE_requests], first);
    assert_int_equal(told[COP_TABLE_requests], first);
    assert_int_equal(int_attribute(f->plain, "requests", "unreadable_rows"), 9000 - first);
    assert_int_equal(rows[COP_TABLE_workers], 9000 + COP_TABLE_workers);
}

/* Leaves HDF5 room for hardly any metadata, so that it writes what it may as soon as it can. */
static void starve_metadata_cache(cop_h5 file)
{
    H5AC_cache_config_t config = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    assert_true(H5Fget_mdc_config(file, &config) >= 0);
    config.set_initial_size = true;
    config.initial_size = config.min_size = config.max_size = 1024;
    config.incr_mode = H5C_incr__off;
    config.flash_incr_mode = H5C_flash_incr__off;
    config.decr_mode = H5C_decr__off;
    assert_true(H5Fset_mdc_config(file, &config) >= 0);
}

static void append_rows(const cop_h5_table *tables, uint64_t from, uint64_t to)
{
    cop_error err;
    for (uint64_t i = from; i < to; i++) {
        for (int t = 0; t < COP_TABLES; t++) {
            pattern_row row;
            recorded_row(&row, (cop_table)t, i);
            assert_int_equal(cop_h5_table_append(tables[t], i, &row, 1, &err), COP_OK);
        }
    }
}

/* The file of a writer that ends between two flushes counts the rows of the first, and no more:
 * HDF5 alone would have counted rows that were still in its chunk cache. */
static void test_unflushed_rows_are_not_counted(void **state)
{
    files *f = *state;
    cop_h5 file;
    cop_h5_table tables[COP_TABLES];
    cop_error err;
    assert_int_equal(cop_h5_create(&file, f->path, true, &err), COP_OK);
    starve_metadata_cache(file);
    for (int t = 0; t < COP_TABLES; t++)
        assert_int_equal(
            cop_h5_table_create(&tables[t], file, cop_schema_of((cop_table)t), 100, &err), COP_OK);
    assert_int_equal(cop_h5_start_swmr(file, &err), COP_OK);
    for (int t = 0; t < COP_TABLES; t++)
        assert_int_equal(cop_h5_table_hold(tables[t], &err), COP_OK);
    append_rows(tables, 0, 42);
    for (int t = 0; t < COP_TABLES; t++)
        assert_int_equal(cop_h5_table_flush(tables[t], &err), COP_OK);
    append_rows(tables, 42, 95);
    cop_h5_detach(file);
    for (int t = 0; t < COP_TABLES; t++)
        cop_h5_table_close(&tables[t], NULL);
    cop_h5_close(file, NULL);
    assert_int_equal(cop_h5_open(&file, f->path, &err), COP_OK);
    for (int t = 0; t < COP_TABLES; t++)
        assert_int_equal(read_back_table(file, (cop_table)t), 42);
    cop_h5_close(file, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns_and_gaps_cover_each_row),
        TEST(test_every_table_round_trips),
        TEST(test_one_large_append_equals_many_small),
        TEST(test_long_text_survives),
        TEST(test_bad_paths_are_one_clear_line),
        TEST(test_failed_repack_keeps_the_rows),
        TEST(test_abandon_leaves_what_salvage_reads),
        TEST(test_unflushed_rows_are_not_counted),
        TEST(test_salvage_of_a_completed_record),
        TEST(test_salvage_refuses_what_it_cannot_read),
        TEST(test_salvage_stops_at_an_unreadable_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
