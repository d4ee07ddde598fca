#include "tokenizer/vocab.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

static void strings_init(cop_strings *s, uint32_t size)
{
    s->start = cop_calloc(size, sizeof *s->start);
    s->bytes = cop_calloc(size, sizeof *s->bytes);
    cop_buffer_reserve(&s->pool, 1); /* so that there is an address to add 0 to */
}

static void strings_fini(cop_strings *s)
{
    cop_buffer_fini(&s->pool);
    free(s->start);
    free(s->bytes);
}

static void strings_put(cop_strings *s, uint32_t id, const void *text, size_t bytes)
{
    COP_CHECK(bytes <= UINT32_MAX);
    s->start[id] = s->pool.size;
    s->bytes[id] = (uint32_t)bytes;
    cop_buffer_put(&s->pool, text, bytes);
}

void cop_vocab_init(cop_vocab *vocab, uint32_t size, size_t tokens)
{
    COP_CHECK(size <= COP_VOCAB_LARGEST);
    *vocab = (cop_vocab){.size = size};
    vocab->flags = cop_calloc(size, 1);
    strings_init(&vocab->text, size);
    strings_init(&vocab->meaning, size);
    size_t slots = 16;
    while (slots < 2 * tokens)
        slots *= 2;
    vocab->slots = cop_calloc(slots, sizeof *vocab->slots);
    vocab->mask = slots - 1;
}

void cop_vocab_fini(cop_vocab *vocab)
{
    free(vocab->flags);
    strings_fini(&vocab->text);
    strings_fini(&vocab->meaning);
    strings_fini(&vocab->first);
    free(vocab->slots);
    *vocab = (cop_vocab){0};
}

/* The slot that holds the text, or the free one where it would go. */
static size_t find_slot(const cop_vocab *vocab, const void *text, size_t bytes)
{
    size_t at = cop_hash(text, bytes, 0) & vocab->mask;
    for (; vocab->slots[at]; at = (at + 1) & vocab->mask) {
        size_t length;
        const uint8_t *other = cop_strings_at(&vocab->text, vocab->slots[at] - 1, &length);
        if (length == bytes && memcmp(other, text, bytes) == 0)
            break;
    }
    return at;
}

void cop_vocab_put(cop_vocab *vocab, uint32_t id, const void *text, size_t bytes, uint8_t flags)
{
    COP_CHECK(id < vocab->size && !vocab->flags[id]);
    size_t slot = find_slot(vocab, text, bytes);
    COP_CHECK(!vocab->slots[slot]);
    vocab->slots[slot] = id + 1;
    vocab->flags[id] = COP_TOKEN_KNOWN | flags;
    strings_put(&vocab->text, id, text, bytes);
}

uint32_t cop_vocab_find(const cop_vocab *vocab, const void *text, size_t bytes)
{
    return vocab->slots[find_slot(vocab, text, bytes)] - 1; /* COP_NO_TOKEN is 0 - 1 */
}

uint32_t cop_vocab_find_model(const cop_vocab *vocab, const void *text, size_t bytes)
{
    uint32_t id = cop_vocab_find(vocab, text, bytes);
    return id != COP_NO_TOKEN && vocab->flags[id] & COP_TOKEN_MODEL ? id : COP_NO_TOKEN;
}

void cop_vocab_mean(cop_vocab *vocab, uint32_t id, const void *meaning, size_t bytes)
{
    strings_put(&vocab->meaning, id, meaning, bytes);
}

void cop_vocab_mean_first(cop_vocab *vocab, uint32_t id, const void *meaning, size_t bytes)
{
    if (!vocab->first.start)
        strings_init(&vocab->first, vocab->size);
    strings_put(&vocab->first, id, meaning, bytes);
}
