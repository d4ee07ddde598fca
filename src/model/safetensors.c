#include "model/safetensors.h"

#include "base/alloc.h"
#include "base/file_map.h"
#include "base/json.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100000000, NAME_SHOWN = 200 };

struct cop_safetensors {
    char *path;
    cop_file_map map; /* empty: the bytes are the caller's */
    const uint8_t *data;
    uint64_t data_bytes;
    cop_json *header; /* owns the names */
    cop_safetensor *tensors;
    size_t count;
};

/* Types by name, with bits per element, in the order of the reference implementation. */
static const char *const type_names[] = {
    "BOOL",    "F4",          "F6_E2M3",     "F6_E3M2", "U8",  "I8",  "F8_E5M2", "F8_E4M3",
    "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",     "U16", "F16", "BF16",    "I32",
    "U32",     "F32",         "C64",         "F64",     "I64", "U64"};
static const uint8_t type_bits[] = {8,  4,  6,  6,  8,  8,  8,  8,  8,  8,  8,
                                    16, 16, 16, 16, 32, 32, 32, 64, 64, 64, 64};
enum { TYPES = sizeof type_bits };
_Static_assert(sizeof type_names / sizeof *type_names == TYPES, "one size per type");

static cop_status fail(const cop_safetensors *file, const char *tensor, cop_error *err,
                       const char *what)
{
    return cop_fail(err, COP_ERR_INVALID, "%s: tensor '%.*s': %s", file->path, NAME_SHOWN, tensor,
                    what);
}

static cop_status parse_type(const cop_safetensors *file, cop_safetensor *t, const cop_json *value,
                             uint32_t *bits, cop_error *err)
{
    const char *name = value ? cop_json_string(value, NULL) : NULL;
    if (!name)
        return fail(file, t->name, err, "dtype is missing, or no string");
    size_t index;
    cop_status status = cop_find_name(name, type_names, TYPES, "unknown dtype", &index, err);
    if (status != COP_OK)
        return err ? cop_fail_prefix(err, "%s: tensor '%.*s'", file->path, NAME_SHOWN, t->name)
                   : status;
    t->dtype = type_names[index];
    *bits = type_bits[index];
    return COP_OK;
}

/* Also the bytes that such a tensor has. */
static cop_status parse_shape(const cop_safetensors *file, cop_safetensor *t, const cop_json *value,
                              uint32_t bits, cop_error *err)
{
    if (!value || cop_json_kind_of(value) != COP_JSON_ARRAY)
        return fail(file, t->name, err, "shape is missing, or no array");
    size_t dims = cop_json_count(value);
    if (dims > COP_SAFETENSORS_DIMS)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: tensor '%.*s': shape has %zu dimensions; at most %d are expected",
                        file->path, NAME_SHOWN, t->name, dims, COP_SAFETENSORS_DIMS);
    uint64_t all_bits = bits;
    for (uint32_t i = 0; i < dims; i++) {
        int64_t extent;
        if (!cop_json_int(cop_json_at(value, i), &extent) || extent < 0)
            return fail(file, t->name, err, "shape has an element that is no count");
        if (__builtin_mul_overflow(all_bits, (uint64_t)extent, &all_bits))
            return fail(file, t->name, err, "shape has more elements than can be addressed");
        t->shape[i] = (uint64_t)extent;
    }
    if (all_bits % 8)
        return fail(file, t->name, err, "shape and dtype do not fill whole bytes");
    t->dims = (uint32_t)dims;
    t->bytes = all_bits / 8;
    return COP_OK;
}

static cop_status parse_offsets(const cop_safetensors *file, cop_safetensor *t,
                                const cop_json *value, cop_error *err)
{
    int64_t begin, end;
    if (!value || cop_json_kind_of(value) != COP_JSON_ARRAY || cop_json_count(value) != 2 ||
        !cop_json_int(cop_json_at(value, 0), &begin) || !cop_json_int(cop_json_at(value, 1), &end))
        return fail(file, t->name, err, "data_offsets is missing, or not two integers");
    if (begin < 0 || end < begin)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: tensor '%.*s': data_offsets [%" PRId64 ", %" PRId64
                        "] do not begin at or after 0 and end after they begin",
                        file->path, NAME_SHOWN, t->name, begin, end);
    if ((uint64_t)end > file->data_bytes)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: tensor '%.*s': data_offsets end at %" PRId64
                        ", but the file has %" PRIu64 " bytes of data: is it cut short?",
                        file->path, NAME_SHOWN, t->name, end, file->data_bytes);
    if ((uint64_t)(end - begin) != t->bytes)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: tensor '%.*s': data_offsets span %" PRId64
                        " bytes, but dtype and shape make %" PRIu64,
                        file->path, NAME_SHOWN, t->name, end - begin, t->bytes);
    t->data = file->data + begin;
    return COP_OK;
}

static cop_status parse_tensor(const cop_safetensors *file, cop_safetensor *t, const char *name,
                               const cop_json *value, cop_error *err)
{
    uint32_t bits = 0;
    t->name = name;
    if (cop_json_kind_of(value) != COP_JSON_OBJECT)
        return fail(file, name, err, "is no object");
    cop_status status = parse_type(file, t, cop_json_get(value, "dtype"), &bits, err);
    if (status == COP_OK)
        status = parse_shape(file, t, cop_json_get(value, "shape"), bits, err);
    if (status == COP_OK)
        status = parse_offsets(file, t, cop_json_get(value, "data_offsets"), err);
    return status;
}

static cop_status check_metadata(const cop_safetensors *file, const cop_json *value, cop_error *err)
{
    if (cop_json_kind_of(value) != COP_JSON_OBJECT)
        return cop_fail(err, COP_ERR_INVALID, "%s: __metadata__ is no object", file->path);
    const char *key;
    const cop_json *text;
    for (void *i = NULL; (i = cop_json_next(value, i, &key, &text));)
        if (!cop_json_string(text, NULL))
            return cop_fail(err, COP_ERR_INVALID, "%s: __metadata__: '%.*s' is no string",
                            file->path, NAME_SHOWN, key);
    return COP_OK;
}

static cop_status parse_tensors(cop_safetensors *file, cop_error *err)
{
    const char *name;
    const cop_json *value;
    file->tensors = cop_calloc(cop_json_count(file->header) + 1, sizeof *file->tensors);
    for (void *i = NULL; (i = cop_json_next(file->header, i, &name, &value));) {
        cop_status status;
        if (strcmp(name, "__metadata__") == 0)
            status = check_metadata(file, value, err);
        else
            status = parse_tensor(file, &file->tensors[file->count++], name, value, err);
        if (status != COP_OK)
            return status;
    }
    return COP_OK;
}

static int by_place(const void *a, const void *b)
{
    const cop_safetensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const cop_safetensor *)a)->name, ((const cop_safetensor *)b)->name);
}

/* Every byte of the data belongs to one tensor. Leaves the tensors in order of place. */
static cop_status check_cover(const cop_safetensors *file, cop_error *err)
{
    uint64_t covered = 0;
    qsort(file->tensors, file->count, sizeof *file->tensors, by_place);
    for (size_t i = 0; i < file->count; i++) {
        const cop_safetensor *t = &file->tensors[i];
        uint64_t begin = (uint64_t)(t->data - file->data);
        if (begin < covered)
            return cop_fail(err, COP_ERR_INVALID,
                            "%s: tensor '%.*s' begins at byte %" PRIu64
                            " of the data and overlaps '%.*s', which ends at %" PRIu64,
                            file->path, NAME_SHOWN, t->name, begin, NAME_SHOWN,
                            file->tensors[i - 1].name, covered);
        if (begin > covered)
            return cop_fail(err, COP_ERR_INVALID,
                            "%s: bytes %" PRIu64 " to %" PRIu64
                            " of the data, before tensor '%.*s', belong to no tensor",
                            file->path, covered, begin, NAME_SHOWN, t->name);
        covered = begin + t->bytes;
    }
    if (covered != file->data_bytes)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: %" PRIu64 " bytes after the last tensor belong to no tensor",
                        file->path, file->data_bytes - covered);
    return COP_OK;
}

static cop_status parse_header(cop_safetensors *file, const uint8_t *bytes, size_t size,
                               cop_error *err)
{
    uint64_t header = 0;
    if (size < LENGTH_BYTES)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: %zu bytes; a safetensors file has a header length of 8 bytes first",
                        file->path, size);
    for (int i = 0; i < LENGTH_BYTES; i++)
        header |= (uint64_t)bytes[i] << (8 * i);
    if (header > MAX_HEADER_BYTES)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: a header length of %" PRIu64 " bytes; the format has at most %d",
                        file->path, header, MAX_HEADER_BYTES);
    if (header > size - LENGTH_BYTES)
        return cop_fail(err, COP_ERR_INVALID,
                        "%s: a header length of %" PRIu64 " bytes, but only %zu follow: is the "
                        "file cut short?",
                        file->path, header, size - LENGTH_BYTES);
    const char *text = (const char *)bytes + LENGTH_BYTES;
    if (header == 0 || text[0] != '{')
        return cop_fail(err, COP_ERR_INVALID, "%s: the header does not begin with '{'", file->path);
    file->data = bytes + LENGTH_BYTES + header;
    file->data_bytes = size - LENGTH_BYTES - header;
    char name[COP_ERROR_TEXT];
    snprintf(name, sizeof name, "%s: header", file->path);
    return cop_json_parse(&file->header, text, header, name, err);
}

static cop_status parse(cop_safetensors *file, const uint8_t *bytes, size_t size, cop_error *err)
{
    cop_status status = parse_header(file, bytes, size, err);
    if (status == COP_OK)
        status = parse_tensors(file, err);
    if (status == COP_OK)
        status = check_cover(file, err);
    if (status == COP_OK)
        qsort(file->tensors, file->count, sizeof *file->tensors, by_name);
    return status;
}

cop_status cop_safetensors_parse(cop_safetensors **out, const uint8_t *bytes, size_t size,
                                 const char *name, cop_error *err)
{
    cop_safetensors *file = cop_calloc(1, sizeof *file);
    file->path = cop_strdup(name);
    cop_status status = parse(file, bytes, size, err);
    if (status == COP_OK)
        *out = file;
    else
        cop_safetensors_close(file);
    return status;
}

cop_status cop_safetensors_open(cop_safetensors **out, const char *path, cop_error *err)
{
    cop_file_map map;
    cop_status status = cop_file_map_open(&map, path, err);
    if (status != COP_OK)
        return status;
    cop_safetensors *file;
    status = cop_safetensors_parse(&file, map.data, map.size, path, err);
    if (status != COP_OK) {
        cop_file_map_close(&map);
        return status;
    }
    file->map = map;
    *out = file;
    return COP_OK;
}

void cop_safetensors_close(cop_safetensors *file)
{
    if (!file)
        return;
    cop_json_free(file->header);
    cop_file_map_close(&file->map);
    free(file->tensors);
    free(file->path);
    free(file);
}

size_t cop_safetensors_count(const cop_safetensors *file)
{
    return file->count;
}

const cop_safetensor *cop_safetensors_at(const cop_safetensors *file, size_t i)
{
    return i < file->count ? &file->tensors[i] : NULL;
}

const cop_safetensor *cop_safetensors_find(const cop_safetensors *file, const char *name)
{
    const cop_safetensor key = {.name = name};
    return bsearch(&key, file->tensors, file->count, sizeof key, by_name);
}

const char *cop_safetensors_path(const cop_safetensors *file)
{
    return file->path;
}
