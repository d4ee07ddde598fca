/* Configuration: YAML file, then --set overrides, checked against the one table of keys (keys.def).
 *
 *     cop_config cfg;
 *     cop_config_default(&cfg);
 *     cop_config_load(&cfg, "configs/quickstart.yaml", &err);        // include: a.yaml or a list
 *     cop_config_set(&cfg, "cache.eviction=lfu", "--set", &err);
 *     ... cfg.cache_eviction ...
 *     cop_config_fini(&cfg);
 *
 * Errors are COP_ERR_INVALID with one line: file:line:column, what is wrong, and the nearest key
 * ("unknown key 'cache.evicton'; did you mean 'cache.eviction'?"); also for a file that
 * cannot be read. On error *cfg is unchanged.
 *
 * A file nests its keys (cache: {eviction: lru}); an assignment writes the path with dots. Included
 * files are relative to the file that includes them, each overrides those before it in the list,
 * and the including file overrides them all, wherever its include: stands. */
#ifndef COP_CONFIG_CONFIG_H
#define COP_CONFIG_CONFIG_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum {
    COP_KEY_INT,
    COP_KEY_FLOAT,
    COP_KEY_BOOL,
    COP_KEY_STRING,
    COP_KEY_CHOICE
} cop_key_type;

typedef struct {
#define INT(path, field, def, min, max, unit, doc)   int64_t field;
#define FLOAT(path, field, def, min, max, unit, doc) double field;
#define BOOL(path, field, def, doc)                  bool field;
#define STRING(path, field, def, doc)                char *field; /* owned by the config, never NULL */
#define CHOICE(path, field, def, choices, doc)       char *field; /* one of the choices; owned */
#include "config/keys.def"
#undef INT
#undef FLOAT
#undef BOOL
#undef STRING
#undef CHOICE
    uint8_t *origin; /* per key, in table order: 0 default, 1 file, 2 command line; owned */
} cop_config;

typedef struct {
    const char *path, *unit, *doc, *choices; /* choices: "a|b", NULL unless COP_KEY_CHOICE */
    cop_key_type type;
    size_t offset; /* of the field in cop_config */
    double min, max;
    const char *default_text;
} cop_key;

size_t cop_config_keys(const cop_key **keys); /* the table; static storage */

void cop_config_default(cop_config *cfg);
void cop_config_fini(cop_config *cfg);
cop_status cop_config_copy(cop_config *out, const cop_config *cfg);

cop_status cop_config_load(cop_config *cfg, const char *path, cop_error *err);

/* "path=value"; `where` names the source of the text in messages ("--set"). The value is taken as
 * it stands, to the end; in quotes it is a YAML scalar in quotes. */
cop_status cop_config_set(cop_config *cfg, const char *assignment, const char *where,
                          cop_error *err);

/* The value of key number `i` as text, as one would write it in YAML. Returns its length. */
size_t cop_config_value(const cop_config *cfg, size_t i, char *text, size_t size);

/* The whole effective configuration as YAML that loads back to the same, each key with its doc,
 * default, range and unit as comment. */
void cop_config_print(const cop_config *cfg, FILE *out);

/* The keys whose path starts with `prefix` (NULL or "": all), aligned, with default, range, unit
 * and doc. */
void cop_config_help(FILE *out, const char *prefix);

#endif
