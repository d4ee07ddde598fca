/* UTF-8: checked once where text comes in; everything behind that reads it without checks. */
#ifndef COP_TOKENIZER_UTF8_H
#define COP_TOKENIZER_UTF8_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COP_UTF8_LONGEST = 4 };

/* U+FFFD, what ill-formed bytes become. */
#define COP_UTF8_REPLACEMENT "\xef\xbf\xbd"

typedef enum {
    COP_UTF8_WHOLE,     /* a character */
    COP_UTF8_ILL,       /* a maximal subpart of an ill-formed sequence */
    COP_UTF8_UNFINISHED /* so far well-formed, cut short by the end of the text */
} cop_utf8_kind;

/* What the text begins with and its *length, 1 to 4 bytes. bytes > 0. */
cop_utf8_kind cop_utf8_first(const uint8_t *text, size_t bytes, size_t *length);

/* Bytes at the start of the text that are well-formed: all of them, or up to the first flaw. */
size_t cop_utf8_valid(const uint8_t *text, size_t bytes);

/* Appends the text with U+FFFD for each maximal subpart of an ill-formed sequence. */
void cop_utf8_repair(const uint8_t *text, size_t bytes, cop_buffer *out);

/* Code point at the start of well-formed text, and its length. */
static inline uint32_t cop_utf8_decode(const uint8_t *text, size_t *length)
{
    uint32_t c = text[0];
    if (c < 0x80) {
        *length = 1;
        return c;
    }
    if (c < 0xe0) {
        *length = 2;
        return (c & 0x1f) << 6 | (text[1] & 0x3fu);
    }
    if (c < 0xf0) {
        *length = 3;
        return (c & 0x0f) << 12 | (text[1] & 0x3fu) << 6 | (text[2] & 0x3fu);
    }
    *length = 4;
    return (c & 0x07) << 18 | (text[1] & 0x3fu) << 12 | (text[2] & 0x3fu) << 6 | (text[3] & 0x3fu);
}

size_t cop_utf8_encode(uint32_t code, uint8_t out[COP_UTF8_LONGEST]);

/* White space of Unicode (White_Space), and of Python's str.strip, which has U+001C to U+001F too. */
bool cop_utf8_is_space(uint32_t code);
bool cop_utf8_is_python_space(uint32_t code);

#endif
