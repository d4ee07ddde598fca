/* The part of YAML that a configuration needs, as a tree: mappings, lists, scalars.
 *
 *     cache: {eviction: "lru"}        a mapping whose one value is a mapping
 *                                     whose one value is a scalar, quoted, key "eviction"
 *
 * Anchors, aliases, tags, keys that are no scalars, and a second document are refused. A key given
 * twice is not noticed here: only the table of keys knows how many there can be. */
#ifndef COP_CONFIG_YAML_H
#define COP_CONFIG_YAML_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum { COP_YAML_SCALAR, COP_YAML_MAPPING, COP_YAML_LIST } cop_yaml_kind;

typedef struct cop_yaml_node cop_yaml_node;
struct cop_yaml_node {
    cop_yaml_kind kind;
    char *key;                   /* in a mapping: owned; elsewhere NULL */
    char *text;                  /* of a scalar: owned, UTF-8; "" for one left out; else NULL */
    bool quoted;                 /* scalar in any style but plain */
    int key_line, key_column;    /* from 1 */
    int line, column;            /* of the value, from 1 */
    cop_yaml_node *child, *next; /* owned; in the order of the text */
};

/* What a text may have, so that none keeps the parser busy: its time grows with the square of the
 * lines of a value. */
enum { COP_YAML_MAX_BYTES = 1 << 16, COP_YAML_MAX_LINES = 4096 };

/* Parses one document. An empty one gives an empty scalar. `name` stands for the text in messages,
 * which read "name:line:column: what". */
cop_status cop_yaml_parse(cop_yaml_node **out, const char *name, const char *text, size_t size,
                          cop_error *err);
void cop_yaml_free(cop_yaml_node *node);

/* Offset of the first byte that is not part of well-formed UTF-8, or `size`. A zero byte counts as
 * ill-formed: no text here may hold one. */
size_t cop_yaml_check_utf8(const char *text, size_t size);

#endif
