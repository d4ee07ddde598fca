#define _GNU_SOURCE /* dladdr */

#include "base/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The folder of the program or shared library that holds this function; "" if nobody knows. */
static void own_folder(char folder[PATH_MAX])
{
    Dl_info info;
    folder[0] = '\0';
    if (!dladdr((void *)own_folder, &info) || !realpath(info.dli_fname, folder)) {
        folder[0] = '\0';
        return;
    }
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
}

static void find_file(const char *file, const char *override, char path[2 * PATH_MAX])
{
    static const char *const places[] = {"", "../lib/coppice/"};
    char folder[PATH_MAX];
    const char *given = getenv(override);
    if (given && given[0]) {
        snprintf(path, 2 * PATH_MAX, "%s", given);
        return;
    }
    own_folder(folder);
    for (size_t i = 0; folder[0] && i < sizeof places / sizeof *places; i++) {
        snprintf(path, 2 * PATH_MAX, "%s/%s%s", folder, places[i], file);
        if (access(path, R_OK) == 0)
            return;
    }
    snprintf(path, 2 * PATH_MAX, "%s", file);
}

cop_status cop_plugin_find(const char *file, const char *override, const char *symbol,
                           uint32_t version, const void **out, cop_error *err)
{
    char path[2 * PATH_MAX];
    find_file(file, override, path);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return cop_fail(err, COP_ERR_UNSUPPORTED,
                        "plugin %s: %s (it is built where nvcc is; %s can say where it is)", file,
                        dlerror(), override);
    const uint32_t *found = dlsym(handle, symbol);
    if (!found)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "plugin %s has no %s", path, symbol);
    if (*found != version)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "%s is of another version (%u, wanted %u)", file,
                        *found, version);
    *out = found;
    return COP_OK;
}
