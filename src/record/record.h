/* The record of a run: an HDF5 file of tables, readable while it is written and after a kill.
 *
 *     cop_record_open(&rec, path, &err);
 *     cop_record_int(rec, "seed", 1);  ...              before the start; later ones go in at close
 *     cop_record_start(rec, &err);                      from here on SWMR readers may look
 *     cop_record_append(rec, COP_TABLE_requests, ...);  buffered; whole batches are appended
 *     cop_record_flush(rec, &err);                      now and then: what a kill cannot take
 *     cop_record_close(rec, true, &err);                repacks compressed, marks it completed
 *
 * While open the file is unfiltered and in SWMR mode; closing rewrites it shuffled and deflated to
 * a temporary file beside it and renames that over it, so that PATH is at all times a readable
 * record. A run that dies leaves a file that h5py opens with (swmr=True, libver='latest') and that
 * cop_record_salvage turns into a plain one; never use bare h5clear on it.
 * One thread, one writer. Source of the recipe: HDF5 SWMR user guide; measured against kill -9. */
#ifndef COP_RECORD_RECORD_H
#define COP_RECORD_RECORD_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COP_RECORD_SCHEMA = 2 };

typedef int64_t cop_col_i64;
typedef uint64_t cop_col_u64;
typedef int32_t cop_col_i32;
typedef uint32_t cop_col_u32;
typedef double cop_col_f64;
typedef uint8_t cop_col_u8;

/* cop_requests_row, cop_decisions_row, ... : one struct per table, fields named as the columns */
#define TABLE(name, doc)               typedef struct {
#define COLUMN(type, field, unit, doc) cop_col_##type field;
#define END(name) \
    }             \
    cop_##name##_row;
#include "record/tables.def"
#undef TABLE
#undef COLUMN
#undef END

typedef enum {
#define TABLE(name, doc) COP_TABLE_##name,
#define COLUMN(type, field, unit, doc)
#define END(name)
#include "record/tables.def"
#undef TABLE
#undef COLUMN
#undef END
    COP_TABLES
} cop_table;

typedef struct cop_record cop_record;

/* Creates `path`; a file that was there is replaced by a new one, so that whoever reads it keeps
 * it. The folder must exist. */
cop_status cop_record_open(cop_record **out, const char *path, cop_error *err);

/* Root attributes; a name set again takes the new value. Values set after cop_record_start are kept
 * in memory and written at close. The recorder itself sets schema_version, and completed: 0 from
 * the start on, 1 when closed so. Salvage adds salvaged. */
void cop_record_text(cop_record *record, const char *name, const char *value);
void cop_record_int(cop_record *record, const char *name, int64_t value);
void cop_record_float(cop_record *record, const char *name, double value);

cop_status cop_record_start(cop_record *record, cop_error *err);

/* The first failure of an append, flush or start (COP_ERR_NO_SPACE: disk, quota or file size limit)
 * ends the record: every later call returns it, and the file keeps what was flushed before. */

/* Appends rows[count] of the table's row struct; copied. */
cop_status cop_record_append(cop_record *record, cop_table table, const void *rows, size_t count,
                             cop_error *err);
cop_status cop_record_flush(cop_record *record, cop_error *err);
uint64_t cop_record_rows(const cop_record *record, cop_table table);

/* Ends the record, always releases it. completed: false leaves the run marked as cut short and the
 * file plain but uncompressed, which takes no time: whoever interrupts a job soon kills it. Late
 * attributes are then lost. NULL is legal. When only the repacking fails, the error says so and PATH is the
 * uncompressed record, closed, with every row and completed still 0. */
cop_status cop_record_close(cop_record *record, bool completed, cop_error *err);
/* Ends at once: flushes and leaves the SWMR file as a kill would, for use in a dying job. */
cop_status cop_record_abandon(cop_record *record, cop_error *err);

/* Turns the file of a killed (or still running) run into a plain, compressed one; reports the rows
 * of each table. Rows behind damage are left out and counted in the table's attribute
 * unreadable_rows. `out` appears when whole, or not at all. */
cop_status cop_record_salvage(const char *in, const char *out, uint64_t rows[COP_TABLES],
                              cop_error *err);

const char *cop_table_name(cop_table table);
const char *cop_record_library(void); /* "HDF5 1.10.8" */

#endif
