#include "record/publish.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static cop_status system_fail(const char *path, const char *verb, cop_error *err)
{
    int error = errno;
    bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
    bool users = error == ENOENT || error == ENOTDIR || error == EISDIR || error == ENAMETOOLONG;
    cop_status status = full ? COP_ERR_NO_SPACE : users ? COP_ERR_INVALID : COP_ERR_IO;
    const char *slash = strrchr(path, '/');
    if (error == ENOENT && slash)
        return cop_fail(err, status, "cannot %s '%s': the folder '%.*s' does not exist", verb, path,
                        (int)(slash - path), path);
    return cop_fail(err, status, "cannot %s '%s': %s", verb, path, strerror(error));
}

cop_status cop_publish_check(const char *path, cop_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (fd < 0)
        return system_fail(path, "write the record", err);
    struct stat st;
    bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    close(fd);
    if (!regular)
        return cop_fail(err, COP_ERR_INVALID, "cannot write the record '%s': not a regular file",
                        path);
    return COP_OK;
}

char *cop_publish_temporary(const char *path)
{
    size_t size = strlen(path) + sizeof ".tmp";
    char *temporary = cop_malloc(size);
    snprintf(temporary, size, "%s.tmp", path);
    return temporary;
}

static cop_status fill(cop_h5 from, cop_h5 to, const cop_attributes *set, bool salvage,
                       uint64_t rows[COP_TABLES], cop_error *err)
{
    cop_status status = cop_h5_copy_attributes(from, to, set, err);
    if (status == COP_OK)
        status = cop_h5_write_attributes(to, set, err);
    for (int t = 0; t < COP_TABLES && status == COP_OK; t++)
        status = cop_h5_table_copy(from, to, cop_table_name((cop_table)t), salvage, &rows[t], err);
    return status;
}

/* Its bytes reach the disk before its name does, so that no crash leaves an empty record. */
static cop_status move_into_place(const char *temporary, const char *path, cop_error *err)
{
    int fd = open(temporary, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0) {
        cop_status status = system_fail(temporary, "write", err);
        if (fd >= 0)
            close(fd);
        return status;
    }
    close(fd);
    return rename(temporary, path) == 0 ? COP_OK : system_fail(path, "write the record", err);
}

cop_status cop_publish(cop_h5 from, const char *path, const cop_attributes *set, bool salvage,
                       uint64_t rows[COP_TABLES], cop_error *err)
{
    uint64_t counts[COP_TABLES] = {0};
    char *temporary = cop_publish_temporary(path);
    cop_h5 to = COP_H5_NONE;
    cop_status status = cop_h5_create(&to, temporary, false, err);
    if (status == COP_OK) {
        status = fill(from, to, set, salvage, counts, err);
        if (status != COP_OK)
            cop_h5_detach(to);
        cop_status closed = cop_h5_close(to, status == COP_OK ? err : NULL);
        status = status == COP_OK ? closed : status;
    }
    if (status == COP_OK)
        status = move_into_place(temporary, path, err);
    if (status != COP_OK)
        unlink(temporary);
    else if (rows)
        memcpy(rows, counts, sizeof counts);
    free(temporary);
    return status;
}
