/* The configuration for people: as YAML with comments, and as the list behind --help. */
#include "config/table.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 96 };

/* Prints `text` broken at spaces, every line behind `lead`. */
static void print_wrapped(FILE *out, const char *lead, const char *text)
{
    size_t width = COLUMNS - strlen(lead);
    while (*text) {
        size_t n = strlen(text);
        if (n > width) {
            n = width;
            while (n > 0 && text[n] != ' ')
                n--;
            if (n == 0)
                n = strcspn(text, " ");
        }
        fprintf(out, "%s%.*s\n", lead, (int)n, text);
        text += n;
        text += strspn(text, " ");
    }
}

/* ---- YAML ---- */

/* Opens the sections of `path` that `previous` was not in. Returns the depth of the key. */
static int print_sections(FILE *out, const char *path, const char *previous)
{
    int depth = 0;
    bool same = true;
    for (const char *name = path, *dot; (dot = strchr(name, '.')); name = dot + 1) {
        size_t upto = (size_t)(dot - path) + 1;
        same = same && strncmp(path, previous, upto) == 0;
        if (!same)
            fprintf(out, "%s%*s%.*s:\n", depth ? "" : "\n", 2 * depth, "", (int)(dot - name), name);
        depth++;
    }
    return depth;
}

static const char *origin_text(uint8_t origin)
{
    return origin == 0 ? "" : origin == 1 ? "from a file; " : "from the command line; ";
}

void cop_config_print(const cop_config *cfg, FILE *out)
{
    const cop_key *keys;
    size_t count = cop_config_keys(&keys);
    for (size_t i = 0; i < count; i++) {
        const cop_key *key = &keys[i];
        int depth = print_sections(out, key->path, i ? keys[i - 1].path : "");
        char lead[16], range[COP_RANGE_TEXT];
        snprintf(lead, sizeof lead, "%*s# ", 2 * depth, "");
        print_wrapped(out, lead, key->doc);
        cop_value_range(key, range, sizeof range);
        size_t size = cop_config_value(cfg, i, NULL, 0) + 1;
        char *value = cop_malloc(size);
        cop_config_value(cfg, i, value, size);
        const char *dot = strrchr(key->path, '.');
        bool bare = !*key->default_text;
        fprintf(out, "%*s%s: %s  # %sdefault %s; %s\n", 2 * depth, "", dot ? dot + 1 : key->path,
                value, origin_text(cfg->origin[i]), bare ? "empty" : key->default_text, range);
        free(value);
    }
}

/* ---- Help ---- */

static size_t wider(size_t width, const char *text)
{
    size_t n = strlen(text);
    return n > width ? n : width;
}

void cop_config_help(FILE *out, const char *prefix)
{
    const cop_key *keys;
    size_t count = cop_config_keys(&keys), path_width = 0, default_width = 0;
    size_t prefix_size = prefix ? strlen(prefix) : 0;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(keys[i].path, prefix ? prefix : "", prefix_size) != 0)
            continue;
        path_width = wider(path_width, keys[i].path);
        default_width = wider(default_width, keys[i].default_text);
    }
    for (size_t i = 0; i < count; i++) {
        if (strncmp(keys[i].path, prefix ? prefix : "", prefix_size) != 0)
            continue;
        char range[COP_RANGE_TEXT];
        cop_value_range(&keys[i], range, sizeof range);
        fprintf(out, "%-*s  %-*s  %s\n", (int)path_width, keys[i].path, (int)default_width,
                *keys[i].default_text ? keys[i].default_text : "-", range);
        print_wrapped(out, "    ", keys[i].doc);
    }
}
