/* The tables of tables.def as data: what the writer and the file need to know of a row struct. */
#ifndef COP_RECORD_SCHEMA_H
#define COP_RECORD_SCHEMA_H

#include "record/record.h"

typedef enum {
    COP_COLUMN_i64,
    COP_COLUMN_u64,
    COP_COLUMN_i32,
    COP_COLUMN_u32,
    COP_COLUMN_f64,
    COP_COLUMN_u8
} cop_column_type;

typedef struct {
    const char *name, *unit, *doc;
    cop_column_type type;
    size_t offset, bytes; /* in the row struct */
} cop_column;

typedef struct {
    const char *name, *doc;
    const cop_column *columns; /* in the order of their offsets */
    uint32_t column_count;
    size_t row_bytes;
} cop_schema;

/* Bytes of a row struct that belong to no column. */
typedef struct {
    size_t offset, bytes;
} cop_gap;

const cop_schema *cop_schema_of(cop_table table); /* static storage */

/* Fills gaps[column_count + 1 at most]; returns how many there are. */
uint32_t cop_schema_gaps(const cop_schema *schema, cop_gap *gaps);

#endif
