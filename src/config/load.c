/* Loading: files and what they include, keys found in the table, values checked; --set. */
#include "config/load.h"

#include "base/alloc.h"
#include "base/text.h"
#include "config/table.h"
#include "config/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bounds on what a few lines of hostile or mistaken text can make us read. */
enum { MAX_DEPTH = 16, MAX_FILES = 256 };

enum { FROM_FILE = 1, FROM_COMMAND_LINE = 2 }; /* cop_config.origin */

/* A text being loaded, and the one whose include: asked for it. */
typedef struct source source;
struct source {
    const char *name;
    const source *includer;
    int depth;
    dev_t device; /* these two identify the file; 0 for text from memory */
    ino_t inode;
};

typedef struct {
    cop_config *cfg;
    int files;
    cop_error *err;
} loader;

/* ---- Files ---- */

static cop_status read_all(int fd, char *text, size_t *size)
{
    size_t capacity = *size;
    *size = 0;
    while (*size < capacity) {
        ssize_t n = read(fd, text + *size, capacity - *size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return COP_ERR_INVALID;
        if (n == 0)
            break;
        *size += (size_t)n;
    }
    return COP_OK;
}

/* The whole file; *text is then owned by the caller. Fills in the identity of `file`. Only regular
 * files: a pipe or a device could keep us for ever. */
static cop_status read_file(source *file, char **text, size_t *size, cop_error *err)
{
    int fd = open(file->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return cop_fail(err, COP_ERR_INVALID, "%s: %s", file->name, strerror(errno));
    struct stat st;
    cop_status status = COP_OK;
    if (fstat(fd, &st) != 0)
        status = cop_fail(err, COP_ERR_INVALID, "%s: %s", file->name, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        status = cop_fail(err, COP_ERR_INVALID, "%s: not a regular file", file->name);
    else if (st.st_size > COP_YAML_MAX_BYTES)
        status = cop_fail(err, COP_ERR_INVALID, "%s: more than %d bytes", file->name,
                          COP_YAML_MAX_BYTES);
    if (status == COP_OK) {
        file->device = st.st_dev;
        file->inode = st.st_ino;
        *size = (size_t)st.st_size;
        char *bytes = cop_malloc(*size + 1);
        if (read_all(fd, bytes, size) == COP_OK) {
            *text = bytes;
        } else {
            status = cop_fail(err, COP_ERR_INVALID, "%s: %s", file->name, strerror(errno));
            free(bytes);
        }
    }
    close(fd);
    return status;
}

/* ---- Keys ---- */

static cop_status at_key(loader *l, const source *file, const cop_yaml_node *node)
{
    return cop_fail_prefix(l->err, "%s:%d:%d", file->name, node->key_line, node->key_column);
}

static cop_status at_value(loader *l, const source *file, const cop_yaml_node *node)
{
    return cop_fail_prefix(l->err, "%s:%d:%d", file->name, node->line, node->column);
}

/* What a node is, in words, for "expected ..., got ...". */
static void describe(const cop_yaml_node *node, char *text, size_t size)
{
    char shown[COP_SHOWN_TEXT];
    if (node->kind == COP_YAML_SCALAR)
        snprintf(text, size, "'%s'", cop_value_shown(shown, node->text));
    else
        snprintf(text, size, "%s", node->kind == COP_YAML_LIST ? "a list" : "a section of keys");
}

static cop_status fail_kind(loader *l, const char *path, const char *expected,
                            const cop_yaml_node *node)
{
    char got[COP_SHOWN_TEXT + 2];
    describe(node, got, sizeof got);
    return cop_fail(l->err, COP_ERR_INVALID, "%s: expected %s, got %s", path, expected, got);
}

/* 'cache.eviction' in a file: says how to nest it. */
static cop_status fail_dotted(loader *l, const char *key)
{
    char nested[2 * COP_PATH_TEXT], close[COP_PATH_TEXT] = "";
    size_t n = 0, depth = 0;
    for (const char *c = key; *c && n + 4 < sizeof nested; c++) {
        n += (size_t)snprintf(nested + n, sizeof nested - n, *c == '.' ? ": {" : "%c", *c);
        if (*c == '.')
            close[depth++] = '}';
    }
    return cop_fail(l->err, COP_ERR_INVALID, "keys nest in a file: '%s' is written %s: ...%s", key,
                    nested, close);
}

static cop_status check_not_given(loader *l, const cop_yaml_node *parent, const cop_yaml_node *node,
                                  const char *path)
{
    for (const cop_yaml_node *other = parent->child; other != node; other = other->next)
        if (strcmp(other->key, node->key) == 0)
            return cop_fail(l->err, COP_ERR_INVALID, "'%s' is given twice, first in line %d", path,
                            other->key_line);
    return COP_OK;
}

static cop_status check_known(loader *l, const cop_yaml_node *node, const char *path)
{
    bool known = cop_table_find(path) >= 0 || cop_table_is_section(path);
    const char *include = "include";
    if (!known && strcmp(path, node->key) == 0 && cop_nearest(path, &include, 1))
        return cop_fail(l->err, COP_ERR_INVALID, "unknown key '%s'; did you mean 'include'?", path);
    if (!known || !*node->key)
        return cop_table_unknown(path, l->err);
    return strchr(node->key, '.') ? fail_dotted(l, node->key) : COP_OK;
}

static bool is_include(const char *section, const cop_yaml_node *node)
{
    return !*section && strcmp(node->key, "include") == 0;
}

static bool is_left_out(const cop_yaml_node *node)
{
    return node->kind == COP_YAML_SCALAR && !*node->text && !node->quoted;
}

static cop_status load_section(loader *l, const source *file, const cop_yaml_node *mapping,
                               const char *section);

/* What stands at a known path: a value for a key, more keys (or nothing at all) for a section. */
static cop_status load_value(loader *l, const source *file, const cop_yaml_node *node,
                             const char *path)
{
    int i = cop_table_find(path);
    cop_status status = COP_OK;
    if (i >= 0 && node->kind == COP_YAML_SCALAR) {
        const cop_key *keys;
        cop_config_keys(&keys);
        status = cop_value_assign(l->cfg, &keys[i], node->text, node->quoted, l->err);
        l->cfg->origin[i] = FROM_FILE;
    } else if (i >= 0) {
        status = fail_kind(l, path, "one value", node);
    } else if (node->kind == COP_YAML_MAPPING) {
        return load_section(l, file, node, path);
    } else if (!is_left_out(node)) {
        status = fail_kind(l, path, "a section of keys", node);
    }
    return status == COP_OK ? COP_OK : at_value(l, file, node);
}

/* Takes the keys of a mapping into the configuration. section: their path so far, "" at the top. */
static cop_status load_section(loader *l, const source *file, const cop_yaml_node *mapping,
                               const char *section)
{
    for (const cop_yaml_node *node = mapping->child; node; node = node->next) {
        char path[COP_PATH_TEXT]; /* one too long is cut, and no key's name either way */
        snprintf(path, sizeof path, "%s%s%s", section, *section ? "." : "", node->key);
        bool include = is_include(section, node);
        cop_status status = include ? COP_OK : check_known(l, node, path);
        if (status == COP_OK)
            status = check_not_given(l, mapping, node, path);
        if (status != COP_OK)
            return at_key(l, file, node);
        if (!include && (status = load_value(l, file, node, path)) != COP_OK)
            return status;
    }
    return COP_OK;
}

/* ---- Includes ---- */

static cop_status load_source(loader *l, source *file, const char *text, size_t size);

/* "x.yaml, y.yaml": the files between `outermost` and `file`, that one included. */
static void list_chain(const source *file, const source *outermost, char *text, size_t size)
{
    if (file == outermost)
        return;
    list_chain(file->includer, outermost, text, size);
    size_t n = strlen(text);
    snprintf(text + n, size - n, "%s%s", n ? ", " : "", file->name);
}

static cop_status check_cycle(loader *l, const source *file)
{
    for (const source *above = file->includer; above; above = above->includer) {
        if (above->inode != file->inode || above->device != file->device)
            continue;
        char through[400] = "";
        list_chain(file->includer, above, through, sizeof through);
        return cop_fail(l->err, COP_ERR_INVALID, "include: %s includes itself%s%s", above->name,
                        *through ? " through " : "", through);
    }
    if (file->depth > MAX_DEPTH)
        return cop_fail(l->err, COP_ERR_INVALID, "include: more than %d files deep", MAX_DEPTH);
    if (++l->files > MAX_FILES)
        return cop_fail(l->err, COP_ERR_INVALID, "include: more than %d files", MAX_FILES);
    return COP_OK;
}

/* A path as the including file means it; owned by the caller. */
static char *resolve(const source *file, const char *path)
{
    const char *slash = strrchr(file->name, '/');
    if (*path == '/' || !slash)
        return cop_strdup(path);
    size_t folder = (size_t)(slash - file->name) + 1, size = strlen(path) + 1;
    char *joined = cop_malloc(folder + size);
    memcpy(joined, file->name, folder);
    memcpy(joined + folder, path, size);
    return joined;
}

/* One line: the path will stand in messages. */
static bool is_path(const char *text)
{
    for (const char *c = text; *c; c++)
        if (iscntrl((unsigned char)*c))
            return false;
    return *text;
}

static cop_status include_one(loader *l, const source *file, const cop_yaml_node *node)
{
    if (node->kind != COP_YAML_SCALAR || !is_path(node->text)) {
        fail_kind(l, "include", "the path of a file, or a list of them", node);
        return at_value(l, file, node);
    }
    char *name = resolve(file, node->text), *text = NULL;
    size_t size = 0;
    source included = {.name = name, .includer = file, .depth = file->depth + 1};
    cop_status status = read_file(&included, &text, &size, l->err);
    if (status != COP_OK)
        cop_fail_prefix(l->err, "include");
    else
        status = check_cycle(l, &included);
    if (status != COP_OK)
        at_value(l, file, node);
    else
        status = load_source(l, &included, text, size);
    free(text);
    free(name);
    return status;
}

static cop_status load_includes(loader *l, const source *file, const cop_yaml_node *root)
{
    cop_status status = COP_OK;
    for (const cop_yaml_node *node = root->child; node; node = node->next) {
        if (!is_include("", node))
            continue;
        if (node->kind != COP_YAML_LIST)
            return include_one(l, file, node);
        for (const cop_yaml_node *item = node->child; item && status == COP_OK; item = item->next)
            status = include_one(l, file, item);
        return status;
    }
    return COP_OK;
}

static cop_status load_source(loader *l, source *file, const char *text, size_t size)
{
    cop_yaml_node *root;
    cop_status status = cop_yaml_parse(&root, file->name, text, size, l->err);
    if (status != COP_OK)
        return status;
    if (root->kind == COP_YAML_MAPPING) {
        status = load_includes(l, file, root);
        if (status == COP_OK)
            status = load_section(l, file, root, "");
    } else if (root->kind == COP_YAML_LIST || *root->text) {
        fail_kind(l, "top level", "keys and values, as in 'seed: 1'", root);
        status = at_value(l, file, root);
    }
    cop_yaml_free(root);
    return status;
}

/* ---- Entry ---- */

/* Loads into a copy, which takes the place of *cfg only when all went well. */
static cop_status load_and_swap(cop_config *cfg, source *file, const char *text, size_t size,
                                cop_error *err)
{
    cop_config copy;
    cop_error unheard;
    cop_status status = cop_config_copy(&copy, cfg);
    if (status != COP_OK)
        return status;
    loader l = {.cfg = &copy, .err = err ? err : &unheard};
    status = load_source(&l, file, text, size);
    if (status == COP_OK) {
        cop_config old = *cfg;
        *cfg = copy;
        copy = old;
    }
    cop_config_fini(&copy);
    return status;
}

cop_status cop_config_load_text(cop_config *cfg, const char *name, const char *text, size_t size,
                                cop_error *err)
{
    source file = {.name = name};
    return load_and_swap(cfg, &file, text, size, err);
}

cop_status cop_config_load(cop_config *cfg, const char *path, cop_error *err)
{
    source file = {.name = path};
    char *text = NULL;
    size_t size = 0;
    cop_status status = read_file(&file, &text, &size, err);
    if (status != COP_OK)
        return status;
    status = load_and_swap(cfg, &file, text, size, err);
    free(text);
    return status;
}

/* ---- Assignments ---- */

static cop_status assign_quoted(cop_config *cfg, const cop_key *key, const char *text,
                                cop_error *err)
{
    cop_yaml_node *node;
    char shown[COP_SHOWN_TEXT];
    cop_status status = cop_yaml_parse(&node, key->path, text, strlen(text), NULL);
    if (status == COP_OK && (node->kind != COP_YAML_SCALAR || !node->quoted)) {
        cop_yaml_free(node);
        status = COP_ERR_INVALID;
    }
    if (status != COP_OK)
        return cop_fail(err, status, "%s: %s begins with a quote but is no text in quotes",
                        key->path, cop_value_shown(shown, text));
    status = cop_value_assign(cfg, key, node->text, true, err);
    cop_yaml_free(node);
    return status;
}

static cop_status assign(cop_config *cfg, const char *assignment, cop_error *err)
{
    char path[COP_PATH_TEXT], list[480], shown[COP_SHOWN_TEXT];
    size_t n = strcspn(assignment, "=");
    if (!assignment[n])
        return cop_fail(err, COP_ERR_INVALID, "'%s' has no value: write path=value",
                        cop_value_shown(shown, assignment));
    snprintf(path, sizeof path, "%.*s", (int)(n < sizeof path ? n : sizeof path - 1), assignment);
    int i = cop_table_find(path);
    if (i < 0 && *path && cop_table_is_section(path)) {
        cop_table_list(path, list, sizeof list);
        return cop_fail(err, COP_ERR_INVALID, "'%s' is a section; its keys are: %s", path, list);
    }
    if (i < 0)
        return cop_table_unknown(path, err);
    const cop_key *keys;
    cop_config_keys(&keys);
    const cop_key *key = &keys[i];
    const char *value = assignment + n + 1;
    if (cop_yaml_check_utf8(value, strlen(value)) != strlen(value))
        return cop_fail(err, COP_ERR_INVALID, "%s: the value is not UTF-8 text", path);
    bool empty_text = !*value && key->type == COP_KEY_STRING;
    cop_status status = *value == '"' || *value == '\''
                            ? assign_quoted(cfg, key, value, err)
                            : cop_value_assign(cfg, key, value, empty_text, err);
    if (status == COP_OK)
        cfg->origin[i] = FROM_COMMAND_LINE;
    return status;
}

cop_status cop_config_set(cop_config *cfg, const char *assignment, const char *where,
                          cop_error *err)
{
    cop_error unheard;
    if (!err)
        err = &unheard;
    cop_status status = assign(cfg, assignment, err);
    return status == COP_OK ? COP_OK : cop_fail_prefix(err, "%s", where);
}
