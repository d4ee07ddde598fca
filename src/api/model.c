#define _GNU_SOURCE /* CPU affinity */

#include "api/handles.h"

#include "base/alloc.h"
#include "base/text.h"
#include "model/checkpoint.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *or_default(const char *given, const char *otherwise)
{
    return given && given[0] ? given : otherwise;
}

/* Cores that this process may run on. */
static uint32_t allowed_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (uint32_t)CPU_COUNT(&set);
    long cores = sysconf(_SC_NPROCESSORS_ONLN); /* more of them than a cpu_set_t holds */
    return cores > 0 ? (uint32_t)cores : 1;
}

static cop_status read_options(cop_model *model, const cop_model_options *options, cop_error *err)
{
    static const char *const precisions[] = {"bf16", "float32"}, *const kinds[] = {"bf16", "int8"};
    enum { MOST_THREADS = 1024 };
    size_t precision, kind;
    if (!options)
        return cop_fail(err, COP_ERR_INVALID, "model options: neither a path nor a preset");
    cop_status status = cop_find_name(or_default(options->precision, "bf16"), precisions, 2,
                                      "model options: unknown precision", &precision, err);
    if (status == COP_OK)
        status = cop_find_name(or_default(options->weights, "bf16"), kinds, 2,
                               "model options: unknown weights", &kind, err);
    if (status != COP_OK)
        return status;
    if (options->threads > MOST_THREADS)
        return cop_fail(err, COP_ERR_INVALID, "model options: %u threads; at most %d",
                        options->threads, MOST_THREADS);
    model->float32 = precision == 1;
    model->int8_weights = kind == 1;
    model->deterministic = options->deterministic;
    model->device_index = options->device_index;
    model->threads = options->threads ? options->threads : allowed_cores();
    model->isa = options->isa && options->isa[0] ? cop_strdup(options->isa) : NULL;
    return COP_OK;
}

/* The last part of a path: "a/b/" is b. */
static char *name_of(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return cop_strndup(path + start, end - start);
}

static cop_status open_weights(cop_model *model, const cop_model_options *options, cop_error *err)
{
    const char *path = or_default(options->path, NULL);
    const char *preset = or_default(options->preset, NULL);
    if (!path && !preset)
        return cop_fail(err, COP_ERR_INVALID,
                        "model options: neither a path (a checkpoint folder) nor a preset");
    cop_status status = cop_weights_open(&model->weights, path, preset, options->seed, err);
    if (status != COP_OK)
        return status;
    model->geometry = cop_weights_geometry(model->weights);
    model->name = path ? name_of(path) : cop_strdup(preset);
    return path ? cop_model_open_text(model, path, err) : COP_OK;
}

cop_status cop_model_open(cop_model **out, const cop_model_options *options, cop_error *err)
{
    cop_model *model = cop_calloc(1, sizeof *model);
    cop_status status = read_options(model, options, err);
    if (status == COP_OK)
        status = cop_device_find(or_default(options->device, "cpu"), &model->device_ops, err);
    if (status == COP_OK)
        status = open_weights(model, options, err);
    if (status != COP_OK) {
        cop_model_close(model);
        return status;
    }
    *out = model;
    return COP_OK;
}

void cop_model_close(cop_model *model)
{
    if (!model)
        return;
    cop_model_close_text(model);
    cop_weights_close(model->weights);
    free(model->name);
    free(model->isa);
    free(model);
}

void cop_model_describe(const cop_model *model, cop_model_info *out)
{
    const cop_geometry *g = model->geometry;
    const cop_checkpoint *checkpoint = cop_weights_checkpoint(model->weights);
    *out = (cop_model_info){
        .name = model->name,
        .family = checkpoint ? cop_checkpoint_family(checkpoint) : NULL,
        .device = model->device[0] ? model->device : model->device_ops->name,
        .layers = g->layers,
        .hidden = g->hidden,
        .vocab = g->vocab,
        .max_context = g->max_context,
        .parameters = cop_geometry_parameters(g),
        .kv_bytes_per_token = cop_geometry_kv_bytes(g, model->float32 ? 4 : 2),
        .has_tokenizer = model->tokenizer != NULL,
    };
}

double cop_model_work(const cop_model *model, uint32_t cached, uint32_t computed)
{
    return cop_geometry_work(model->geometry, cached, computed);
}

uint64_t cop_model_identity(cop_model *model)
{
    if (!model->identity_known)
        model->identity = cop_weights_identity(model->weights);
    model->identity_known = true;
    return model->identity;
}
