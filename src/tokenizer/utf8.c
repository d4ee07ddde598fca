#include "tokenizer/utf8.h"

#include <string.h>

/* Well-formed sequences (Unicode 15, table 3-7) differ from "any continuation" only in what may
 * follow the first byte: E0 A0..BF, ED 80..9F, F0 90..BF, F4 80..8F. */
static void second_byte(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
}

cop_utf8_kind cop_utf8_first(const uint8_t *text, size_t bytes, size_t *length)
{
    uint8_t first = text[0], low, high;
    *length = 1;
    if (first < 0x80)
        return COP_UTF8_WHOLE;
    if (first < 0xc2 || first > 0xf4)
        return COP_UTF8_ILL;
    size_t wanted = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    second_byte(first, &low, &high);
    for (size_t i = 1; i < wanted; i++) {
        if (i == bytes)
            return COP_UTF8_UNFINISHED;
        if (text[i] < low || text[i] > high)
            return COP_UTF8_ILL;
        *length = i + 1;
        low = 0x80;
        high = 0xbf;
    }
    return COP_UTF8_WHOLE;
}

size_t cop_utf8_valid(const uint8_t *text, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        uint64_t eight;
        if (bytes - at >= sizeof eight) {
            memcpy(&eight, text + at, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        size_t length;
        if (cop_utf8_first(text + at, bytes - at, &length) != COP_UTF8_WHOLE)
            return at;
        at += length;
    }
    return at;
}

void cop_utf8_repair(const uint8_t *text, size_t bytes, cop_buffer *out)
{
    while (bytes > 0) {
        size_t valid = cop_utf8_valid(text, bytes), flaw = 0;
        cop_buffer_put(out, text, valid);
        if (valid < bytes) {
            cop_utf8_first(text + valid, bytes - valid, &flaw);
            cop_buffer_put(out, COP_UTF8_REPLACEMENT, 3);
        }
        text += valid + flaw;
        bytes -= valid + flaw;
    }
}

size_t cop_utf8_encode(uint32_t code, uint8_t out[COP_UTF8_LONGEST])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

bool cop_utf8_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0d) || code == 0x20 || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool cop_utf8_is_python_space(uint32_t code)
{
    return (code >= 0x1c && code <= 0x1f) || cop_utf8_is_space(code);
}
