/* NFC in linear time, with most text recognised as normalised already.
 *
 * A character is *closed* if its combining class is 0, nothing before it composes with it, and it is
 * its own NFC. Normalisation never reaches across the border in front of a closed character, so
 *
 *     text:  c c c c o o c c c o c ...        c closed, o open
 *                  |-----|   |---|            only these spans are normalised: an open run with the
 *                                             closed character that it may compose with
 *
 * utf8proc decomposes character by character and composes; ordering of marks is done here, by
 * counting, as a run of them can be as long as the text. */
#include "tokenizer/normalise.h"

#include "base/alloc.h"
#include "tokenizer/utf8.h"

#include <utf8proc.h>

#include <stdlib.h>
#include <string.h>

enum { FIRST_OPEN = 0x300, DECOMPOSITION_LONGEST = 8, CLASSES = 256, SHORT_RUN = 16 };

/* Does the character, decomposed and composed, come back as itself? */
static bool is_own_form(utf8proc_int32_t code)
{
    utf8proc_int32_t codes[DECOMPOSITION_LONGEST];
    int last_class = 0;
    utf8proc_ssize_t count = utf8proc_decompose_char(
        code, codes, DECOMPOSITION_LONGEST, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last_class);
    return utf8proc_normalize_utf32(codes, count, UTF8PROC_COMPOSE | UTF8PROC_STABLE) == 1 &&
           codes[0] == code;
}

static bool find_closed(uint32_t code)
{
    if (code >= 0xac00 && code <= 0xd7a3) /* Hangul syllables; jamo may compose with these */
        return true;
    /* Vowels and final consonants. Not U+11A7 just before these: utf8proc 2.8 lets it vanish into the
     * syllable before it, which it cannot when it is closed. */
    if ((code >= 0x1161 && code <= 0x1175) || (code >= 0x11a8 && code <= 0x11c2))
        return false;
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)code);
    if (p->combining_class != 0)
        return false;
    /* utf8proc keeps one index for both sides of a composition; from 0x8000 up it is the right. */
    if (p->comb_index != UINT16_MAX && p->comb_index >= 0x8000)
        return false;
    bool whole = p->decomp_seqindex == UINT16_MAX || p->decomp_type != 0;
    return whole || is_own_form((utf8proc_int32_t)code);
}

void cop_nfc_init(cop_nfc_table *table)
{
    memset(table->open, 0, sizeof table->open);
    for (uint32_t code = FIRST_OPEN; code < COP_NFC_CODES; code++)
        if (!find_closed(code))
            table->open[code / 64] |= (uint64_t)1 << code % 64;
}

static bool is_closed(const cop_nfc_table *table, uint32_t code)
{
    return code >= COP_NFC_CODES || !(table->open[code / 64] >> code % 64 & 1);
}

typedef struct {
    utf8proc_int32_t *codes;
    size_t count, capacity;
    utf8proc_int32_t *sorted; /* scratch of the ordering */
    size_t sorted_capacity;
} span;

static unsigned class_of(utf8proc_int32_t code)
{
    return (unsigned)utf8proc_get_property(code)->combining_class;
}

static void order_short(utf8proc_int32_t *run, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        utf8proc_int32_t code = run[i];
        size_t j = i;
        for (; j > 0 && class_of(run[j - 1]) > class_of(code); j--)
            run[j] = run[j - 1];
        run[j] = code;
    }
}

static void order_long(span *s, utf8proc_int32_t *run, size_t n)
{
    size_t place[CLASSES + 1] = {0};
    COP_GROW(s->sorted, s->sorted_capacity, n);
    for (size_t i = 0; i < n; i++)
        place[class_of(run[i]) + 1]++;
    for (unsigned c = 0; c < CLASSES; c++)
        place[c + 1] += place[c];
    for (size_t i = 0; i < n; i++)
        s->sorted[place[class_of(run[i])]++] = run[i];
    memcpy(run, s->sorted, n * sizeof *run);
}

/* Canonical ordering: each run of marks by class, equal ones as they were. */
static void order(span *s)
{
    for (size_t i = 0; i < s->count;) {
        size_t n = 0;
        while (i + n < s->count && class_of(s->codes[i + n]) != 0)
            n++;
        if (n > SHORT_RUN)
            order_long(s, s->codes + i, n);
        else if (n > 1)
            order_short(s->codes + i, n);
        i += n + 1;
    }
}

static void normalise_span(span *s, const uint8_t *text, size_t bytes, cop_buffer *out)
{
    size_t length;
    s->count = 0;
    for (size_t at = 0; at < bytes; at += length) {
        utf8proc_int32_t code = (utf8proc_int32_t)cop_utf8_decode(text + at, &length);
        int last_class = 0;
        COP_GROW(s->codes, s->capacity, s->count + DECOMPOSITION_LONGEST);
        s->count +=
            (size_t)utf8proc_decompose_char(code, s->codes + s->count, DECOMPOSITION_LONGEST,
                                            UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last_class);
    }
    order(s);
    utf8proc_ssize_t count = utf8proc_normalize_utf32(s->codes, (utf8proc_ssize_t)s->count,
                                                      UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        uint8_t character[COP_UTF8_LONGEST];
        cop_buffer_put(out, character, cop_utf8_encode((uint32_t)s->codes[i], character));
    }
}

/* Start of the next open character at or after `at`, and of the closed one before it. */
static size_t next_open(const cop_nfc_table *table, const uint8_t *text, size_t bytes, size_t at,
                        size_t *before)
{
    size_t length = 1;
    *before = at;
    for (; at < bytes; at += length) {
        if (text[at] < 0xcc) { /* below U+0300 */
            length = text[at] < 0x80 ? 1 : 2;
        } else if (!is_closed(table, cop_utf8_decode(text + at, &length))) {
            return at;
        }
        *before = at;
    }
    return bytes;
}

bool cop_nfc(const cop_nfc_table *table, const char *text, size_t bytes, cop_buffer *out)
{
    const uint8_t *data = (const uint8_t *)text;
    size_t copied = 0, before, length, size = out->size;
    size_t open = next_open(table, data, bytes, 0, &before);
    if (open == bytes)
        return false;
    span s = {0};
    while (open < bytes) {
        size_t end = open;
        while (end < bytes && !is_closed(table, cop_utf8_decode(data + end, &length)))
            end += length;
        cop_buffer_put(out, data + copied, before - copied);
        normalise_span(&s, data + before, end - before, out);
        copied = end;
        open = next_open(table, data, bytes, end, &before);
    }
    cop_buffer_put(out, data + copied, bytes - copied);
    free(s.codes);
    free(s.sorted);
    if (out->size - size == bytes && memcmp(out->data + size, text, bytes) == 0) {
        out->size = size;
        return false;
    }
    return true;
}
