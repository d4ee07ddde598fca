/* Writes a compressed copy of a record beside its final place and moves it there when whole. */
#ifndef COP_RECORD_PUBLISH_H
#define COP_RECORD_PUBLISH_H

#include "record/h5.h"

/* Copies every table and root attribute of `from` to PATH; those in `set` are added or win.
 * PATH is untouched on failure, and the temporary file PATH.tmp is gone either way. salvage: see
 * cop_h5_table_copy. rows may be NULL. */
cop_status cop_publish(cop_h5 from, const char *path, const cop_attributes *set, bool salvage,
                       uint64_t rows[COP_TABLES], cop_error *err);

/* PATH.tmp; owned by the caller. */
char *cop_publish_temporary(const char *path);

/* Can a file be made or replaced there? One clear line if not; may leave an empty file behind. */
cop_status cop_publish_check(const char *path, cop_error *err);

#endif
