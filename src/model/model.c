/* A preset with seeded weights, or a checkpoint. */
#include "base/alloc.h"
#include "base/hash.h"
#include "model/checkpoint.h"
#include "model/weights.h"

#include <stdlib.h>

struct cop_weights {
    const cop_geometry *geometry;
    cop_seeded_weights seeded;
    cop_checkpoint *checkpoint; /* NULL: seeded */
    char *path;
};

cop_status cop_weights_open(cop_weights **out, const char *path, const char *preset, uint64_t seed,
                            cop_error *err)
{
    cop_weights *w = cop_calloc(1, sizeof *w);
    cop_status status;
    if (path && path[0]) {
        status = cop_checkpoint_open(&w->checkpoint, path, err);
        if (status == COP_OK) {
            w->geometry = cop_checkpoint_geometry(w->checkpoint);
            w->path = cop_strdup(path);
        }
    } else {
        status = cop_geometry_find(preset, &w->geometry, err);
    }
    if (status != COP_OK) {
        cop_weights_close(w);
        return status;
    }
    w->seeded = (cop_seeded_weights){.geometry = w->geometry, .seed = seed};
    *out = w;
    return COP_OK;
}

void cop_weights_close(cop_weights *w)
{
    if (!w)
        return;
    cop_checkpoint_close(w->checkpoint);
    free(w->path);
    free(w);
}

const cop_geometry *cop_weights_geometry(const cop_weights *w)
{
    return w->geometry;
}

cop_weights_source cop_weights_source_of(const cop_weights *w)
{
    return w->checkpoint ? cop_checkpoint_source(w->checkpoint) : cop_weights_seeded(&w->seeded);
}

const cop_checkpoint *cop_weights_checkpoint(const cop_weights *w)
{
    return w->checkpoint;
}

uint64_t cop_weights_identity(const cop_weights *w)
{
    if (w->checkpoint)
        return cop_checkpoint_identity(w->checkpoint);
    uint64_t seeded[] = {w->seeded.seed, cop_geometry_hash(w->geometry)};
    return cop_hash(seeded, sizeof seeded, 0);
}

const char *cop_weights_path(const cop_weights *w)
{
    return w->path;
}
