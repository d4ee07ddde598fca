/* Values: text to field with every check, and back. */
#include "config/table.h"

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/text.h"
#include "config/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of one value. Together, and with every byte escaped, the texts must still fit in a file. */
enum { MAX_TEXT = 1000 };

const char *cop_value_shown(char shown[COP_SHOWN_TEXT], const char *text)
{
    size_t n = 0, size = strlen(text);
    bool cut = size >= COP_SHOWN_TEXT;
    size_t keep = cut ? COP_SHOWN_TEXT - 4 : size;
    for (; n < keep; n++)
        shown[n] = (char)(iscntrl((unsigned char)text[n]) ? ' ' : text[n]);
    /* Not in the middle of a character. */
    while (cut && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    snprintf(shown + n, COP_SHOWN_TEXT - n, "%s", cut ? "..." : "");
    return shown;
}

/* ---- Text to field ---- */

static cop_status fail_type(const cop_key *key, const char *expected, const char *text, bool quoted,
                            cop_error *err)
{
    char shown[COP_SHOWN_TEXT];
    if (!*text && !quoted)
        return cop_fail(err, COP_ERR_INVALID, "%s: expected %s, got nothing", key->path, expected);
    return cop_fail(err, COP_ERR_INVALID, "%s: expected %s, got %s'%s'", key->path, expected,
                    quoted ? "the text " : "", cop_value_shown(shown, text));
}

static cop_status fail_range(const cop_key *key, const char *text, cop_error *err)
{
    char shown[COP_SHOWN_TEXT], range[COP_RANGE_TEXT];
    cop_value_range(key, range, sizeof range);
    return cop_fail(err, COP_ERR_INVALID, "%s: %s is out of range: %s", key->path,
                    cop_value_shown(shown, text), range);
}

static size_t count_digits(const char *s)
{
    return strspn(s, "0123456789");
}

/* [-+]?[0-9]+ */
static bool is_integer(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t n = count_digits(s);
    return n > 0 && s[n] == '\0';
}

/* [-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)? which is YAML's, without .inf and .nan */
static bool is_number(const char *s)
{
    s += *s == '-' || *s == '+';
    size_t whole = count_digits(s), fraction = 0;
    s += whole;
    if (*s == '.') {
        fraction = count_digits(++s);
        s += fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (*s == 'e' || *s == 'E')
        return is_integer(s + 1);
    return *s == '\0';
}

static cop_status assign_integer(int64_t *field, const cop_key *key, const char *text, bool quoted,
                                 cop_error *err)
{
    if (quoted || !is_integer(text))
        return fail_type(key, "an integer", text, quoted, err);
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno == ERANGE || (double)value < key->min || (double)value > key->max)
        return fail_range(key, text, err);
    *field = value;
    return COP_OK;
}

static cop_status assign_float(double *field, const cop_key *key, const char *text, bool quoted,
                               cop_error *err)
{
    if (quoted || !is_number(text))
        return fail_type(key, "a number", text, quoted, err);
    double value = strtod(text, NULL);
    if (value < key->min || value > key->max)
        return fail_range(key, text, err);
    *field = value;
    return COP_OK;
}

static cop_status assign_bool(bool *field, const cop_key *key, const char *text, bool quoted,
                              cop_error *err)
{
    bool yes = strcmp(text, "true") == 0;
    if (quoted || (!yes && strcmp(text, "false") != 0))
        return fail_type(key, "true or false", text, quoted, err);
    *field = yes;
    return COP_OK;
}

/* YAML reads these words as null when they stand without quotes. */
static bool is_null(const char *text)
{
    return !*text || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0;
}

static cop_status assign_text(char **field, const cop_key *key, const char *text, bool quoted,
                              cop_error *err)
{
    if (!quoted && is_null(text))
        return cop_fail(err, COP_ERR_INVALID, "%s: expected text, got %s; write \"%s\" for %s",
                        key->path, *text ? text : "nothing", text,
                        *text ? "this word" : "an empty one");
    if (strlen(text) > MAX_TEXT)
        return cop_fail(err, COP_ERR_INVALID, "%s: %zu bytes of text are too many; at most %d",
                        key->path, strlen(text), MAX_TEXT);
    free(*field);
    *field = cop_strdup(text);
    return COP_OK;
}

/* The choices "a|b|c" as pointers into `text`, which is cut into them. */
static size_t split_choices(const char *choices, char text[COP_RANGE_TEXT], const char *names[16])
{
    snprintf(text, COP_RANGE_TEXT, "%s", choices);
    size_t count = 0;
    char *rest;
    for (char *name = strtok_r(text, "|", &rest); name && count < 16;
         name = strtok_r(NULL, "|", &rest))
        names[count++] = name;
    return count;
}

static cop_status assign_choice(char **field, const cop_key *key, const char *text, cop_error *err)
{
    char split[COP_RANGE_TEXT], shown[COP_SHOWN_TEXT], list[2 * COP_RANGE_TEXT];
    const char *names[16];
    size_t count = split_choices(key->choices, split, names), n = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], text) == 0) {
            free(*field);
            *field = cop_strdup(text);
            return COP_OK;
        }
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = cop_nearest(text, names, count);
    return cop_fail(err, COP_ERR_INVALID, "%s: '%s' is not one of %s%s%s%s", key->path,
                    cop_value_shown(shown, text), list, near ? "; did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
}

cop_status cop_value_assign(cop_config *cfg, const cop_key *key, const char *text, bool quoted,
                            cop_error *err)
{
    void *field = cop_table_field(cfg, key);
    switch (key->type) {
    case COP_KEY_INT:
        return assign_integer(field, key, text, quoted, err);
    case COP_KEY_FLOAT:
        return assign_float(field, key, text, quoted, err);
    case COP_KEY_BOOL:
        return assign_bool(field, key, text, quoted, err);
    case COP_KEY_STRING:
        return assign_text(field, key, text, quoted, err);
    case COP_KEY_CHOICE:
        return assign_choice(field, key, text, err);
    }
    return cop_fail(err, COP_ERR_INVALID, "%s: key of unknown type", key->path);
}

/* ---- Field to text ---- */

/* The shortest decimal that reads back as the same double; whole numbers without an exponent. */
static void format_float(char *text, size_t size, double value)
{
    if (value == rint(value) && fabs(value) < 1e15) {
        snprintf(text, size, "%.0f", value);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
}

/* Whether YAML reads the text without quotes as this very text. Narrower than YAML's rule. */
static bool is_plain(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char others[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
    bool word = *text && (strchr(letters, *text) || *text == '/');
    return word && text[strspn(text, others)] == '\0' && !is_null(text) &&
           strcmp(text, "true") != 0 && strcmp(text, "false") != 0;
}

/* Decodes one character of well-formed UTF-8; returns its length in bytes. */
static size_t decode(const unsigned char *s, uint32_t *character)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    *character = n == 1 ? s[0] : s[0] & (0x7fU >> n);
    for (size_t i = 1; i < n; i++)
        *character = *character << 6 | (s[i] & 0x3fU);
    return n;
}

/* In double quotes. What a terminal or a YAML reader might take for more than a letter is escaped:
 * controls, line separators, the byte order mark, noncharacters. */
static void put_quoted(cop_buffer *b, const char *text)
{
    cop_buffer_put(b, "\"", 1);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        uint32_t c;
        size_t n = decode(s, &c);
        char escape[16] = "";
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", (int)c);
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
            snprintf(escape, sizeof escape, "\\x%02x", c);
        else if (c == 0x2028 || c == 0x2029 || c == 0xfeff || (c >= 0xfff0 && c < 0x10000))
            snprintf(escape, sizeof escape, "\\U%08x", c);
        cop_buffer_put(b, *escape ? escape : (const char *)s, *escape ? strlen(escape) : n);
        s += n;
    }
    cop_buffer_put(b, "\"", 1);
}

static size_t format_text(const char *value, char *text, size_t size)
{
    if (is_plain(value))
        return (size_t)snprintf(text, size, "%s", value);
    cop_buffer b = {0};
    put_quoted(&b, value);
    size_t n = b.size;
    if (size > 0) {
        size_t kept = n < size ? n : size - 1;
        memcpy(text, b.data, kept);
        text[kept] = '\0';
    }
    cop_buffer_fini(&b);
    return n;
}

size_t cop_config_value(const cop_config *cfg, size_t i, char *text, size_t size)
{
    const cop_key *keys;
    cop_config_keys(&keys);
    const void *field = cop_table_field_const(cfg, &keys[i]);
    char number[32];
    switch (keys[i].type) {
    case COP_KEY_INT:
        return (size_t)snprintf(text, size, "%" PRId64, *(const int64_t *)field);
    case COP_KEY_FLOAT:
        format_float(number, sizeof number, *(const double *)field);
        return (size_t)snprintf(text, size, "%s", number);
    case COP_KEY_BOOL:
        return (size_t)snprintf(text, size, "%s", *(const bool *)field ? "true" : "false");
    case COP_KEY_STRING:
    case COP_KEY_CHOICE:
        return format_text(*(char *const *)field, text, size);
    }
    return 0;
}

void cop_value_range(const cop_key *key, char *text, size_t size)
{
    bool integer = key->type == COP_KEY_INT;
    if (integer || key->type == COP_KEY_FLOAT) {
        char min[32], max[32];
        format_float(min, sizeof min, key->min);
        format_float(max, sizeof max, key->max);
        bool open = integer && key->max >= (double)INT64_MAX;
        snprintf(text, size, "%s %s%s%s%s", min, open ? "or more" : "to ", open ? "" : max,
                 *key->unit ? " " : "", key->unit);
    } else if (key->type == COP_KEY_CHOICE) {
        snprintf(text, size, "%s", key->choices);
    } else {
        snprintf(text, size, "%s", key->type == COP_KEY_BOOL ? "true|false" : "text");
    }
}
