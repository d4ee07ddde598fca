/* Inside config: the table of keys and the fields that it describes. */
#ifndef COP_CONFIG_TABLE_H
#define COP_CONFIG_TABLE_H

#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>

enum { COP_PATH_TEXT = 128, COP_SHOWN_TEXT = 64, COP_RANGE_TEXT = 128 };

/* Number of the key, or -1. */
int cop_table_find(const char *path);
/* Whether keys begin with "path."; "" is the whole table. */
bool cop_table_is_section(const char *path);

/* "unknown key 'path'", and what may have been meant. */
cop_status cop_table_unknown(const char *path, cop_error *err);

/* The names below a section, "seed, cluster, model"; cut when they do not fit. */
void cop_table_list(const char *section, char *text, size_t size);

/* Checks `text` against the key and stores it. quoted: it stood in quotes, so it is text and no
 * number. The message begins with the path of the key. */
cop_status cop_value_assign(cop_config *cfg, const cop_key *key, const char *text, bool quoted,
                            cop_error *err);

/* "2 to 1073741824 blocks", "cpu|cuda", "true|false", "text". */
void cop_value_range(const cop_key *key, char *text, size_t size);

/* Someone's text made fit for a message: one line, cut when long. Returns `shown`. */
const char *cop_value_shown(char shown[COP_SHOWN_TEXT], const char *text);

/* The field of a key in its type. */
static inline void *cop_table_field(cop_config *cfg, const cop_key *key)
{
    return (char *)cfg + key->offset;
}

static inline const void *cop_table_field_const(const cop_config *cfg, const cop_key *key)
{
    return (const char *)cfg + key->offset;
}

static inline bool cop_table_holds_text(const cop_key *key)
{
    return key->type == COP_KEY_STRING || key->type == COP_KEY_CHOICE;
}

#endif
