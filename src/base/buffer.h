/* A growable byte buffer to write messages, and a cursor to read them. Integers are written in
 * host byte order: ranks of one job run on machines of one kind. */
#ifndef COP_BASE_BUFFER_H
#define COP_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *data;
    size_t size, capacity;
} cop_buffer; /* zero-initialise */

void cop_buffer_fini(cop_buffer *b);
void cop_buffer_put(cop_buffer *b, const void *bytes, size_t n);
void *cop_buffer_reserve(cop_buffer *b, size_t n); /* appends n bytes; valid until the next put */

typedef struct {
    const uint8_t *at, *end;
} cop_cursor;

/* Copies n bytes out and advances; false (and nothing copied) if fewer are left. */
bool cop_cursor_get(cop_cursor *c, void *out, size_t n);
/* Pointer to the next n bytes, or NULL if fewer are left; borrowed from the message. */
const void *cop_cursor_take(cop_cursor *c, size_t n);

#endif
