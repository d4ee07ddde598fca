#include "tokenizer/byte_level.h"

#include "tokenizer/utf8.h"

enum { STAND_INS = 0x100, STAND_IN_COUNT = 68 };

static bool stands_for_itself(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
           (byte >= 0xae && byte <= 0xff);
}

/* Bytes with stand-ins, in order: 00..20, 7F..A0, AD. */
uint32_t cop_byte_level_char(uint8_t byte)
{
    if (stands_for_itself(byte))
        return byte;
    if (byte <= 0x20)
        return STAND_INS + byte;
    return byte == 0xad ? STAND_INS + STAND_IN_COUNT - 1 : STAND_INS + 0x21u + (byte - 0x7fu);
}

static int byte_of(uint32_t code)
{
    if (code < STAND_INS)
        return stands_for_itself(code) ? (int)code : -1;
    uint32_t place = code - STAND_INS;
    if (place >= STAND_IN_COUNT)
        return -1;
    if (place <= 0x20)
        return (int)place;
    return place == STAND_IN_COUNT - 1 ? 0xad : (int)(0x7f + place - 0x21);
}

void cop_byte_level_write(const uint8_t *text, size_t bytes, cop_buffer *out)
{
    for (size_t i = 0; i < bytes; i++) {
        uint8_t character[COP_UTF8_LONGEST];
        cop_buffer_put(out, character, cop_utf8_encode(cop_byte_level_char(text[i]), character));
    }
}

bool cop_byte_level_read(const uint8_t *text, size_t bytes, cop_buffer *out)
{
    size_t before = out->size, length;
    for (size_t at = 0; at < bytes; at += length) {
        int byte = byte_of(cop_utf8_decode(text + at, &length));
        if (byte < 0) {
            out->size = before;
            return false;
        }
        cop_buffer_put(out, &(uint8_t){(uint8_t)byte}, 1);
    }
    return true;
}
