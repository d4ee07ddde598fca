#include "model/checkpoint.h"

cop_status cop_checkpoint_open(cop_checkpoint **out, const char *folder, cop_error *err)
{
    return cop_fail(err, COP_ERR_UNSUPPORTED, "%s: no checkpoints yet", folder);
}

void cop_checkpoint_close(cop_checkpoint *checkpoint) {}

const cop_geometry *cop_checkpoint_geometry(const cop_checkpoint *checkpoint)
{
    return NULL;
}

cop_weights_source cop_checkpoint_source(const cop_checkpoint *checkpoint)
{
    return (cop_weights_source){0};
}

uint64_t cop_checkpoint_identity(const cop_checkpoint *checkpoint)
{
    return 0;
}
