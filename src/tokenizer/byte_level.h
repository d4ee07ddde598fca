/* GPT-2's alphabet: each byte as one printable character, so that a vocabulary of bytes can be
 * written as text. '!'..'~', U+00A1..AC and U+00AE..FF stand for themselves, the other 68 bytes are
 * U+0100 onwards: a space is U+0120 'Ġ', a newline U+010A 'Ċ'. */
#ifndef COP_TOKENIZER_BYTE_LEVEL_H
#define COP_TOKENIZER_BYTE_LEVEL_H

#include "base/buffer.h"

#include <stdbool.h>

/* Code point of a byte, at most U+0143. */
uint32_t cop_byte_level_char(uint8_t byte);
/* Appends text as the alphabet writes it. */
void cop_byte_level_write(const uint8_t *text, size_t bytes, cop_buffer *out);
/* Appends the bytes that well-formed `text` stands for; false, and nothing appended, if it has a
 * character that is not of the alphabet. */
bool cop_byte_level_read(const uint8_t *text, size_t bytes, cop_buffer *out);

#endif
