#include "drive/message.h"

#include <string.h>

void cop_say(cop_buffer *frame, cop_message_kind kind, const void *body, size_t bytes,
             const void *array1, size_t bytes1, const void *array2, size_t bytes2)
{
    size_t total = bytes + bytes1 + bytes2, padding = (8 - total % 8) % 8;
    uint32_t head[2] = {kind, (uint32_t)total};
    cop_buffer_put(frame, head, sizeof head);
    cop_buffer_put(frame, body, bytes);
    cop_buffer_put(frame, array1, bytes1);
    cop_buffer_put(frame, array2, bytes2);
    memset(cop_buffer_reserve(frame, padding), 0, padding);
}

bool cop_hear(cop_cursor *at, cop_heard *out)
{
    uint32_t head[2];
    cop_cursor next = *at;
    if (!cop_cursor_get(&next, head, sizeof head))
        return false;
    const uint8_t *body = cop_cursor_take(&next, head[1]);
    if (!body || !cop_cursor_take(&next, (8 - head[1] % 8) % 8))
        return false;
    out->kind = (cop_message_kind)head[0];
    out->body = (cop_cursor){body, body + head[1]};
    *at = next;
    return true;
}
