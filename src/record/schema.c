#include "record/schema.h"

/* clang-format off */
#define TABLE(table, text)                              \
    static const cop_schema *table##_schema(void)       \
    {                                                   \
        typedef cop_##table##_row row;                  \
        static const char table_doc[] = text;           \
        static const cop_column columns[] = {
#define COLUMN(type, field, unit, text)                                   \
            {#field, unit, text, COP_COLUMN_##type, offsetof(row, field), \
             sizeof(cop_col_##type)},
#define END(table)                                                        \
        };                                                                \
        static const cop_schema schema = {#table, table_doc, columns,     \
                                          sizeof columns / sizeof *columns, sizeof(row)}; \
        return &schema;                                                   \
    }
/* clang-format on */
#include "record/tables.def"
#undef TABLE
#undef COLUMN
#undef END

const cop_schema *cop_schema_of(cop_table table)
{
    static const cop_schema *(*const schemas[COP_TABLES])(void) = {
#define TABLE(name, text) name##_schema,
#define COLUMN(type, field, unit, text)
#define END(name)
#include "record/tables.def"
#undef TABLE
#undef COLUMN
#undef END
    };
    return schemas[table]();
}

const char *cop_table_name(cop_table table)
{
    return cop_schema_of(table)->name;
}

uint32_t cop_schema_gaps(const cop_schema *schema, cop_gap *gaps)
{
    uint32_t count = 0;
    size_t end = 0;
    for (uint32_t i = 0; i <= schema->column_count; i++) {
        bool last = i == schema->column_count;
        size_t next = last ? schema->row_bytes : schema->columns[i].offset;
        if (next > end)
            gaps[count++] = (cop_gap){end, next - end};
        end = last ? end : next + schema->columns[i].bytes;
    }
    return count;
}
