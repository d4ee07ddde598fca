/* JSON (RFC 8259), read whole: jansson behind a narrow door. Strings are UTF-8, checked; an object
 * with the same key twice is an error, as is anything after the value, half a surrogate pair, an
 * integer beyond 64 bits and a key with a zero in it. Values are borrowed from the document that
 * cop_json_free ends. */
#ifndef COP_BASE_JSON_H
#define COP_BASE_JSON_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct json_t cop_json;

typedef enum {
    COP_JSON_NULL,
    COP_JSON_BOOL,
    COP_JSON_INTEGER, /* fits int64 */
    COP_JSON_REAL,
    COP_JSON_STRING,
    COP_JSON_ARRAY,
    COP_JSON_OBJECT
} cop_json_kind;

/* COP_ERR_INVALID: "NAME:LINE:COLUMN: what". `name` is for the message alone. */
cop_status cop_json_parse(cop_json **out, const char *text, size_t bytes, const char *name,
                          cop_error *err);
/* The value at the start of the text, whatever follows it; *consumed: its bytes. `line`: of the
 * first byte, for the message. */
cop_status cop_json_parse_first(cop_json **out, const char *text, size_t bytes, size_t *consumed,
                                const char *name, uint64_t line, cop_error *err);
/* A whole file, of max_bytes at the most. COP_ERR_IO if it cannot be read. */
cop_status cop_json_load(cop_json **out, const char *path, size_t max_bytes, cop_error *err);
void cop_json_free(cop_json *document); /* NULL is legal */

cop_json_kind cop_json_kind_of(const cop_json *value); /* NULL: COP_JSON_NULL */
const char *cop_json_kind_name(cop_json_kind kind);    /* "a string" */

/* Of an object: NULL if it has no such key, or is no object. A null value counts as none. */
const cop_json *cop_json_get(const cop_json *object, const char *key);
/* False, and *out as it was, if the value is NULL or of another kind. */
bool cop_json_bool(const cop_json *value, bool *out);
bool cop_json_int(const cop_json *value, int64_t *out);
bool cop_json_number(const cop_json *value, double *out); /* an integer too */
/* NULL if it is no string; else zero-terminated UTF-8 of *bytes bytes. Who asks for no length gets
 * NULL for a string with a zero in it, too. */
const char *cop_json_string(const cop_json *value, size_t *bytes);

size_t cop_json_count(const cop_json *value); /* of an array or object; else 0 */
const cop_json *cop_json_at(const cop_json *array, size_t index); /* NULL past the end */

/* Members of an object, in the order of the file:
 *     for (void *i = NULL; (i = cop_json_next(object, i, &key, &value));) ... */
void *cop_json_next(const cop_json *object, void *iterator, const char **key,
                    const cop_json **value);

#endif
