/* HDF5 as the recorder needs it. h5.c is the one file that includes hdf5.h; it maps HDF5's errors
 * to ours, with HDF5's own words, and keeps the library from printing or from running at exit
 * (where it can loop for ever on a file whose disk is full).
 *
 * Handles are HDF5 identifiers (hid_t); COP_H5_NONE is none, and legal to close.
 * Errors: NO_SPACE (disk, quota or file size limit), CORRUPT (not HDF5), NO_MEMORY, else IO. */
#ifndef COP_RECORD_H5_H
#define COP_RECORD_H5_H

#include "record/attributes.h"
#include "record/schema.h"

typedef int64_t cop_h5;
enum { COP_H5_NONE = -1 };

typedef struct {
    cop_h5 dataset, type;
} cop_h5_table;

/* live: the format that SWMR needs (HDF5 1.10); otherwise one that any HDF5 reads. Truncates. */
cop_status cop_h5_create(cop_h5 *file, const char *path, bool live, cop_error *err);
/* For reading: a plain file, or one that a live or killed writer left in SWMR mode. */
cop_status cop_h5_open(cop_h5 *file, const char *path, cop_error *err);
/* From here on no object can be created, and other processes may read. */
cop_status cop_h5_start_swmr(cop_h5 file, cop_error *err);
cop_status cop_h5_close(cop_h5 file, cop_error *err);
/* Takes the file on disk away from HDF5, which stays exactly as it is: what HDF5 still wants to
 * write, at closing too, goes nowhere. Close the handles next; their errors mean nothing then. */
void cop_h5_detach(cop_h5 file);

/* An empty dataset of the row struct, with doc and unit attributes. Unfiltered; the chunk cache
 * holds one chunk, so that a flush never has more than that to write. */
cop_status cop_h5_table_create(cop_h5_table *out, cop_h5 file, const cop_schema *schema,
                               uint32_t chunk_rows, cop_error *err);
/* Holds the table's index and extent back until cop_h5_table_flush, which writes rows first: no
 * reader, and no kill, then sees a row that is counted but not yet there. After start_swmr. */
cop_status cop_h5_table_hold(cop_h5_table table, cop_error *err);
cop_status cop_h5_table_append(cop_h5_table table, uint64_t first, const void *rows, size_t count,
                               cop_error *err);
cop_status cop_h5_table_flush(cop_h5_table table, cop_error *err);
cop_status cop_h5_table_close(cop_h5_table *table, cop_error *err);

/* Copies table `name` with its attributes, shuffled and deflated. salvage: rows from the first
 * unreadable one on are left out and counted in the attribute unreadable_rows; otherwise they are
 * an error. */
cop_status cop_h5_table_copy(cop_h5 from, cop_h5 to, const char *name, bool salvage, uint64_t *rows,
                             cop_error *err);

/* Root attributes. */
cop_status cop_h5_write_attributes(cop_h5 file, const cop_attributes *list, cop_error *err);
/* All those of `from` that `except` does not name. */
cop_status cop_h5_copy_attributes(cop_h5 from, cop_h5 to, const cop_attributes *except,
                                  cop_error *err);
/* false: there is no such integer. */
bool cop_h5_read_int(cop_h5 file, const char *name, int64_t *value);

#endif
