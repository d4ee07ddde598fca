#include "record/publish.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool same_file(const struct stat *in, const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_dev == in->st_dev && st.st_ino == in->st_ino;
}

static cop_status check_paths(const char *in, const char *out, cop_error *err)
{
    struct stat from;
    if (stat(in, &from) < 0)
        return cop_fail(err, errno == ENOENT ? COP_ERR_INVALID : COP_ERR_IO,
                        "cannot read the record '%s': %s", in, strerror(errno));
    if (!S_ISREG(from.st_mode))
        return cop_fail(err, COP_ERR_INVALID, "cannot read the record '%s': not a regular file",
                        in);
    char *temporary = cop_publish_temporary(out);
    bool itself = same_file(&from, out) || same_file(&from, temporary);
    free(temporary);
    if (itself)
        return cop_fail(err, COP_ERR_INVALID,
                        "cannot salvage '%s' into itself; name another file to write", in);
    bool exists = access(out, F_OK) == 0;
    cop_status status = cop_publish_check(out, err);
    if (status == COP_OK && !exists)
        unlink(out);
    return status;
}

static cop_status check_schema(cop_h5 file, const char *in, cop_error *err)
{
    int64_t schema;
    if (!cop_h5_read_int(file, "schema_version", &schema))
        return cop_fail(err, COP_ERR_CORRUPT,
                        "'%s' is not a coppice record: no attribute schema_version", in);
    if (schema != COP_RECORD_SCHEMA)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "'%s' has record schema %" PRId64 "; this coppice reads schema %d", in,
                        schema, COP_RECORD_SCHEMA);
    return COP_OK;
}

cop_status cop_record_salvage(const char *in, const char *out, uint64_t rows[COP_TABLES],
                              cop_error *err)
{
    cop_h5 file;
    cop_status status = check_paths(in, out, err);
    if (status == COP_OK)
        status = cop_h5_open(&file, in, err);
    if (status != COP_OK)
        return status;
    status = check_schema(file, in, err);
    if (status == COP_OK) {
        cop_attributes set = {0};
        cop_attributes_int(&set, "salvaged", 1);
        status = cop_publish(file, out, &set, true, rows, err);
        cop_attributes_fini(&set);
    }
    cop_h5_close(file, NULL);
    return status;
}
