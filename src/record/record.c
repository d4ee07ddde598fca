#include "record/record.h"

#include "base/alloc.h"
#include "base/check.h"
#include "record/publish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a live table. A flush writes the last chunk of each changed table anew, so that this, times
 * the tables, bounds its time. */
enum { CHUNK_BYTES = 64 << 10 };

typedef struct {
    const cop_schema *schema;
    cop_h5_table file;
    char *rows; /* waiting to be appended; at most a chunk */
    uint32_t chunk_rows, waiting;
    uint64_t appended; /* rows in the file; appended + waiting never passes a chunk's end */
    bool changed;      /* appended to since the last flush */
    cop_gap *gaps;
    uint32_t gap_count;
} table;

struct cop_record {
    char *path;
    cop_h5 file;
    cop_attributes attributes;
    cop_error failure; /* the first one; from then on the file is left alone */
    table tables[COP_TABLES];
};

/* A failed write leaves HDF5's caches and the file in disagreement: nothing more is written, and
 * readers keep what the last good flush gave them. */
static cop_status broken(cop_record *record, cop_status status, cop_error *err)
{
    if (record->failure.status == COP_OK) {
        record->failure = *err;
        record->failure.status = status;
    }
    return status;
}

static cop_status old_failure(const cop_record *record, cop_error *err)
{
    return cop_fail(err, record->failure.status, "%s", record->failure.text);
}

static cop_status open_table(cop_record *record, cop_table index, cop_error *err)
{
    table *t = &record->tables[index];
    t->schema = cop_schema_of(index);
    t->chunk_rows = (uint32_t)(CHUNK_BYTES / t->schema->row_bytes);
    t->rows = cop_calloc(t->chunk_rows, t->schema->row_bytes);
    t->gaps = cop_calloc(t->schema->column_count + 1, sizeof *t->gaps);
    t->gap_count = cop_schema_gaps(t->schema, t->gaps);
    return cop_h5_table_create(&t->file, record->file, t->schema, t->chunk_rows, err);
}

/* Closes the handles and frees the record. keep: the file on disk stays as a kill would leave it,
 * in SWMR mode. */
static cop_status release(cop_record *record, bool keep, cop_error *err)
{
    cop_status status = COP_OK, closed;
    cop_error late;
    if (keep && record->file >= 0)
        cop_h5_detach(record->file);
    for (int i = 0; i < COP_TABLES; i++) {
        closed = cop_h5_table_close(&record->tables[i].file, &late);
        if (closed != COP_OK && status == COP_OK && !keep)
            status = cop_fail(err, closed, "%s", late.text);
        free(record->tables[i].rows);
        free(record->tables[i].gaps);
    }
    closed = cop_h5_close(record->file, &late);
    if (closed != COP_OK && status == COP_OK && !keep)
        status = cop_fail(err, closed, "%s", late.text);
    cop_attributes_fini(&record->attributes);
    free(record->path);
    free(record);
    return status;
}

/* A new file, not an emptied one: somebody may be reading, or writing, the old. */
static cop_status create_file(cop_record *record, const char *path, cop_error *err)
{
    record->path = realpath(path, NULL); /* neither a link nor a chdir moves where close writes */
    if (!record->path || unlink(record->path) < 0)
        return cop_fail(err, COP_ERR_IO, "cannot replace the record '%s': %s", path,
                        strerror(errno));
    return cop_h5_create(&record->file, record->path, true, err);
}

cop_status cop_record_open(cop_record **out, const char *path, cop_error *err)
{
    cop_status status = cop_publish_check(path, err);
    if (status != COP_OK)
        return status;
    cop_record *record = cop_calloc(1, sizeof *record);
    record->file = COP_H5_NONE;
    for (int i = 0; i < COP_TABLES; i++)
        record->tables[i].file = (cop_h5_table){COP_H5_NONE, COP_H5_NONE};
    status = create_file(record, path, err);
    for (int i = 0; i < COP_TABLES && status == COP_OK; i++)
        status = open_table(record, (cop_table)i, err);
    if (status != COP_OK) {
        if (record->path)
            unlink(record->path);
        release(record, true, NULL);
        return status;
    }
    cop_record_int(record, "schema_version", COP_RECORD_SCHEMA);
    cop_record_int(record, "completed", 0);
    *out = record;
    return COP_OK;
}

void cop_record_text(cop_record *record, const char *name, const char *value)
{
    cop_attributes_text(&record->attributes, name, value);
}

void cop_record_int(cop_record *record, const char *name, int64_t value)
{
    cop_attributes_int(&record->attributes, name, value);
}

void cop_record_float(cop_record *record, const char *name, double value)
{
    cop_attributes_float(&record->attributes, name, value);
}

cop_status cop_record_start(cop_record *record, cop_error *err)
{
    cop_error local;
    cop_status status = cop_h5_write_attributes(record->file, &record->attributes, &local);
    if (status == COP_OK)
        status = cop_h5_start_swmr(record->file, &local);
    for (int i = 0; i < COP_TABLES && status == COP_OK; i++)
        status = cop_h5_table_hold(record->tables[i].file, &local);
    if (status != COP_OK) {
        broken(record, status, &local);
        return old_failure(record, err);
    }
    return COP_OK;
}

static cop_status write_out(cop_record *record, table *t)
{
    if (t->waiting == 0)
        return COP_OK;
    cop_error err;
    cop_status status = cop_h5_table_append(t->file, t->appended, t->rows, t->waiting, &err);
    if (status != COP_OK)
        return broken(record, status, &err);
    t->appended += t->waiting;
    t->waiting = 0;
    t->changed = true;
    return COP_OK;
}

/* Padding in the caller's rows may hold anything; the file gets zeros. */
static void take_rows(table *t, const char *rows, uint32_t count)
{
    size_t row_bytes = t->schema->row_bytes;
    char *to = t->rows + t->waiting * row_bytes;
    memcpy(to, rows, count * row_bytes);
    for (uint32_t g = 0; g < t->gap_count; g++) {
        for (uint32_t i = 0; i < count; i++)
            memset(to + i * row_bytes + t->gaps[g].offset, 0, t->gaps[g].bytes);
    }
    t->waiting += count;
}

cop_status cop_record_append(cop_record *record, cop_table index, const void *rows, size_t count,
                             cop_error *err)
{
    COP_CHECK(index < COP_TABLES);
    table *t = &record->tables[index];
    const char *next = rows;
    while (count > 0 && record->failure.status == COP_OK) {
        uint32_t room = t->chunk_rows - (uint32_t)(t->appended % t->chunk_rows) - t->waiting;
        uint32_t taken = count < room ? (uint32_t)count : room;
        take_rows(t, next, taken);
        next += taken * t->schema->row_bytes;
        count -= taken;
        if (taken == room)
            write_out(record, t);
    }
    return record->failure.status == COP_OK ? COP_OK : old_failure(record, err);
}

cop_status cop_record_flush(cop_record *record, cop_error *err)
{
    for (int i = 0; i < COP_TABLES && record->failure.status == COP_OK; i++) {
        table *t = &record->tables[i];
        cop_error local;
        cop_status status = write_out(record, t);
        if (status == COP_OK && t->changed) {
            status = cop_h5_table_flush(t->file, &local);
            if (status == COP_OK)
                t->changed = false;
            else
                broken(record, status, &local);
        }
    }
    return record->failure.status == COP_OK ? COP_OK : old_failure(record, err);
}

uint64_t cop_record_rows(const cop_record *record, cop_table index)
{
    return record->tables[index].appended + record->tables[index].waiting;
}

cop_status cop_record_close(cop_record *record, bool completed, cop_error *err)
{
    if (!record)
        return COP_OK;
    cop_status status = cop_record_flush(record, err);
    if (status != COP_OK) {
        release(record, true, NULL);
        return status;
    }
    if (!completed) /* `completed` is 0 since the start; a dying job has no time to repack */
        return release(record, false, err);
    cop_record_int(record, "completed", 1);
    cop_error local;
    status = cop_publish(record->file, record->path, &record->attributes, false, NULL, &local);
    if (status != COP_OK)
        cop_fail(err, status, "the record stays uncompressed, as %s: %.800s", record->path,
                 local.text);
    cop_status closed = release(record, status == COP_OK, status == COP_OK ? err : NULL);
    return status == COP_OK ? closed : status;
}

cop_status cop_record_abandon(cop_record *record, cop_error *err)
{
    if (!record)
        return COP_OK;
    cop_status status = cop_record_flush(record, err);
    release(record, true, NULL);
    return status;
}
