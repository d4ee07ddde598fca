#include "workload/mooncake.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { TIMESTAMP, INPUT_LENGTH, OUTPUT_LENGTH, HASH_IDS, FIELDS } field;

static const char *const field_names[FIELDS] = {"timestamp", "input_length", "output_length",
                                                "hash_ids"};

/* Milliseconds stay exact as a double: that is what speedup divides. */
static const uint64_t max_timestamp_ms = ((uint64_t)1 << 53) - 1;

__attribute__((cold, noinline, format(printf, 2, 3))) static const char *
wrong(cop_mooncake_scan *scan, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(scan->problem, sizeof scan->problem, format, args);
    va_end(args);
    for (char *p = scan->problem; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?'; /* bytes of the file stay harmless on a terminal, and on one line */
    return NULL;
}

/* What stands at `p`, for people: a word or number whole, anything else as one character. */
__attribute__((cold, noinline)) static const char *unexpected(cop_mooncake_scan *scan,
                                                              const char *p, const char *expected)
{
    int length = (int)strcspn(p, " \t\r\n,:[]{}\"");
    unsigned char c = (unsigned char)*p;
    if (*p == '\n' || (*p == '\r' && p[1] == '\n'))
        return wrong(scan, "expected %s, found the end of the %s", expected,
                     scan->ends_file ? "file: it is cut short" : "line");
    if (c < ' ' || c > '~')
        return wrong(scan, "expected %s, found byte 0x%02x", expected, c);
    if (length > 24)
        return wrong(scan, "expected %s, found '%.24s...'", expected, p);
    return wrong(scan, "expected %s, found '%.*s'", expected, length ? length : 1, p);
}

static inline const char *skip_spaces(const char *p)
{
    while (*p == ' ' || *p == '\t' || *p == '\r')
        p++;
    return p;
}

__attribute__((cold, noinline)) static const char *bad_integer(cop_mooncake_scan *scan,
                                                               const char *p, field f, uint64_t max)
{
    char expected[96];
    snprintf(expected, sizeof expected, "an integer from 0 to %llu in '%s'",
             (unsigned long long)max, field_names[f]);
    return unexpected(scan, p, expected);
}

/* Whether digits[0 .. end) are a 64-bit number: asked only of 20 digits or more. */
__attribute__((cold, noinline)) static bool fits_64_bits(const char *digits, const char *end)
{
    uint64_t value = 0;
    while (digits < end)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*digits++ - '0'), &value))
            return false;
    return true;
}

/* JSON's integers without sign: no leading zero, no fraction, no exponent. Nearly all the time of a
 * trace goes by here: the loop tests nothing but for the digit. */
static inline const char *take_integer(cop_mooncake_scan *scan, const char *p, field f,
                                       uint64_t max, uint64_t *out)
{
    uint64_t value = (uint8_t)(*p - '0'), digit;
    const char *q = p + 1;
    if (value > 9)
        return bad_integer(scan, p, f, max);
    while ((digit = (uint8_t)(*q - '0')) <= 9) {
        value = value * 10 + digit;
        q++;
    }
    bool ends =
        *q == ',' || *q == ']' || *q == '}' || *q == ' ' || *q == '\t' || *q == '\r' || *q == '\n';
    if (!ends || value > max || (*p == '0' && q - p > 1) || (q - p > 19 && !fits_64_bits(p, q)))
        return bad_integer(scan, p, f, max);
    *out = value;
    return q;
}

static bool grow(void **array, size_t *capacity, size_t size)
{
    size_t larger = *capacity ? *capacity * 2 : 1024;
    void *p = realloc(*array, larger * size);
    if (!p)
        return false;
    *array = p;
    *capacity = larger;
    return true;
}

/* Makes room for one more id. cop_mooncake_row counts them in 32 bits. */
__attribute__((cold, noinline)) static bool more_ids(cop_mooncake_scan *scan, cop_mooncake *trace)
{
    if (trace->id_count < UINT32_MAX &&
        grow((void **)&trace->ids, &trace->ids_capacity, sizeof *trace->ids))
        return true;
    scan->no_memory = true;
    wrong(scan, "no memory for more than %zu block ids", trace->id_count);
    return false;
}

static const char *take_ids(cop_mooncake_scan *scan, cop_mooncake *trace, const char *p)
{
    if (*p != '[')
        return unexpected(scan, p, "'[' to begin 'hash_ids'");
    p = skip_spaces(p + 1);
    if (*p == ']')
        return p + 1;
    for (;;) {
        uint64_t id = 0;
        p = take_integer(scan, p, HASH_IDS, UINT64_MAX, &id);
        if (!p || (trace->id_count == trace->ids_capacity && !more_ids(scan, trace)))
            return NULL;
        trace->ids[trace->id_count++] = id;
        p = skip_spaces(p);
        if (*p == ']')
            return p + 1;
        if (*p != ',')
            return unexpected(scan, p, "',' or ']' in 'hash_ids'");
        p = skip_spaces(p + 1);
    }
}

__attribute__((cold, noinline)) static const char *unknown_field(cop_mooncake_scan *scan,
                                                                 const char *name, size_t length)
{
    enum { SHOWN = 40 };
    char text[SHOWN + 1];
    snprintf(text, sizeof text, "%.*s", length < SHOWN ? (int)length : SHOWN, name);
    const char *near = length <= SHOWN ? cop_nearest(text, field_names, FIELDS) : NULL;
    if (near)
        return wrong(scan, "unknown field '%s'; did you mean '%s'?", text, near);
    return wrong(scan,
                 "unknown field '%s'; there are timestamp, input_length, output_length, hash_ids",
                 text);
}

/* A field's name and the colon after it. */
static const char *take_name(cop_mooncake_scan *scan, const char *p, field *out)
{
    if (*p != '"')
        return unexpected(scan, p, "a field name in double quotes");
    const char *name = ++p;
    while (*p != '"' && *p != '\n')
        p++;
    if (*p == '\n')
        return unexpected(scan, p, "'\"' to end a field name");
    size_t length = (size_t)(p - name);
    field f = 0;
    while (f < FIELDS && (strlen(field_names[f]) != length || memcmp(field_names[f], name, length)))
        f++;
    if (f == FIELDS)
        return unknown_field(scan, name, length);
    p = skip_spaces(p + 1);
    if (*p != ':')
        return unexpected(scan, p, "':' after a field name");
    *out = f;
    return skip_spaces(p + 1);
}

static const char *take_value(cop_mooncake_scan *scan, cop_mooncake *trace, const char *p, field f,
                              cop_mooncake_row *row)
{
    uint64_t value = 0;
    switch (f) {
    case TIMESTAMP:
        p = take_integer(scan, p, f, max_timestamp_ms, &value);
        row->timestamp_ms = (int64_t)value;
        return p;
    case INPUT_LENGTH:
        p = take_integer(scan, p, f, COP_MOONCAKE_MAX_TOKENS, &value);
        row->input_length = (uint32_t)value;
        return p;
    case OUTPUT_LENGTH:
        p = take_integer(scan, p, f, COP_MOONCAKE_MAX_TOKENS, &value);
        row->output_length = (uint32_t)value;
        return p;
    default:
        return take_ids(scan, trace, p);
    }
}

static const char *take_object(cop_mooncake_scan *scan, cop_mooncake *trace, const char *p,
                               cop_mooncake_row *row)
{
    unsigned seen = 0;
    if (*p != '{')
        return unexpected(scan, p, "'{' to begin a request");
    do {
        field f = FIELDS;
        p = take_name(scan, skip_spaces(p + 1), &f);
        if (!p)
            return NULL;
        if (seen & 1u << f)
            return wrong(scan, "field '%s' is there twice", field_names[f]);
        seen |= 1u << f;
        p = take_value(scan, trace, p, f, row);
        if (!p)
            return NULL;
        p = skip_spaces(p);
    } while (*p == ',');
    if (*p != '}')
        return unexpected(scan, p, "',' or '}' after a field");
    for (field f = 0; f < FIELDS; f++)
        if (!(seen & 1u << f))
            return wrong(scan, "field '%s' is missing", field_names[f]);
    return p + 1;
}

static bool row_fits(cop_mooncake_scan *scan, const cop_mooncake *trace,
                     const cop_mooncake_row *row)
{
    uint32_t blocks = (row->input_length + COP_MOONCAKE_BLOCK - 1) / COP_MOONCAKE_BLOCK;
    int64_t before_ms = trace->row_count ? trace->rows[trace->row_count - 1].timestamp_ms : 0;
    if (row->input_length == 0)
        return wrong(scan, "input_length is 0: a prompt has at least one token");
    if (row->id_count != blocks)
        return wrong(scan, "hash_ids has %u ids, input_length %u needs %u (%d tokens each)",
                     row->id_count, row->input_length, blocks, COP_MOONCAKE_BLOCK);
    if (row->timestamp_ms < before_ms)
        return wrong(scan, "timestamp %lld is before %lld, that of the request before it",
                     (long long)row->timestamp_ms, (long long)before_ms);
    return true;
}

const char *cop_mooncake_scan_line(cop_mooncake_scan *scan, cop_mooncake *trace, const char *text)
{
    size_t first_id = trace->id_count;
    cop_mooncake_row row = {.first_id = (uint32_t)first_id};
    const char *p = take_object(scan, trace, skip_spaces(text), &row);
    if (p) {
        p = skip_spaces(p);
        row.id_count = (uint32_t)(trace->id_count - first_id);
        if (*p != '\n')
            p = unexpected(scan, p, "the end of the line after '}'");
        else if (!row_fits(scan, trace, &row))
            p = NULL;
    }
    if (p && trace->row_count == trace->rows_capacity &&
        !grow((void **)&trace->rows, &trace->rows_capacity, sizeof *trace->rows)) {
        scan->no_memory = true;
        p = wrong(scan, "no memory for more than %zu requests", trace->row_count);
    }
    if (!p) {
        trace->id_count = first_id;
        return NULL;
    }
    trace->rows[trace->row_count++] = row;
    return p + 1;
}
