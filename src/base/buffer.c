#include "base/buffer.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

void cop_buffer_fini(cop_buffer *b)
{
    free(b->data);
    *b = (cop_buffer){0};
}

void *cop_buffer_reserve(cop_buffer *b, size_t n)
{
    COP_GROW(b->data, b->capacity, b->size + n);
    void *at = b->data + b->size;
    b->size += n;
    return at;
}

void cop_buffer_put(cop_buffer *b, const void *bytes, size_t n)
{
    if (n)
        memcpy(cop_buffer_reserve(b, n), bytes, n);
}

const void *cop_cursor_take(cop_cursor *c, size_t n)
{
    if ((size_t)(c->end - c->at) < n)
        return NULL;
    const void *at = c->at;
    c->at += n;
    return at;
}

bool cop_cursor_get(cop_cursor *c, void *out, size_t n)
{
    const void *at = cop_cursor_take(c, n);
    if (!at)
        return false;
    memcpy(out, at, n);
    return true;
}
