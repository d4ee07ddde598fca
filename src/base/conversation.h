/* Tokens and the text they come from, as the modules hand them to each other: the tokenizer makes
 * them, workloads and the library ask for them. */
#ifndef COP_BASE_CONVERSATION_H
#define COP_BASE_CONVERSATION_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A growing list; zero-initialise, free(ids) at the end. */
typedef struct {
    uint32_t *ids;
    size_t count, capacity;
} cop_tokens;

typedef enum { COP_ROLE_SYSTEM, COP_ROLE_USER, COP_ROLE_ASSISTANT } cop_role;

typedef struct {
    cop_role role;
    const char *text; /* UTF-8, not zero-terminated; borrowed */
    size_t bytes;
} cop_chat_message;

/* What turns text into tokens. Appends to *out; what is already there stays. */
typedef struct {
    cop_status (*text)(void *self, const char *text, size_t bytes, cop_tokens *out, cop_error *err);
    /* A conversation by the model's chat template; `ask`: end with what makes the assistant speak.
     * The tokens of a conversation are how those of its continuations begin, up to the last
     * message. */
    cop_status (*chat)(void *self, const cop_chat_message *messages, size_t count, bool ask,
                       cop_tokens *out, cop_error *err);
    void *self;
} cop_text_encoder;

#endif
