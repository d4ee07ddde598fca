#include "config/yaml.h"

#include "base/alloc.h"
#include "base/buffer.h"

#include <libfyaml.h>

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Far deeper than any configuration; bounds our recursion on hostile text. */
enum { MAX_DEPTH = 32 };

typedef struct {
    const char *name;
    struct fy_diag *diag;
    struct fy_parser *parser;
    cop_error *err;
} reader;

/* ---- Errors ---- */

static cop_status fail_at(reader *r, int line, int column, const char *what)
{
    return cop_fail(r->err, COP_ERR_INVALID, "%s:%d:%d: %s", r->name, line, column, what);
}

/* Counted from 1. A value that was left out has no place of its own: 0. The library's mark of a
 * text in quotes stands behind the quote. */
static void locate(struct fy_event *event, int *line, int *column)
{
    const struct fy_mark *mark = fy_event_start_mark(event);
    enum fy_scalar_style style =
        event->type == FYET_SCALAR ? fy_token_scalar_style(event->scalar.value) : FYSS_PLAIN;
    bool quoted = style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED;
    *line = mark ? mark->line + 1 : 0;
    *column = mark ? mark->column + 1 - (quoted && mark->column > 0) : 0;
}

static cop_status fail_event(reader *r, struct fy_event *event, const char *what)
{
    int line, column;
    locate(event, &line, &column);
    return fail_at(r, line ? line : 1, column ? column : 1, what);
}

/* Swallows what the library would print besides the errors that it collects. */
static void discard_output(struct fy_diag *diag, void *user, const char *text, size_t size)
{
    (void)diag, (void)user, (void)text, (void)size;
}

/* Hands on the library's first error: the later ones follow from it. */
static cop_status fail_syntax(reader *r)
{
    void *iterator = NULL;
    const struct fy_diag_error *e = fy_diag_errors_iterate(r->diag, &iterator);
    if (!e || !e->msg)
        return fail_at(r, 1, 1, "not YAML");
    char what[256];
    size_t n = 0;
    for (const char *at = e->msg; *at && n + 1 < sizeof what; at++)
        what[n++] = (char)(iscntrl((unsigned char)*at) ? ' ' : *at);
    what[n] = '\0';
    return fail_at(r, e->line, e->column, what);
}

/* ---- Bytes ---- */

/* Bytes of the well-formed sequence at `s`, 0 if there is none (RFC 3629: shortest forms only, no
 * surrogates, nothing above U+10FFFF). */
static size_t sequence_bytes(const uint8_t *s, size_t left)
{
    if (s[0] == 0 || (s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4)
        return 0;
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xed && s[1] > 0x9f;
    bool too_high = s[0] == 0xf4 && s[1] > 0x8f;
    return overlong || surrogate || too_high ? 0 : n;
}

size_t cop_yaml_check_utf8(const char *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        size_t n = sequence_bytes((const uint8_t *)text + at, size - at);
        if (n == 0)
            break;
        at += n;
    }
    return at;
}

/* Offset of the first control character that is no line end, or `size`. Nobody needs them, tabs
 * included (which YAML forbids where they would indent), and libfyaml 0.7 crashes on a tab before a
 * nested key (pantoniou/libfyaml#57). */
static size_t find_control(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bool line_end = text[i] == '\n' || (text[i] == '\r' && i + 1 < size && text[i + 1] == '\n');
        if (iscntrl((unsigned char)text[i]) && !line_end)
            return i;
    }
    return size;
}

static cop_status check_size(reader *r, const char *text, size_t size)
{
    if (size > COP_YAML_MAX_BYTES)
        return cop_fail(r->err, COP_ERR_INVALID, "%s: more than %d bytes", r->name,
                        COP_YAML_MAX_BYTES);
    int lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    if (lines > COP_YAML_MAX_LINES)
        return cop_fail(r->err, COP_ERR_INVALID, "%s: more than %d lines", r->name,
                        COP_YAML_MAX_LINES);
    return COP_OK;
}

static cop_status check_bytes(reader *r, const char *text, size_t size)
{
    size_t control = find_control(text, size);
    size_t bad = cop_yaml_check_utf8(text, control);
    if (bad == size)
        return COP_OK;
    int line = 1, column = 1;
    for (size_t i = 0; i < bad; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    if (text[bad] == '\t')
        return fail_at(r, line, column, "a tab: indent with spaces");
    char what[64];
    snprintf(what, sizeof what, "byte 0x%02x is not %s", (unsigned char)text[bad],
             bad == control ? "a printable character" : "UTF-8 text");
    return fail_at(r, line, column, what);
}

/* ---- Events to nodes ---- */

/* The next event, or NULL with the error set. The caller frees it. */
static struct fy_event *next_event(reader *r, cop_status *status)
{
    struct fy_event *event = fy_parser_parse(r->parser);
    bool broken = fy_parser_get_stream_error(r->parser) || fy_diag_got_error(r->diag);
    if (event && !broken) {
        *status = COP_OK;
        return event;
    }
    if (event)
        fy_parser_event_free(r->parser, event);
    *status = fail_syntax(r);
    return NULL;
}

/* Appends the text of a token, piece by piece: fy_token_get_text of libfyaml 0.7 leaks when the
 * text has many pieces (pantoniou/libfyaml#233). */
static bool collect_text(struct fy_token *token, cop_buffer *text)
{
    struct fy_token_iter *iterator = fy_token_iter_create(token);
    if (!iterator)
        return false;
    int failed = 0;
    const struct fy_iter_chunk *chunk = NULL;
    while ((chunk = fy_token_iter_chunk_next(iterator, chunk, &failed)))
        cop_buffer_put(text, chunk->str, chunk->len);
    fy_token_iter_finish(iterator);
    fy_token_iter_destroy(iterator);
    return !failed;
}

static cop_status read_scalar(reader *r, struct fy_event *event, char **text, bool *quoted)
{
    struct fy_token *token = event->scalar.value;
    cop_buffer buffer = {0};
    cop_status status = COP_OK;
    if (token && !collect_text(token, &buffer))
        status = fail_event(r, event, "the text cannot be read");
    else if (cop_yaml_check_utf8((const char *)buffer.data, buffer.size) != buffer.size)
        status = fail_event(r, event, "an escape gives a character that no text can hold");
    if (status == COP_OK) {
        cop_buffer_put(&buffer, "", 1);
        *text = cop_strdup((const char *)buffer.data);
        *quoted = fy_token_scalar_style(token) != FYSS_PLAIN;
    }
    cop_buffer_fini(&buffer);
    return status;
}

static cop_status refuse_ornaments(reader *r, struct fy_event *event)
{
    if (event->type == FYET_ALIAS || fy_event_get_anchor_token(event))
        return fail_event(r, event, "anchors and aliases (& and *) are not supported; use include");
    if (fy_event_get_tag_token(event))
        return fail_event(r, event, "tags (!) are not supported; quote the text");
    return COP_OK;
}

static cop_status read_node(reader *r, struct fy_event *event, int depth, cop_yaml_node **out);

/* The key and its value, the event of the key being `event`. */
static cop_status read_pair(reader *r, struct fy_event *event, int depth, cop_yaml_node **out)
{
    cop_status status = refuse_ornaments(r, event);
    if (status != COP_OK)
        return status;
    if (event->type != FYET_SCALAR)
        return fail_event(r, event, "a key must be a name, not a list or a mapping");
    char *key;
    bool quoted;
    if ((status = read_scalar(r, event, &key, &quoted)) != COP_OK)
        return status;
    struct fy_event *value = next_event(r, &status);
    if (value) {
        status = read_node(r, value, depth, out);
        fy_parser_event_free(r->parser, value);
    }
    if (status != COP_OK) {
        free(key);
        return status;
    }
    (*out)->key = key;
    locate(event, &(*out)->key_line, &(*out)->key_column);
    if ((*out)->line == 0) {
        (*out)->line = (*out)->key_line;
        (*out)->column = (*out)->key_column;
    }
    return COP_OK;
}

static cop_status read_children(reader *r, cop_yaml_node *parent, int depth)
{
    cop_yaml_node **link = &parent->child;
    for (;;) {
        cop_status status;
        struct fy_event *event = next_event(r, &status);
        if (!event)
            return status;
        bool end = event->type == FYET_MAPPING_END || event->type == FYET_SEQUENCE_END;
        if (!end)
            status = parent->kind == COP_YAML_MAPPING ? read_pair(r, event, depth, link)
                                                      : read_node(r, event, depth, link);
        fy_parser_event_free(r->parser, event);
        if (end || status != COP_OK)
            return status;
        link = &(*link)->next;
    }
}

/* The node that begins with `event`. */
static cop_status read_node(reader *r, struct fy_event *event, int depth, cop_yaml_node **out)
{
    cop_status status = refuse_ornaments(r, event);
    if (status != COP_OK)
        return status;
    if (depth == MAX_DEPTH)
        return fail_event(r, event, "nested too deeply");
    cop_yaml_node *node = cop_calloc(1, sizeof *node);
    locate(event, &node->line, &node->column);
    if (event->type == FYET_SCALAR) {
        node->kind = COP_YAML_SCALAR;
        status = read_scalar(r, event, &node->text, &node->quoted);
    } else {
        node->kind = event->type == FYET_MAPPING_START ? COP_YAML_MAPPING : COP_YAML_LIST;
        status = read_children(r, node, depth + 1);
    }
    if (status != COP_OK) {
        cop_yaml_free(node);
        return status;
    }
    *out = node;
    return COP_OK;
}

/* stream start, document start, node, document end, stream end */
static cop_status read_stream(reader *r, cop_yaml_node **out)
{
    bool ended = false;
    while (!ended) {
        cop_status status;
        struct fy_event *event = next_event(r, &status);
        if (!event)
            return status;
        switch (event->type) {
        case FYET_STREAM_END:
            ended = true;
            break;
        case FYET_DOCUMENT_START:
            if (*out)
                status = fail_event(r, event, "a second document: one file is one configuration");
            break;
        case FYET_STREAM_START:
        case FYET_DOCUMENT_END:
            break;
        default:
            status = read_node(r, event, 0, out);
        }
        fy_parser_event_free(r->parser, event);
        if (status != COP_OK)
            return status;
    }
    return COP_OK;
}

/* ---- Entry ---- */

static cop_yaml_node *empty_document(void)
{
    cop_yaml_node *node = cop_calloc(1, sizeof *node);
    node->kind = COP_YAML_SCALAR;
    node->text = cop_strdup("");
    node->line = node->column = 1;
    return node;
}

static cop_status parse(reader *r, const char *text, size_t size, cop_yaml_node **root)
{
    struct fy_parse_cfg options = {.flags = FYPCF_QUIET, .diag = r->diag};
    r->parser = fy_parser_create(&options);
    if (!r->parser)
        return cop_fail(r->err, COP_ERR_NO_MEMORY, "%s: cannot start the YAML parser", r->name);
    cop_status status =
        fy_parser_set_string(r->parser, text, size) == 0 ? read_stream(r, root) : fail_syntax(r);
    fy_parser_destroy(r->parser);
    return status;
}

cop_status cop_yaml_parse(cop_yaml_node **out, const char *name, const char *text, size_t size,
                          cop_error *err)
{
    reader r = {.name = name, .err = err};
    cop_status status = check_size(&r, text, size);
    if (status == COP_OK)
        status = check_bytes(&r, text, size);
    if (status != COP_OK)
        return status;
    struct fy_diag_cfg diag;
    fy_diag_cfg_default(&diag);
    diag.fp = NULL;
    diag.output_fn = discard_output;
    r.diag = fy_diag_create(&diag);
    if (!r.diag)
        return cop_fail(err, COP_ERR_NO_MEMORY, "%s: cannot start the YAML parser", name);
    fy_diag_set_collect_errors(r.diag, true);
    cop_yaml_node *root = NULL;
    if (size > 0)
        status = parse(&r, text, size, &root);
    fy_diag_destroy(r.diag);
    if (status != COP_OK) {
        cop_yaml_free(root);
        return status;
    }
    *out = root ? root : empty_document();
    return COP_OK;
}

void cop_yaml_free(cop_yaml_node *node)
{
    while (node) {
        cop_yaml_node *next = node->next;
        cop_yaml_free(node->child);
        free(node->key);
        free(node->text);
        free(node);
        node = next;
    }
}
