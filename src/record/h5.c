#define _GNU_SOURCE /* memfd_create */
#include "record/h5.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PACKED_CHUNK_BYTES = 512 << 10, /* of a compressed table */
    DEFLATE_LEVEL = 1,              /* level 4 saves 2 % more and takes 1.2 times as long */
    MAX_ATTRIBUTE_BYTES = 64 << 20, /* larger ones mean a damaged file */
    NAME_BYTES = 256,
};

#define TEXT_OF(x)   TEXT_OF_(x)
#define TEXT_OF_(x)  #x
#define HDF5_VERSION TEXT_OF(H5_VERS_MAJOR) "." TEXT_OF(H5_VERS_MINOR) "." TEXT_OF(H5_VERS_RELEASE)

const char *cop_record_library(void)
{
    return "HDF5 " HDF5_VERSION;
}

/* What HDF5's error stack says: the words of its innermost entry, and the errno of the system call
 * behind it, which HDF5 gives only inside its text. */
typedef struct {
    char words[NAME_BYTES];
    int system_error;
    bool no_memory, not_hdf5;
} trace;

static herr_t read_trace(unsigned depth, const H5E_error2_t *entry, void *data)
{
    trace *t = data;
    const char *words = entry->desc ? entry->desc : "";
    const char *number = strstr(words, "errno = ");
    if (number && !t->system_error)
        t->system_error = (int)strtol(number + strlen("errno = "), NULL, 10);
    t->not_hdf5 |= entry->min_num == H5E_NOTHDF5;
    t->no_memory |= entry->maj_num == H5E_RESOURCE && entry->min_num == H5E_NOSPACE;
    if (!t->words[0]) {
        snprintf(t->words, sizeof t->words, "%s", words);
        t->words[strcspn(t->words, "\n")] = '\0';
        /* the system call's details: time, file, buffer addresses */
        char *details = strstr(t->words, ": time = ");
        details = details ? details : strstr(t->words, ": name = ");
        details = details ? details : strstr(t->words, ", errno = ");
        if (details)
            *details = '\0';
    }
    return 0;
}

static cop_status status_of(const trace *t)
{
    switch (t->system_error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return COP_ERR_NO_SPACE;
    case 0:
        return t->not_hdf5 ? COP_ERR_CORRUPT : t->no_memory ? COP_ERR_NO_MEMORY : COP_ERR_IO;
    default:
        return COP_ERR_IO;
    }
}

/* The one place where an HDF5 failure becomes ours: "PATH: cannot VERB OBJECT: ...". `name` NULL:
 * the file and object of `object`. */
static cop_status fail(cop_error *err, const char *name, hid_t object, const char *verb)
{
    trace t = {0};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, read_trace, &t);
    char file[NAME_BYTES] = "", member[NAME_BYTES] = "";
    if (!name) {
        H5Fget_name(object, file, sizeof file);
        H5Iget_name(object, member, sizeof member);
    }
    bool root = strcmp(member, "/") == 0;
    bool locked = t.system_error == EAGAIN;
    return cop_fail(err, status_of(&t), "%s: cannot %s%s%s: %s%s%s (%s)", name ? name : file, verb,
                    member[0] && !root ? " " : "", root ? "" : member,
                    t.words[0] ? t.words : "unknown failure", t.system_error ? ": " : "",
                    locked           ? "another program has it open"
                    : t.system_error ? strerror(t.system_error)
                                     : "",
                    cop_record_library());
}

/* Process-wide switches of HDF5; repeating them is harmless. */
static void prepare_library(void)
{
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static hid_t access_list(bool live)
{
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    if (live)
        H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(list, true, true); /* not an error where the file system has no locks */
#endif
    return list;
}

cop_status cop_h5_create(cop_h5 *file, const char *path, bool live, cop_error *err)
{
    prepare_library();
    hid_t list = access_list(live);
    hid_t created = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, list);
    cop_status status = created < 0 ? fail(err, path, -1, "create it") : COP_OK;
    H5Pclose(list);
    if (status == COP_OK)
        *file = created;
    return status;
}

cop_status cop_h5_open(cop_h5 *file, const char *path, cop_error *err)
{
    prepare_library();
    hid_t list = access_list(false);
    hid_t opened = H5Fopen(path, H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, list);
    if (opened < 0)
        opened = H5Fopen(path, H5F_ACC_RDONLY, list);
    cop_status status = opened < 0 ? fail(err, path, -1, "read it") : COP_OK;
    H5Pclose(list);
    if (status == COP_OK)
        *file = opened;
    return status;
}

cop_status cop_h5_start_swmr(cop_h5 file, cop_error *err)
{
    if (H5Fflush(file, H5F_SCOPE_LOCAL) < 0 || H5Fstart_swmr_write(file) < 0)
        return fail(err, NULL, file, "open to readers");
    return COP_OK;
}

cop_status cop_h5_close(cop_h5 file, cop_error *err)
{
    if (file < 0)
        return COP_OK;
    char name[NAME_BYTES] = "";
    H5Fget_name(file, name, sizeof name);
    return H5Fclose(file) < 0 ? fail(err, name, -1, "close it") : COP_OK;
}

/* In place of the file comes an empty one in memory, as HDF5 also truncates when it closes, and
 * keeps a handle whose closing fails open. */
void cop_h5_detach(cop_h5 file)
{
    void *handle = NULL;
    int nowhere = memfd_create("detached record", MFD_CLOEXEC);
    if (nowhere < 0)
        nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere >= 0 && H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) >= 0 && handle)
        dup2(nowhere, *(int *)handle);
    if (nowhere >= 0)
        close(nowhere);
}

static cop_status put_attribute(hid_t object, const char *name, hid_t type, const void *value,
                                cop_error *err)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    cop_status status = COP_OK;
    if (attribute < 0 || H5Awrite(attribute, type, value) < 0)
        status = fail(err, NULL, object, "write an attribute of");
    if (attribute >= 0 && H5Aclose(attribute) < 0 && status == COP_OK)
        status = fail(err, NULL, object, "write an attribute of");
    H5Sclose(space);
    return status;
}

/* Of variable length, because h5py hands those out as str and fixed ones as bytes. */
static cop_status put_text(hid_t object, const char *name, const char *text, cop_error *err)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    cop_status status = put_attribute(object, name, type, &text, err);
    H5Tclose(type);
    return status;
}

cop_status cop_h5_write_attributes(cop_h5 file, const cop_attributes *list, cop_error *err)
{
    cop_status status = COP_OK;
    for (size_t i = 0; i < list->count && status == COP_OK; i++) {
        const cop_attribute *a = &list->items[i];
        switch (a->type) {
        case COP_ATTRIBUTE_TEXT:
            status = put_text(file, a->name, a->text, err);
            break;
        case COP_ATTRIBUTE_INT:
            status = put_attribute(file, a->name, H5T_NATIVE_INT64, &a->integer, err);
            break;
        case COP_ATTRIBUTE_FLOAT:
            status = put_attribute(file, a->name, H5T_NATIVE_DOUBLE, &a->real, err);
            break;
        }
    }
    return status;
}

bool cop_h5_read_int(cop_h5 file, const char *name, int64_t *value)
{
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    if (attribute < 0)
        return false;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool scalar = H5Tget_class(type) == H5T_INTEGER && H5Sget_simple_extent_npoints(space) == 1;
    bool found = scalar && H5Aread(attribute, H5T_NATIVE_INT64, value) >= 0;
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return found;
}

typedef struct {
    hid_t to;
    const cop_attributes *except;
    cop_error *err;
    cop_status status;
} attribute_copy;

static bool move_value(hid_t source, hid_t target, hid_t type, hid_t space)
{
    hssize_t points = H5Sget_simple_extent_npoints(space);
    size_t size = H5Tget_size(type);
    if (points < 0 || size == 0 || (size_t)points > MAX_ATTRIBUTE_BYTES / size)
        return false;
    void *value = cop_calloc((size_t)points + 1, size);
    bool ok = H5Aread(source, type, value) >= 0;
    if (ok) {
        ok = H5Awrite(target, type, value) >= 0;
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, value);
    }
    free(value);
    return ok;
}

static herr_t copy_attribute(hid_t from, const char *name, const H5A_info_t *info, void *data)
{
    attribute_copy *copy = data;
    if (copy->except && cop_attributes_find(copy->except, name))
        return 0;
    hid_t source = H5Aopen(from, name, H5P_DEFAULT);
    hid_t type = H5Aget_type(source), space = H5Aget_space(source);
    hid_t target = H5Acreate2(copy->to, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (target < 0 || !move_value(source, target, type, space))
        copy->status = fail(copy->err, NULL, from, "copy an attribute of");
    if (target >= 0 && H5Aclose(target) < 0 && copy->status == COP_OK)
        copy->status = fail(copy->err, NULL, from, "copy an attribute of");
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(source);
    return copy->status == COP_OK ? 0 : -1;
}

cop_status cop_h5_copy_attributes(cop_h5 from, cop_h5 to, const cop_attributes *except,
                                  cop_error *err)
{
    attribute_copy copy = {to, except, err, COP_OK};
    herr_t rc = H5Aiterate2(from, H5_INDEX_NAME, H5_ITER_INC, NULL, copy_attribute, &copy);
    if (rc < 0 && copy.status == COP_OK)
        return fail(err, NULL, from, "list the attributes of");
    return copy.status;
}

static hid_t native_type(cop_column_type type)
{
    switch (type) {
    case COP_COLUMN_i64:
        return H5T_NATIVE_INT64;
    case COP_COLUMN_u64:
        return H5T_NATIVE_UINT64;
    case COP_COLUMN_i32:
        return H5T_NATIVE_INT32;
    case COP_COLUMN_u32:
        return H5T_NATIVE_UINT32;
    case COP_COLUMN_f64:
        return H5T_NATIVE_DOUBLE;
    case COP_COLUMN_u8:
        return H5T_NATIVE_UINT8;
    }
    return -1;
}

static hid_t row_type(const cop_schema *schema)
{
    hid_t type = H5Tcreate(H5T_COMPOUND, schema->row_bytes);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const cop_column *c = &schema->columns[i];
        H5Tinsert(type, c->name, c->offset, native_type(c->type));
    }
    return type;
}

static cop_status describe(hid_t dataset, const cop_schema *schema, cop_error *err)
{
    cop_status status = put_text(dataset, "doc", schema->doc, err);
    for (uint32_t i = 0; i < schema->column_count && status == COP_OK; i++) {
        const cop_column *c = &schema->columns[i];
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "%s.unit", c->name);
        status = put_text(dataset, name, c->unit, err);
        snprintf(name, sizeof name, "%s.doc", c->name);
        if (status == COP_OK)
            status = put_text(dataset, name, c->doc, err);
    }
    return status;
}

/* An empty, growing, chunked dataset; deflate 0: unfiltered. */
static hid_t create_dataset(hid_t file, const char *name, hid_t type, hsize_t chunk_rows,
                            unsigned deflate)
{
    hsize_t none = 0, unlimited = H5S_UNLIMITED;
    hid_t space = H5Screate_simple(1, &none, &unlimited);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk(create, 1, &chunk_rows);
    H5Pset_fill_time(create, H5D_FILL_TIME_ALLOC); /* the unused end of a chunk is zero */
    if (deflate) {
        H5Pset_shuffle(create);
        H5Pset_deflate(create, deflate);
    }
    H5Pset_chunk_cache(access, 101, (size_t)chunk_rows * H5Tget_size(type), 1.0);
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, access);
    H5Pclose(access);
    H5Pclose(create);
    H5Sclose(space);
    return dataset;
}

cop_status cop_h5_table_create(cop_h5_table *out, cop_h5 file, const cop_schema *schema,
                               uint32_t chunk_rows, cop_error *err)
{
    cop_h5_table table = {COP_H5_NONE, row_type(schema)};
    table.dataset = create_dataset(file, schema->name, table.type, chunk_rows, 0);
    cop_status status = COP_OK;
    if (table.dataset < 0)
        status = fail(err, NULL, file, "create a table");
    else
        status = describe(table.dataset, schema, err);
    if (status != COP_OK)
        cop_h5_table_close(&table, NULL);
    else
        *out = table;
    return status;
}

cop_status cop_h5_table_hold(cop_h5_table table, cop_error *err)
{
    return H5Odisable_mdc_flushes(table.dataset) < 0 ? fail(err, NULL, table.dataset, "hold back")
                                                     : COP_OK;
}

/* Reads or writes rows [first, first + count). */
static bool move_rows(cop_h5_table table, hsize_t first, hsize_t count, void *out, const void *in)
{
    hid_t file_space = H5Dget_space(table.dataset);
    hid_t memory_space = H5Screate_simple(1, &count, NULL);
    bool ok = H5Sselect_hyperslab(file_space, H5S_SELECT_SET, &first, NULL, &count, NULL) >= 0;
    if (ok && in)
        ok = H5Dwrite(table.dataset, table.type, memory_space, file_space, H5P_DEFAULT, in) >= 0;
    else if (ok)
        ok = H5Dread(table.dataset, table.type, memory_space, file_space, H5P_DEFAULT, out) >= 0;
    /* closing clears HDF5's error stack; leave it for fail() to read */
    hid_t stack = ok ? -1 : H5Eget_current_stack();
    H5Sclose(memory_space);
    H5Sclose(file_space);
    if (stack >= 0)
        H5Eset_current_stack(stack);
    return ok;
}

cop_status cop_h5_table_append(cop_h5_table table, uint64_t first, const void *rows, size_t count,
                               cop_error *err)
{
    hsize_t extent = first + count;
    if (H5Dset_extent(table.dataset, &extent) < 0 || !move_rows(table, first, count, NULL, rows))
        return fail(err, NULL, table.dataset, "append to");
    return COP_OK;
}

cop_status cop_h5_table_flush(cop_h5_table table, cop_error *err)
{
    return H5Dflush(table.dataset) < 0 ? fail(err, NULL, table.dataset, "flush") : COP_OK;
}

cop_status cop_h5_table_close(cop_h5_table *table, cop_error *err)
{
    cop_status status = COP_OK;
    if (table->dataset >= 0 && H5Dclose(table->dataset) < 0)
        status = fail(err, NULL, table->dataset, "close");
    if (table->type >= 0)
        H5Tclose(table->type);
    *table = (cop_h5_table){COP_H5_NONE, COP_H5_NONE};
    return status;
}

/* The dataset's own type serves as memory type, so that rows pass through unconverted. */
static cop_status open_table(cop_h5_table *out, uint64_t *rows, hid_t file, const char *name,
                             cop_error *err)
{
    cop_h5_table table = {H5Dopen2(file, name, H5P_DEFAULT), COP_H5_NONE};
    if (table.dataset < 0)
        return fail(err, NULL, file, "find a table of a coppice record in");
    table.type = H5Dget_type(table.dataset);
    hid_t space = H5Dget_space(table.dataset);
    hsize_t extent = 0;
    bool plain = H5Tget_class(table.type) == H5T_COMPOUND && H5Sget_simple_extent_ndims(space) == 1;
    if (plain)
        H5Sget_simple_extent_dims(space, &extent, NULL);
    H5Sclose(space);
    if (!plain) {
        cop_h5_table_close(&table, NULL);
        return cop_fail(err, COP_ERR_CORRUPT, "'%s' is not a table of a coppice record", name);
    }
    *out = table;
    *rows = extent;
    return COP_OK;
}

static cop_status copy_rows(cop_h5_table from, cop_h5_table to, uint64_t total, uint64_t slab,
                            bool salvage, uint64_t *copied, cop_error *err)
{
    cop_status status = COP_OK;
    void *rows = cop_malloc(slab * H5Tget_size(from.type));
    uint64_t at = 0;
    while (at < total && status == COP_OK) {
        uint64_t count = total - at < slab ? total - at : slab;
        if (!move_rows(from, at, count, rows, NULL)) {
            if (!salvage)
                status = fail(err, NULL, from.dataset, "read");
            break;
        }
        status = cop_h5_table_append(to, at, rows, count, err);
        at += count;
    }
    free(rows);
    *copied = at;
    return status;
}

static cop_status copy_table(cop_h5_table from, cop_h5_table to, uint64_t total, uint64_t slab,
                             bool salvage, uint64_t *copied, cop_error *err)
{
    cop_status status = cop_h5_copy_attributes(from.dataset, to.dataset, NULL, err);
    if (status == COP_OK)
        status = copy_rows(from, to, total, slab, salvage, copied, err);
    int64_t unreadable = (int64_t)(total - *copied);
    if (status == COP_OK && unreadable)
        status = put_attribute(to.dataset, "unreadable_rows", H5T_NATIVE_INT64, &unreadable, err);
    return status;
}

cop_status cop_h5_table_copy(cop_h5 from, cop_h5 to, const char *name, bool salvage, uint64_t *rows,
                             cop_error *err)
{
    cop_h5_table source = {COP_H5_NONE, COP_H5_NONE}, target = source;
    uint64_t total = 0, copied = 0;
    cop_status status = open_table(&source, &total, from, name, err);
    if (status != COP_OK)
        return status;
    uint64_t slab = PACKED_CHUNK_BYTES / H5Tget_size(source.type);
    slab = slab > total ? total : slab;
    slab = slab ? slab : 1;
    target.type = H5Tcopy(source.type);
    target.dataset = create_dataset(to, name, target.type, slab, DEFLATE_LEVEL);
    if (target.dataset < 0)
        status = fail(err, NULL, to, "create a table");
    else
        status = copy_table(source, target, total, slab, salvage, &copied, err);
    cop_error late;
    if (cop_h5_table_close(&target, &late) != COP_OK && status == COP_OK)
        status = cop_fail(err, late.status, "%s", late.text);
    cop_h5_table_close(&source, NULL);
    if (status == COP_OK)
        *rows = copied;
    return status;
}
