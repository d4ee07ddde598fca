#define _GNU_SOURCE /* memmem */
#include "tokenizer/normalise.h"

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

void cop_replace(const char *text, size_t bytes, const cop_normalise_step *step, cop_buffer *out)
{
    const char *end = text + bytes, *hit;
    while (text < end &&
           (hit = memmem(text, (size_t)(end - text), step->pattern, step->pattern_bytes))) {
        cop_buffer_put(out, text, (size_t)(hit - text));
        cop_buffer_put(out, step->content, step->content_bytes);
        text = hit + step->pattern_bytes;
    }
    cop_buffer_put(out, text, (size_t)(end - text));
}

/* True if the step wrote its result to `out`; false if the text stays as it is. */
static bool apply(const cop_normaliser *n, const cop_normalise_step *step, const char *text,
                  size_t bytes, cop_buffer *out)
{
    switch (step->kind) {
    case COP_NORMALISE_NFC:
        return cop_nfc(n->nfc, text, bytes, out);
    case COP_NORMALISE_PREPEND:
        if (bytes == 0)
            return false;
        cop_buffer_put(out, step->content, step->content_bytes);
        cop_buffer_put(out, text, bytes);
        return true;
    case COP_NORMALISE_REPLACE:
        if (!memmem(text, bytes, step->pattern, step->pattern_bytes))
            return false;
        cop_replace(text, bytes, step, out);
        return true;
    }
    return false;
}

const char *cop_normalise(cop_normaliser *normaliser, const char *text, size_t bytes,
                          size_t *out_bytes)
{
    unsigned turn = 0;
    for (size_t i = 0; i < normaliser->count; i++) {
        cop_buffer *out = &normaliser->scratch[turn];
        out->size = 0;
        if (!apply(normaliser, &normaliser->steps[i], text, bytes, out))
            continue;
        text = out->size ? (const char *)out->data : "";
        bytes = out->size;
        turn ^= 1;
    }
    *out_bytes = bytes;
    return text;
}
