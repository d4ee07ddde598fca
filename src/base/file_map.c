#include "base/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static cop_status map_fd(cop_file_map *out, int fd, const char *path, cop_error *err)
{
    static const uint8_t nothing[1];
    struct stat st;
    if (fstat(fd, &st) != 0)
        return cop_fail(err, COP_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return cop_fail(err, COP_ERR_INVALID, "%s is not a regular file", path);
    if (st.st_size == 0) {
        *out = (cop_file_map){.data = nothing};
        return COP_OK;
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return cop_fail(err, COP_ERR_IO, "cannot map %s: %s", path, strerror(errno));
    *out = (cop_file_map){.data = p, .size = (size_t)st.st_size};
    return COP_OK;
}

cop_status cop_file_map_open(cop_file_map *out, const char *path, cop_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    if (fd < 0)
        return cop_fail(err, COP_ERR_IO, "cannot open %s: %s", path, strerror(errno));
    cop_status status = map_fd(out, fd, path, err);
    close(fd);
    return status;
}

void cop_file_map_close(cop_file_map *map)
{
    if (map->size)
        munmap((void *)map->data, map->size);
    *map = (cop_file_map){0};
}
