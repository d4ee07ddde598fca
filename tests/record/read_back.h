/* Reads a plain record with HDF5's own C API and holds it against pattern.h. For cmocka tests. */
#ifndef COP_TESTS_RECORD_READ_BACK_H
#define COP_TESTS_RECORD_READ_BACK_H

#include "base/alloc.h"
#include "pattern.h"
#include "record/schema.h"

#include <hdf5.h>
#include <stdlib.h>

static inline hid_t read_back_type(cop_table table)
{
    const cop_schema *schema = cop_schema_of(table);
    const hid_t types[] = {
        [COP_COLUMN_i64] = H5T_NATIVE_INT64,  [COP_COLUMN_u64] = H5T_NATIVE_UINT64,
        [COP_COLUMN_i32] = H5T_NATIVE_INT32,  [COP_COLUMN_u32] = H5T_NATIVE_UINT32,
        [COP_COLUMN_f64] = H5T_NATIVE_DOUBLE, [COP_COLUMN_u8] = H5T_NATIVE_UINT8,
    };
    hid_t type = H5Tcreate(H5T_COMPOUND, pattern_bytes(table));
    for (uint32_t i = 0; i < schema->column_count; i++)
        H5Tinsert(type, schema->columns[i].name, schema->columns[i].offset,
                  types[schema->columns[i].type]);
    return type;
}

/* The row as a record must hold it: nothing in its padding. */
static inline void recorded_row(pattern_row *row, cop_table table, uint64_t index)
{
    cop_gap gaps[64];
    uint32_t gap_count = cop_schema_gaps(cop_schema_of(table), gaps);
    pattern_fill(row, table, index);
    for (uint32_t g = 0; g < gap_count; g++)
        memset((char *)row + gaps[g].offset, 0, gaps[g].bytes);
}

/* Reads a table whole and compares it with the pattern; padding must be zero. Returns its rows. */
static inline uint64_t read_back_table(hid_t file, cop_table table)
{
    hid_t dataset = H5Dopen2(file, cop_table_name(table), H5P_DEFAULT),
          type = read_back_type(table);
    assert_true(dataset >= 0);
    hid_t space = H5Dget_space(dataset);
    hsize_t rows = 0;
    assert_int_equal(H5Sget_simple_extent_dims(space, &rows, NULL), 1);
    size_t size = pattern_bytes(table);
    char *data = cop_malloc(rows * size);
    assert_true(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    for (uint64_t i = 0; i < rows; i++) {
        pattern_row want;
        recorded_row(&want, table, i);
        assert_memory_equal(data + i * size, &want, size);
    }
    free(data);
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(dataset);
    return rows;
}

static inline void read_back_all(const char *path, uint64_t rows[COP_TABLES])
{
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    for (int t = 0; t < COP_TABLES; t++)
        rows[t] = read_back_table(file, (cop_table)t);
    H5Fclose(file);
}

#endif
