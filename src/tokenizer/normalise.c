#define _GNU_SOURCE /* memmem */
#include "tokenizer/normalise.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

void cop_normaliser_fini(cop_normaliser *normaliser)
{
    for (size_t i = 0; i < normaliser->count; i++) {
        free(normaliser->steps[i].pattern);
        free(normaliser->steps[i].content);
    }
    free(normaliser->steps);
    free(normaliser->nfc);
    cop_buffer_fini(&normaliser->scratch[0]);
    cop_buffer_fini(&normaliser->scratch[1]);
    *normaliser = (cop_normaliser){0};
}

cop_normalise_step *cop_normaliser_add(cop_normaliser *n, cop_normalise_kind kind)
{
    if (n->count == COP_NORMALISE_STEPS)
        return NULL;
    COP_GROW(n->steps, n->capacity, n->count + 1);
    n->steps[n->count] = (cop_normalise_step){.kind = kind};
    return &n->steps[n->count++];
}

/* True if `more` bytes may follow what `out` holds. */
static bool fits(const cop_buffer *out, size_t more, size_t most)
{
    return out->size <= most && more <= most - out->size;
}

bool cop_replace(const char *text, size_t bytes, const cop_normalise_step *step, size_t most,
                 cop_buffer *out)
{
    const char *end = text + bytes, *hit;
    while (text < end &&
           (hit = memmem(text, (size_t)(end - text), step->pattern, step->pattern_bytes))) {
        if (!fits(out, (size_t)(hit - text) + step->content_bytes, most))
            return false;
        cop_buffer_put(out, text, (size_t)(hit - text));
        cop_buffer_put(out, step->content, step->content_bytes);
        text = hit + step->pattern_bytes;
    }
    if (!fits(out, (size_t)(end - text), most))
        return false;
    cop_buffer_put(out, text, (size_t)(end - text));
    return true;
}

typedef enum { UNCHANGED, WRITTEN, TOO_LONG } outcome;

static outcome apply(const cop_normaliser *n, const cop_normalise_step *step, const char *text,
                     size_t bytes, size_t most, cop_buffer *out)
{
    switch (step->kind) {
    case COP_NORMALISE_NFC:
        if (!cop_nfc(n->nfc, text, bytes, out))
            return UNCHANGED;
        return out->size <= most ? WRITTEN : TOO_LONG;
    case COP_NORMALISE_PREPEND:
        if (bytes == 0)
            return UNCHANGED;
        if (!fits(out, step->content_bytes + bytes, most))
            return TOO_LONG;
        cop_buffer_put(out, step->content, step->content_bytes);
        cop_buffer_put(out, text, bytes);
        return WRITTEN;
    case COP_NORMALISE_REPLACE:
        if (!memmem(text, bytes, step->pattern, step->pattern_bytes))
            return UNCHANGED;
        return cop_replace(text, bytes, step, most, out) ? WRITTEN : TOO_LONG;
    }
    return UNCHANGED;
}

const char *cop_normalise(cop_normaliser *normaliser, const char *text, size_t bytes, size_t most,
                          size_t *out_bytes)
{
    unsigned turn = 0;
    for (size_t i = 0; i < normaliser->count; i++) {
        cop_buffer *out = &normaliser->scratch[turn];
        out->size = 0;
        outcome did = apply(normaliser, &normaliser->steps[i], text, bytes, most, out);
        if (did == TOO_LONG)
            return NULL;
        if (did == UNCHANGED)
            continue;
        text = out->size ? (const char *)out->data : "";
        bytes = out->size;
        turn ^= 1;
    }
    *out_bytes = bytes;
    return text;
}
