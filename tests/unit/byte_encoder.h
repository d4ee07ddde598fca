/* A text encoder for tests: a byte is a token; 256, 257, 258 begin a message of the user, of the
 * assistant and of the system, 259 ends one. */
#ifndef COP_TESTS_BYTE_ENCODER_H
#define COP_TESTS_BYTE_ENCODER_H

#include "base/alloc.h"
#include "base/conversation.h"

enum { BYTE_USER = 256, BYTE_ASSISTANT, BYTE_SYSTEM, BYTE_END, BYTE_VOCAB };

static inline void byte_put(cop_tokens *out, uint32_t id)
{
    COP_GROW(out->ids, out->capacity, out->count + 1);
    out->ids[out->count++] = id;
}

static inline cop_status byte_text(void *self, const char *text, size_t bytes, cop_tokens *out,
                                   cop_error *err)
{
    for (size_t i = 0; i < bytes; i++)
        byte_put(out, (uint8_t)text[i]);
    return COP_OK;
}

static inline cop_status byte_chat(void *self, const cop_chat_message *messages, size_t count,
                                   bool ask, cop_tokens *out, cop_error *err)
{
    static const uint32_t marks[] = {[COP_ROLE_SYSTEM] = BYTE_SYSTEM,
                                     [COP_ROLE_USER] = BYTE_USER,
                                     [COP_ROLE_ASSISTANT] = BYTE_ASSISTANT};
    for (size_t i = 0; i < count; i++) {
        byte_put(out, marks[messages[i].role]);
        byte_text(self, messages[i].text, messages[i].bytes, out, err);
        byte_put(out, BYTE_END);
    }
    if (ask)
        byte_put(out, BYTE_ASSISTANT);
    return COP_OK;
}

static const cop_text_encoder byte_encoder = {byte_text, byte_chat, NULL};

#endif
