#include "tokenizer/regex.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "tokenizer/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { JIT_STACK_FIRST = 32 << 10, JIT_STACK_LARGEST = 8 << 20, LONGEST_PATTERN = 1 << 16 };

struct cop_regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* NULL: interpreted */
};

/* ---- From Oniguruma's syntax to PCRE2's ---- */

static const char white_space[] = "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}"
                                  "\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

typedef struct {
    const char *at, *end, *where;
    bool in_class;
    cop_buffer out;
    cop_error *err;
} translation;

static void put(translation *t, const char *text)
{
    cop_buffer_put(&t->out, text, strlen(text));
}

static bool begins(const translation *t, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(t->end - t->at) >= n && memcmp(t->at, text, n) == 0;
}

static void copy(translation *t, size_t n)
{
    cop_buffer_put(&t->out, t->at, n);
    t->at += n;
}

static cop_status refuse(translation *t, const char *what)
{
    char shown[8];
    size_t n = 0;
    for (const char *c = t->at; c < t->end && n < 6 && *c > ' ' && *c <= '~'; c++)
        shown[n++] = *c;
    shown[n] = '\0';
    return cop_fail(t->err, COP_ERR_UNSUPPORTED, "%s: regex: %s ('%s')", t->where, what, shown);
}

static cop_status property(translation *t)
{
    const char *name = t->at + 2, *end = name;
    if (name >= t->end || *name != '{')
        return refuse(t, "a property needs braces");
    end = ++name;
    while (end < t->end && *end != '}')
        end++;
    if (end == t->end)
        return refuse(t, "a property without its closing brace");
    const char *letters = name + (name < end && *name == '^');
    bool category = (end - letters == 1 || end - letters == 2) && *letters && letters[0] >= 'A' &&
                    strchr("LMNPSZC", letters[0]) &&
                    (end - letters == 1 || (letters[1] >= 'a' && letters[1] <= 'z'));
    if (!category)
        return refuse(t, "only general categories are understood as properties");
    copy(t, (size_t)(end + 1 - t->at));
    return COP_OK;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \uHHHH, and \xHH of ASCII: a larger one is a byte to Oniguruma. */
static cop_status code_point(translation *t, size_t digits)
{
    char hex[5] = "";
    if ((size_t)(t->end - t->at) < 2 + digits)
        return refuse(t, "too few hexadecimal digits");
    memcpy(hex, t->at + 2, digits);
    for (size_t i = 0; i < digits; i++)
        if (!is_hex(hex[i]))
            return refuse(t, "too few hexadecimal digits");
    if (digits == 2 && hex[0] > '7')
        return refuse(t, "a byte that is no ASCII");
    put(t, "\\x{");
    put(t, hex);
    put(t, "}");
    t->at += 2 + digits;
    return COP_OK;
}

static cop_status escape(translation *t)
{
    if (t->end - t->at < 2)
        return refuse(t, "nothing follows the last backslash");
    char c = t->at[1];
    if (c == 's' || (c == 'S' && !t->in_class)) {
        put(t, t->in_class ? "" : c == 's' ? "[" : "[^");
        put(t, white_space);
        put(t, t->in_class ? "" : "]");
        t->at += 2;
        return COP_OK;
    }
    if (c == 'p' || c == 'P')
        return property(t);
    if (c == 'd' || c == 'D') {
        put(t, c == 'd' ? "\\p{Nd}" : "\\P{Nd}");
        t->at += 2;
        return COP_OK;
    }
    if (c == 'u')
        return code_point(t, 4);
    if (c == 'x' && t->end - t->at > 2 && t->at[2] != '{')
        return code_point(t, 2);
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    bool same = strchr("rntfx", c) || (!t->in_class && (c == 'A' || c == 'z'));
    if ((letter && !same) || c < ' ' || c > '~')
        return refuse(t, "an escape that is not understood");
    copy(t, 2);
    return COP_OK;
}

static cop_status open_class(translation *t)
{
    copy(t, 1);
    if (begins(t, "^"))
        copy(t, 1);
    if (begins(t, "]"))
        return refuse(t, "a class that begins with ]");
    t->in_class = true;
    return COP_OK;
}

static cop_status group(translation *t)
{
    static const char *const known[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?i)"};
    if (begins(t, "(*"))
        return refuse(t, "a group that is not understood");
    if (!begins(t, "(?")) {
        copy(t, 1);
        return COP_OK;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (begins(t, known[i])) {
            copy(t, strlen(known[i]));
            return COP_OK;
        }
    }
    return refuse(t, "a group that is not understood");
}

static cop_status one(translation *t)
{
    char c = *t->at;
    if (c == '\\')
        return escape(t);
    if (t->in_class) {
        if (c == '[' || begins(t, "&&"))
            return refuse(t, "sets within a class");
        t->in_class = c != ']';
    } else if (c == '[') {
        return open_class(t);
    } else if (c == '(') {
        return group(t);
    } else if (begins(t, "}+") || begins(t, "{,")) {
        return refuse(t, "a quantifier that is not understood");
    }
    copy(t, 1);
    return COP_OK;
}

static void quote(translation *t)
{
    for (; t->at < t->end; copy(t, 1))
        if ((*t->at >= '!' && *t->at <= '/') || strchr(":;<=>?@[\\]^_`{|}~", *t->at))
            put(t, "\\");
}

/* ---- The engine ---- */

static cop_status compile(cop_regex *r, const cop_buffer *pattern, const char *where,
                          cop_error *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return cop_fail(err, COP_ERR_NO_MEMORY, "%s: regex", where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int code;
    PCRE2_SIZE offset;
    r->code = pcre2_compile(pattern->data, pattern->size,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE, &code,
                            &offset, context);
    pcre2_compile_context_free(context);
    if (!r->code) {
        PCRE2_UCHAR text[128];
        pcre2_get_error_message(code, text, sizeof text);
        return cop_fail(err, COP_ERR_INVALID, "%s: regex: %s", where, (char *)text);
    }
    r->match = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    if (!r->match || !r->context)
        return cop_fail(err, COP_ERR_NO_MEMORY, "%s: regex", where);
    if (pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0)
        r->stack = pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_LARGEST, NULL);
    if (r->stack)
        pcre2_jit_stack_assign(r->context, NULL, r->stack);
    return COP_OK;
}

cop_status cop_regex_open(cop_regex **out, const char *pattern, size_t bytes, bool literal,
                          const char *where, cop_error *err)
{
    translation t = {.at = pattern, .end = pattern + bytes, .where = where, .err = err};
    if (bytes == 0 || bytes > LONGEST_PATTERN)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "%s: regex of %zu bytes", where, bytes);
    cop_status status = COP_OK;
    if (literal)
        quote(&t);
    while (status == COP_OK && t.at < t.end)
        status = one(&t);
    cop_regex *r = cop_calloc(1, sizeof *r);
    if (status == COP_OK)
        status = compile(r, &t.out, where, err);
    cop_buffer_fini(&t.out);
    if (status != COP_OK) {
        cop_regex_close(r);
        return status;
    }
    *out = r;
    return COP_OK;
}

void cop_regex_close(cop_regex *regex)
{
    if (!regex)
        return;
    pcre2_jit_stack_free(regex->stack);
    pcre2_match_context_free(regex->context);
    pcre2_match_data_free(regex->match);
    pcre2_code_free(regex->code);
    free(regex);
}

cop_status cop_regex_find(cop_regex *regex, const char *text, size_t bytes, size_t from,
                          size_t *begin, size_t *end, cop_error *err)
{
    int found = PCRE2_ERROR_JIT_STACKLIMIT;
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    if (regex->stack)
        found = pcre2_jit_match(regex->code, subject, bytes, from, 0, regex->match, regex->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
        found = pcre2_match(regex->code, subject, bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                            regex->match, regex->context);
    if (found == PCRE2_ERROR_NOMATCH) {
        *begin = COP_NO_MATCH;
        return COP_OK;
    }
    if (found < 0) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(found, message, sizeof message);
        return cop_fail(err, COP_ERR_INVALID,
                        "the pre-tokenizer's regex gives up at byte %zu of %zu: %s", from, bytes,
                        (char *)message);
    }
    PCRE2_SIZE *range = pcre2_get_ovector_pointer(regex->match);
    *begin = range[0];
    *end = range[1];
    return COP_OK;
}
