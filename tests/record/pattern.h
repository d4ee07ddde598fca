/* Rows whose every column is a known function of (table, column, row); record_check.py has the
 * same function in NumPy. Padding is poisoned, so that a leak of it would show. */
#ifndef COP_TESTS_RECORD_PATTERN_H
#define COP_TESTS_RECORD_PATTERN_H

#include "record/record.h"

#include <string.h>

static inline uint64_t pattern_bits(unsigned table, unsigned column, uint64_t row)
{
    uint64_t v = (row + 1) * 0x9E3779B97F4A7C15u + (column + 1) * 0xBF58476D1CE4E5B9u +
                 (table + 1) * 0x94D049BB133111EBu;
    return v ^ v >> 29;
}

static inline void pattern_i64(int64_t *to, uint64_t bits)
{
    *to = (int64_t)bits;
}

static inline void pattern_u64(uint64_t *to, uint64_t bits)
{
    *to = bits;
}

static inline void pattern_i32(int32_t *to, uint64_t bits)
{
    *to = (int32_t)(uint32_t)bits;
}

static inline void pattern_u32(uint32_t *to, uint64_t bits)
{
    *to = (uint32_t)bits;
}

static inline void pattern_f64(double *to, uint64_t bits)
{
    *to = (double)(bits >> 11) / 1048576;
}

static inline void pattern_u8(uint8_t *to, uint64_t bits)
{
    *to = (uint8_t)bits;
}

typedef union {
#define TABLE(name, doc) cop_##name##_row name;
#define COLUMN(type, field, unit, doc)
#define END(name)
#include "record/tables.def"
#undef TABLE
#undef COLUMN
#undef END
} pattern_row;

static inline void pattern_fill(pattern_row *row, cop_table table, uint64_t index)
{
    memset(row, 0xa5, sizeof *row);
    switch (table) {
#define TABLE(name, doc)                   \
    case COP_TABLE_##name: {               \
        cop_##name##_row *to = &row->name; \
        unsigned column = 0;
#define COLUMN(type, field, unit, doc) \
    pattern_##type(&to->field, pattern_bits(table, column++, index));
#define END(name) \
    break;        \
    }
#include "record/tables.def"
#undef TABLE
#undef COLUMN
#undef END
    case COP_TABLES:
        break;
    }
}

static inline size_t pattern_bytes(cop_table table)
{
    static const size_t bytes[] = {
#define TABLE(name, doc) sizeof(cop_##name##_row),
#define COLUMN(type, field, unit, doc)
#define END(name)
#include "record/tables.def"
#undef TABLE
#undef COLUMN
#undef END
    };
    return bytes[table];
}

/* One row of `table` from the record's present end on. */
static inline cop_status pattern_append(cop_record *record, cop_table table, cop_error *err)
{
    pattern_row row;
    pattern_fill(&row, table, cop_record_rows(record, table));
    return cop_record_append(record, table, &row, 1, err);
}

/* Appends rows first .. first + count of every table; tables differ in length by a few rows. */
static inline cop_status pattern_append_all(cop_record *record, uint64_t count, cop_error *err)
{
    cop_status status = COP_OK;
    for (int t = 0; t < COP_TABLES && status == COP_OK; t++) {
        for (uint64_t i = 0; i < count + (uint64_t)t && status == COP_OK; i++)
            status = pattern_append(record, (cop_table)t, err);
    }
    return status;
}

#endif
