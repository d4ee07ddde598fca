/* A file as memory, read-only. Whoever shortens the file meanwhile kills the reader (SIGBUS), as
 * with any mapping. */
#ifndef COP_BASE_FILE_MAP_H
#define COP_BASE_FILE_MAP_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *data; /* not NULL, whatever the size */
    size_t size;
} cop_file_map;

/* COP_ERR_IO with path and reason; COP_ERR_INVALID for what is no regular file. */
cop_status cop_file_map_open(cop_file_map *out, const char *path, cop_error *err);
void cop_file_map_close(cop_file_map *map); /* of a zeroed one: nothing */

#endif
