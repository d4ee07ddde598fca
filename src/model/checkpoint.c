#include "model/checkpoint.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/json.h"
#include "model/checkpoint_config.h"
#include "model/checkpoint_files.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MODEL_TENSORS = COP_TENSOR_NORM1, /* EMBED, HEAD, FINAL_NORM: of the whole model */
    LAYER_TENSORS = COP_TENSORS - MODEL_TENSORS,
    MAX_CONFIG_BYTES = 1 << 20,
    NAME_SHOWN = 200
};

/* Within "model.layers.N." from NORM1 on. */
static const char *const tensor_names[COP_TENSORS] = {
    [COP_TENSOR_EMBED] = "model.embed_tokens.weight",
    [COP_TENSOR_HEAD] = "lm_head.weight",
    [COP_TENSOR_FINAL_NORM] = "model.norm.weight",
    [COP_TENSOR_NORM1] = "input_layernorm.weight",
    [COP_TENSOR_Q] = "self_attn.q_proj.weight",
    [COP_TENSOR_K] = "self_attn.k_proj.weight",
    [COP_TENSOR_V] = "self_attn.v_proj.weight",
    [COP_TENSOR_Q_BIAS] = "self_attn.q_proj.bias",
    [COP_TENSOR_K_BIAS] = "self_attn.k_proj.bias",
    [COP_TENSOR_V_BIAS] = "self_attn.v_proj.bias",
    [COP_TENSOR_O] = "self_attn.o_proj.weight",
    [COP_TENSOR_NORM2] = "post_attention_layernorm.weight",
    [COP_TENSOR_GATE] = "mlp.gate_proj.weight",
    [COP_TENSOR_UP] = "mlp.up_proj.weight",
    [COP_TENSOR_DOWN] = "mlp.down_proj.weight",
    [COP_TENSOR_Q_NORM] = "self_attn.q_norm.weight",
    [COP_TENSOR_K_NORM] = "self_attn.k_norm.weight",
};
static const char layer_prefix[] = "model.layers.";

struct cop_checkpoint {
    char *folder, *name;
    cop_checkpoint_config config; /* geometry.name: `name` */
    cop_checkpoint_files files;
    cop_weight_rows *tensors; /* [place_of]; data NULL: not part of this model */
    uint32_t *stops;
    size_t stop_count;
};

static size_t place_of(cop_tensor tensor, uint32_t layer)
{
    return (int)tensor < MODEL_TENSORS ? tensor : tensor + (size_t)layer * LAYER_TENSORS;
}

/* ---- The folder ---- */

/* The last part of the path, as the user wrote it where that names a folder. */
static char *base_name(const char *folder)
{
    char real[PATH_MAX];
    size_t end = strlen(folder);
    while (end > 1 && folder[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && folder[start - 1] != '/')
        start--;
    bool dots = strspn(folder + start, "./") == strlen(folder + start);
    if (dots && realpath(folder, real))
        return cop_strdup(real[1] ? strrchr(real, '/') + 1 : real);
    return cop_strndup(folder + start, end - start);
}

static cop_status check_folder(const char *folder, cop_error *err)
{
    struct stat st;
    if (stat(folder, &st) != 0)
        return cop_fail(err, COP_ERR_INVALID, "%s: no such folder; a checkpoint is expected",
                        folder);
    if (!S_ISDIR(st.st_mode))
        return cop_fail(err, COP_ERR_INVALID,
                        "%s is a file; the folder of a checkpoint is expected", folder);
    if (!cop_checkpoint_has(folder, "config.json"))
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: has no config.json; the folder of a Hugging Face checkpoint is "
                        "expected",
                        folder);
    return COP_OK;
}

static cop_status read_stops(cop_checkpoint *c, const cop_json *config, const char *config_path,
                             cop_error *err)
{
    uint32_t vocab = c->config.geometry.vocab;
    cop_status status = COP_OK;
    if (cop_checkpoint_has(c->folder, "generation_config.json")) {
        cop_json *generation = NULL;
        char *path = cop_checkpoint_path(c->folder, "generation_config.json");
        status = cop_json_load(&generation, path, MAX_CONFIG_BYTES, err);
        if (status == COP_OK)
            status =
                cop_checkpoint_stops_parse(&c->stops, &c->stop_count, generation, vocab, path, err);
        cop_json_free(generation);
        free(path);
    }
    if (status == COP_OK && c->stop_count == 0)
        status =
            cop_checkpoint_stops_parse(&c->stops, &c->stop_count, config, vocab, config_path, err);
    return status;
}

static cop_status read_config(cop_checkpoint *c, cop_error *err)
{
    char *path = cop_checkpoint_path(c->folder, "config.json");
    cop_json *root = NULL;
    cop_status status = cop_json_load(&root, path, MAX_CONFIG_BYTES, err);
    if (status == COP_OK)
        status = cop_checkpoint_config_parse(&c->config, root, path, err);
    if (status == COP_OK)
        status = read_stops(c, root, path, err);
    c->config.geometry.name = c->name;
    cop_json_free(root);
    free(path);
    return status;
}

/* ---- The tensors ---- */

static void name_tensor(char *out, size_t bytes, cop_tensor tensor, uint32_t layer)
{
    if ((int)tensor < MODEL_TENSORS)
        snprintf(out, bytes, "%s", tensor_names[tensor]);
    else
        snprintf(out, bytes, "%s%" PRIu32 ".%s", layer_prefix, layer, tensor_names[tensor]);
}

/* "[2, 3]", of as many dimensions as fit. */
static void print_shape(char *out, size_t bytes, const uint64_t *shape, uint32_t dims)
{
    size_t n = (size_t)snprintf(out, bytes, "[");
    for (uint32_t i = 0; i < dims && n < bytes; i++)
        n += (size_t)snprintf(out + n, bytes - n, "%s%" PRIu64, i ? ", " : "", shape[i]);
    if (n < bytes)
        snprintf(out + n, bytes - n, "]");
}

static cop_status check_tensor(const cop_safetensor *t, const char *path, cop_tensor_shape shape,
                               cop_dtype *dtype, cop_error *err)
{
    const uint64_t expected[] = {shape.rows, shape.columns};
    const uint32_t dims = shape.columns == 1 ? 1 : 2;
    if (t->dims != dims || memcmp(t->shape, expected, dims * sizeof *expected) != 0) {
        char is[256], wanted[64];
        print_shape(is, sizeof is, t->shape, t->dims);
        print_shape(wanted, sizeof wanted, expected, dims);
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: tensor '%s' has the shape %s, but by config.json it is %s", path,
                        t->name, is, wanted);
    }
    static const char *const names[] = {[COP_BF16] = "BF16", [COP_F16] = "F16", [COP_F32] = "F32"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(t->dtype, names[i]) == 0) {
            *dtype = (cop_dtype)i;
            return COP_OK;
        }
    }
    return cop_fail(err, COP_ERR_UNSUPPORTED,
                    "%s: tensor '%s' is of %s, which is not supported; F32, F16 and BF16 are", path,
                    t->name, t->dtype);
}

typedef struct {
    char first[128];
    size_t count;
} missing_tensors;

static cop_status place_tensor(cop_checkpoint *c, cop_tensor tensor, uint32_t layer,
                               missing_tensors *missing, cop_error *err)
{
    char name[128];
    const char *path;
    if (cop_tensor_layers(&c->config.geometry, tensor) == 0)
        return COP_OK;
    name_tensor(name, sizeof name, tensor, layer);
    const cop_safetensor *t = cop_checkpoint_files_find(&c->files, name, &path);
    if (!t) {
        if (missing->count++ == 0)
            memcpy(missing->first, name, sizeof name);
        return COP_OK;
    }
    cop_dtype dtype = COP_BF16;
    cop_tensor_shape shape = cop_tensor_shape_of(&c->config.geometry, tensor);
    cop_status status = check_tensor(t, path, shape, &dtype, err);
    if (status == COP_OK)
        c->tensors[place_of(tensor, layer)] = (cop_weight_rows){dtype, t->data};
    return status;
}

static cop_status place_tensors(cop_checkpoint *c, cop_error *err)
{
    const cop_geometry *g = &c->config.geometry;
    missing_tensors missing = {.count = 0};
    cop_status status = COP_OK;
    c->tensors = cop_calloc(MODEL_TENSORS + (size_t)g->layers * LAYER_TENSORS, sizeof *c->tensors);
    for (uint32_t t = 0; status == COP_OK && t < MODEL_TENSORS; t++)
        status = place_tensor(c, t, 0, &missing, err);
    for (uint32_t layer = 0; layer < g->layers; layer++)
        for (uint32_t t = MODEL_TENSORS; status == COP_OK && t < COP_TENSORS; t++)
            status = place_tensor(c, t, layer, &missing, err);
    if (status != COP_OK || missing.count == 0)
        return status;
    char more[48] = "";
    if (missing.count > 1)
        snprintf(more, sizeof more, ", and %zu more", missing.count - 1);
    return cop_fail(err, COP_ERR_INVALID, "%s: tensor '%s' is missing%s", c->folder, missing.first,
                    more);
}

/* The table of frequencies that old Llama checkpoints carry is made anew. */
static bool is_frequencies(const char *name)
{
    const char *last = strstr(name, "rotary_emb.inv_freq");
    return last && strcmp(last, "rotary_emb.inv_freq") == 0;
}

/* False for what changes the arithmetic and would be left out: a bias, a scale, a norm. */
static bool is_known(const cop_checkpoint *c, const char *name)
{
    const size_t prefix = sizeof layer_prefix - 1;
    if (is_frequencies(name))
        return true;
    if (strncmp(name, layer_prefix, prefix) != 0) {
        for (uint32_t t = 0; t < MODEL_TENSORS;
             t++) /* a tied model may have a head: the embedding */
            if (strcmp(name, tensor_names[t]) == 0)
                return true;
        return false;
    }
    char *end;
    const char *digits = name + prefix;
    if (*digits < '0' || *digits > '9' || (*digits == '0' && digits[1] != '.'))
        return false;
    unsigned long layer = strtoul(digits, &end, 10);
    if (*end != '.' || layer >= c->config.geometry.layers)
        return false;
    for (uint32_t t = MODEL_TENSORS; t < COP_TENSORS; t++)
        if (strcmp(end + 1, tensor_names[t]) == 0)
            return cop_tensor_layers(&c->config.geometry, t) > 0;
    return false;
}

static cop_status check_strangers(const cop_checkpoint *c, cop_error *err)
{
    for (size_t i = 0; i < c->files.count; i++) {
        for (size_t j = 0; j < cop_safetensors_count(c->files.shards[i]); j++) {
            const char *name = cop_safetensors_at(c->files.shards[i], j)->name;
            if (!is_known(c, name))
                return cop_fail(err, COP_ERR_UNSUPPORTED,
                                "%s: tensor '%.*s' has no place in a %s model of %u layers",
                                cop_safetensors_path(c->files.shards[i]), NAME_SHOWN, name,
                                c->config.family, c->config.geometry.layers);
        }
    }
    return COP_OK;
}

/* ---- The source ---- */

static size_t tensor_bytes(const cop_geometry *g, cop_tensor tensor, cop_dtype dtype)
{
    cop_tensor_shape shape = cop_tensor_shape_of(g, tensor);
    return (size_t)shape.rows * shape.columns * cop_dtype_bytes(dtype);
}

/* Whoever reads the first row will read them all: without a word, a mapping is read in small
 * pieces, page fault by page fault. */
static void read_ahead(const void *data, size_t bytes)
{
    const size_t before = (uintptr_t)data % (uintptr_t)sysconf(_SC_PAGESIZE);
    madvise((uint8_t *)data - before, before + bytes, MADV_WILLNEED);
}

static cop_status read_rows(const void *self, cop_tensor tensor, uint32_t layer, uint32_t row,
                            uint32_t rows, uint16_t *scratch, cop_weight_rows *out, cop_error *err)
{
    const cop_checkpoint *c = self;
    const cop_weight_rows *t = &c->tensors[place_of(tensor, layer)];
    cop_tensor_shape shape = cop_tensor_shape_of(&c->config.geometry, tensor);
    COP_CHECK(t->data && (uint64_t)row + rows <= shape.rows);
    if (row == 0)
        read_ahead(t->data, tensor_bytes(&c->config.geometry, tensor, t->dtype));
    size_t offset = (size_t)row * shape.columns * cop_dtype_bytes(t->dtype);
    *out = (cop_weight_rows){t->dtype, (const uint8_t *)t->data + offset};
    return COP_OK;
}

static uint64_t hash_tensor(const cop_checkpoint *c, cop_tensor tensor, uint32_t layer,
                            uint64_t hash)
{
    const cop_weight_rows *t = &c->tensors[place_of(tensor, layer)];
    if (!t->data)
        return hash;
    const uint32_t head[] = {tensor, layer, t->dtype};
    size_t bytes = tensor_bytes(&c->config.geometry, tensor, t->dtype);
    read_ahead(t->data, bytes);
    return cop_hash(t->data, bytes, cop_hash(head, sizeof head, hash));
}

uint64_t cop_checkpoint_identity(const cop_checkpoint *c)
{
    const cop_geometry *g = &c->config.geometry;
    uint64_t hash = cop_geometry_hash(g);
    for (uint32_t t = 0; t < MODEL_TENSORS; t++)
        hash = hash_tensor(c, t, 0, hash);
    for (uint32_t layer = 0; layer < g->layers; layer++)
        for (uint32_t t = MODEL_TENSORS; t < COP_TENSORS; t++)
            hash = hash_tensor(c, t, layer, hash);
    return hash;
}

/* ---- The whole ---- */

cop_status cop_checkpoint_open(cop_checkpoint **out, const char *folder, cop_error *err)
{
    cop_status status = check_folder(folder, err);
    if (status != COP_OK)
        return status;
    cop_checkpoint *c = cop_calloc(1, sizeof *c);
    c->folder = cop_strdup(folder);
    c->name = base_name(folder);
    status = read_config(c, err);
    if (status == COP_OK)
        status = cop_checkpoint_files_init(&c->files, folder, err);
    if (status == COP_OK)
        status = place_tensors(c, err);
    if (status == COP_OK)
        status = check_strangers(c, err);
    if (status == COP_OK)
        *out = c;
    else
        cop_checkpoint_close(c);
    return status;
}

void cop_checkpoint_close(cop_checkpoint *c)
{
    if (!c)
        return;
    cop_checkpoint_files_fini(&c->files);
    free(c->tensors);
    free(c->stops);
    free(c->name);
    free(c->folder);
    free(c);
}

const cop_geometry *cop_checkpoint_geometry(const cop_checkpoint *c)
{
    return &c->config.geometry;
}

const char *cop_checkpoint_family(const cop_checkpoint *c)
{
    return c->config.family;
}

cop_weights_source cop_checkpoint_source(const cop_checkpoint *c)
{
    return (cop_weights_source){.read = read_rows, .self = c};
}

const uint32_t *cop_checkpoint_stops(const cop_checkpoint *c, size_t *count)
{
    *count = c->stop_count;
    return c->stops;
}
