#include "base/json.h"

#include "base/file_map.h"

#include <jansson.h>
#include <string.h>

static cop_status parse(cop_json **out, const char *text, size_t bytes, size_t flags,
                        size_t *consumed, const char *name, uint64_t line, cop_error *err)
{
    json_error_t error;
    json_t *root = json_loadb(
        text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, &error);
    if (!root)
        return cop_fail(
            err, COP_ERR_INVALID, "%s:%llu:%d: %s", name,
            (unsigned long long)(line + (uint64_t)(error.line > 0 ? error.line - 1 : 0)),
            error.column, error.text);
    if (consumed)
        *consumed = (size_t)error.position;
    *out = root;
    return COP_OK;
}

cop_status cop_json_parse(cop_json **out, const char *text, size_t bytes, const char *name,
                          cop_error *err)
{
    return parse(out, text, bytes, 0, NULL, name, 1, err);
}

cop_status cop_json_parse_first(cop_json **out, const char *text, size_t bytes, size_t *consumed,
                                const char *name, uint64_t line, cop_error *err)
{
    return parse(out, text, bytes, JSON_DISABLE_EOF_CHECK, consumed, name, line, err);
}

cop_status cop_json_load(cop_json **out, const char *path, size_t max_bytes, cop_error *err)
{
    cop_file_map map;
    cop_status status = cop_file_map_open(&map, path, err);
    if (status != COP_OK)
        return status;
    if (map.size > max_bytes)
        status = cop_fail(err, COP_ERR_INVALID, "%s: %zu bytes; at most %zu are expected here",
                          path, map.size, max_bytes);
    else
        status = cop_json_parse(out, (const char *)map.data, map.size, path, err);
    cop_file_map_close(&map);
    return status;
}

void cop_json_free(cop_json *document)
{
    json_decref(document);
}

cop_json_kind cop_json_kind_of(const cop_json *value)
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        return COP_JSON_OBJECT;
    case JSON_ARRAY:
        return COP_JSON_ARRAY;
    case JSON_STRING:
        return COP_JSON_STRING;
    case JSON_INTEGER:
        return COP_JSON_INTEGER;
    case JSON_REAL:
        return COP_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return COP_JSON_BOOL;
    default:
        return COP_JSON_NULL;
    }
}

const char *cop_json_kind_name(cop_json_kind kind)
{
    static const char *const names[] = {"null",     "true or false", "an integer", "a number",
                                        "a string", "an array",      "an object"};
    return names[kind];
}

const cop_json *cop_json_get(const cop_json *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

bool cop_json_bool(const cop_json *value, bool *out)
{
    if (!json_is_boolean(value))
        return false;
    *out = json_is_true(value);
    return true;
}

bool cop_json_int(const cop_json *value, int64_t *out)
{
    if (!json_is_integer(value))
        return false;
    *out = json_integer_value(value);
    return true;
}

bool cop_json_number(const cop_json *value, double *out)
{
    if (!json_is_number(value))
        return false;
    *out = json_number_value(value);
    return true;
}

const char *cop_json_string(const cop_json *value, size_t *bytes)
{
    if (!json_is_string(value))
        return NULL;
    const char *text = json_string_value(value);
    if (bytes)
        *bytes = json_string_length(value);
    else if (strlen(text) != json_string_length(value))
        return NULL;
    return text;
}

size_t cop_json_count(const cop_json *value)
{
    return json_is_object(value) ? json_object_size(value) : json_array_size(value);
}

const cop_json *cop_json_at(const cop_json *array, size_t index)
{
    return json_array_get(array, index);
}

void *cop_json_next(const cop_json *object, void *iterator, const char **key,
                    const cop_json **value)
{
    json_t *o = (json_t *)object; /* jansson's iterators are not const */
    void *next = iterator ? json_object_iter_next(o, iterator) : json_object_iter(o);
    if (next) {
        *key = json_object_iter_key(next);
        *value = json_object_iter_value(next);
    }
    return next;
}
