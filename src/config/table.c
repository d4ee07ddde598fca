#include "config/table.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

static const cop_key table[] = {
#define INT(path, field, def, min, max, unit, doc)                                      \
    {path,          unit,          doc, NULL, COP_KEY_INT, offsetof(cop_config, field), \
     (double)(min), (double)(max), #def},
#define FLOAT(path, field, def, min, max, unit, doc) \
    {path, unit, doc, NULL, COP_KEY_FLOAT, offsetof(cop_config, field), (min), (max), #def},
#define BOOL(path, field, def, doc) \
    {path, "", doc, NULL, COP_KEY_BOOL, offsetof(cop_config, field), 0, 0, #def},
#define STRING(path, field, def, doc) \
    {path, "", doc, NULL, COP_KEY_STRING, offsetof(cop_config, field), 0, 0, def},
#define CHOICE(path, field, def, choices, doc) \
    {path, "", doc, choices, COP_KEY_CHOICE, offsetof(cop_config, field), 0, 0, def},
#include "config/keys.def"
#undef INT
#undef FLOAT
#undef BOOL
#undef STRING
#undef CHOICE
};

enum { KEYS = sizeof table / sizeof *table };

size_t cop_config_keys(const cop_key **keys)
{
    *keys = table;
    return KEYS;
}

/* ---- Configurations ---- */

void cop_config_default(cop_config *cfg)
{
    memset(cfg, 0, sizeof *cfg);
    for (size_t i = 0; i < KEYS; i++) {
        cop_status status = cop_value_assign(cfg, &table[i], table[i].default_text,
                                             cop_table_holds_text(&table[i]), NULL);
        COP_CHECK(status == COP_OK);
    }
    cfg->origin = cop_calloc(KEYS, sizeof *cfg->origin);
}

void cop_config_fini(cop_config *cfg)
{
    for (size_t i = 0; i < KEYS; i++)
        if (cop_table_holds_text(&table[i]))
            free(*(char **)cop_table_field(cfg, &table[i]));
    free(cfg->origin);
    memset(cfg, 0, sizeof *cfg);
}

cop_status cop_config_copy(cop_config *out, const cop_config *cfg)
{
    *out = *cfg;
    for (size_t i = 0; i < KEYS; i++) {
        if (!cop_table_holds_text(&table[i]))
            continue;
        char **text = cop_table_field(out, &table[i]);
        *text = cop_strdup(*text);
    }
    out->origin = cop_malloc(KEYS * sizeof *out->origin);
    memcpy(out->origin, cfg->origin, KEYS * sizeof *out->origin);
    return COP_OK;
}

/* ---- Paths ---- */

int cop_table_find(const char *path)
{
    for (int i = 0; i < KEYS; i++)
        if (strcmp(table[i].path, path) == 0)
            return i;
    return -1;
}

/* What follows "section." in `path`, or NULL when path is not below the section. */
static const char *below(const char *path, const char *section)
{
    size_t n = strlen(section);
    if (n == 0)
        return path;
    return strncmp(path, section, n) == 0 && path[n] == '.' ? path + n + 1 : NULL;
}

bool cop_table_is_section(const char *path)
{
    for (size_t i = 0; i < KEYS; i++)
        if (below(table[i].path, path))
            return true;
    return false;
}

/* The names directly below a section, in table order. The keys of a section stand together in the
 * table, so a name can only repeat the one before it. */
typedef struct {
    char text[KEYS][COP_PATH_TEXT];
    const char *names[KEYS];
    size_t count;
} children;

static void find_children(children *c, const char *section)
{
    c->count = 0;
    for (size_t i = 0; i < KEYS; i++) {
        const char *rest = below(table[i].path, section);
        if (!rest)
            continue;
        snprintf(c->text[c->count], sizeof c->text[0], "%.*s", (int)strcspn(rest, "."), rest);
        if (c->count && strcmp(c->text[c->count], c->text[c->count - 1]) == 0)
            continue;
        c->names[c->count] = c->text[c->count];
        c->count++;
    }
}

void cop_table_list(const char *section, char *text, size_t size)
{
    children c;
    find_children(&c, section);
    text[0] = '\0';
    for (size_t i = 0, n = 0; i < c.count && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%s", i ? ", " : "", c.names[i]);
}

/* ---- Unknown keys ---- */

/* The one key whose last name is `leaf`, or NULL: right name, wrong section. */
static const char *find_leaf(const char *leaf)
{
    const char *found = NULL;
    for (size_t i = 0; i < KEYS; i++) {
        const char *dot = strrchr(table[i].path, '.');
        if (strcmp(dot ? dot + 1 : table[i].path, leaf) != 0)
            continue;
        if (found)
            return NULL;
        found = table[i].path;
    }
    return found;
}

/* Corrects a path name by name from the left. `known` is left at the longest part that needed or
 * found no help; true: all of the path exists in `known`. */
static bool correct(const char *path, char known[COP_PATH_TEXT])
{
    known[0] = '\0';
    while (*path) {
        char name[COP_PATH_TEXT], longer[2 * COP_PATH_TEXT];
        size_t n = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), path);
        children c;
        find_children(&c, known);
        const char *near = cop_nearest(name, c.names, c.count);
        if (!near)
            return false;
        snprintf(longer, sizeof longer, "%s%s%s", known, *known ? "." : "", near);
        snprintf(known, COP_PATH_TEXT, "%.*s", COP_PATH_TEXT - 1, longer);
        path += n;
        path += *path == '.';
    }
    return true;
}

cop_status cop_table_unknown(const char *path, cop_error *err)
{
    char shown[COP_SHOWN_TEXT], near[COP_PATH_TEXT], list[480];
    cop_value_shown(shown, path);
    if (correct(path, near) && *near)
        return cop_fail(err, COP_ERR_INVALID, "unknown key '%s'; did you mean '%s'?", shown, near);
    const char *dot = strrchr(path, '.');
    const char *elsewhere = find_leaf(dot ? dot + 1 : path);
    if (elsewhere)
        return cop_fail(err, COP_ERR_INVALID, "unknown key '%s'; did you mean '%s'?", shown,
                        elsewhere);
    if (!cop_table_is_section(near))
        return cop_fail(err, COP_ERR_INVALID, "unknown key '%s'; '%s' has no keys below it", shown,
                        near);
    cop_table_list(near, list, sizeof list);
    return cop_fail(err, COP_ERR_INVALID, "unknown key '%s'; %s%s%s has: %s", shown,
                    *near ? "'" : "", *near ? near : "the top level", *near ? "'" : "", list);
}
