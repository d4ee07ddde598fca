/* The tokens: their text as the file has it, found by text, and the bytes each stands for. */
#ifndef COP_TOKENIZER_VOCAB_H
#define COP_TOKENIZER_VOCAB_H

#include "base/buffer.h"
#include "base/request.h"

#include <stdbool.h>

enum { COP_VOCAB_LARGEST = 1 << 24 }; /* ids are below */

enum {
    COP_TOKEN_KNOWN = 1,
    COP_TOKEN_MODEL = 2,
    COP_TOKEN_ADDED = 4,
    COP_TOKEN_SPECIAL = 8,
    COP_TOKEN_RESPELLED = 16 /* `meaning` was set to what is decoded in place of `text` */
};

/* Strings by id, one after the other in a pool. */
typedef struct {
    cop_buffer pool;
    uint64_t *start; /* (size): offset in the pool */
    uint32_t *bytes; /* (size) */
} cop_strings;

typedef struct {
    uint32_t size;       /* the highest id + 1 */
    uint8_t *flags;      /* (size): COP_TOKEN_*; 0: no such token */
    cop_strings text;    /* as in the file: "Ġthe", "<0x0A>" */
    cop_strings meaning; /* as decoded: " the", "\n" */
    cop_strings first;   /* the same at the start of a text; empty: no other than `meaning` */
    uint32_t *slots;     /* open addressing over `text`: id + 1, 0: empty */
    size_t mask;
} cop_vocab;

/* Room for ids 0 .. size - 1, and for `tokens` in the index. */
void cop_vocab_init(cop_vocab *vocab, uint32_t size, size_t tokens);
void cop_vocab_fini(cop_vocab *vocab);

/* Names a new token; `id` is below size and free, the text not there yet. */
void cop_vocab_put(cop_vocab *vocab, uint32_t id, const void *text, size_t bytes, uint8_t flags);
/* Id of the token with this text, or COP_NO_TOKEN. */
uint32_t cop_vocab_find(const cop_vocab *vocab, const void *text, size_t bytes);
/* The same among the model's own tokens: what merges and words are made of. */
uint32_t cop_vocab_find_model(const cop_vocab *vocab, const void *text, size_t bytes);

/* Not the vocabulary's own memory, of less than 4 GiB. */
void cop_vocab_mean(cop_vocab *vocab, uint32_t id, const void *meaning, size_t bytes);
void cop_vocab_mean_first(cop_vocab *vocab, uint32_t id, const void *meaning, size_t bytes);

static inline const uint8_t *cop_strings_at(const cop_strings *s, uint32_t id, size_t *bytes)
{
    *bytes = s->bytes[id];
    return s->pool.data + s->start[id];
}

#endif
