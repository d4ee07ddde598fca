#include "tokenizer/internal.h"
#include "tokenizer/utf8.h"

#include "base/check.h"

#include <string.h>

void cop_decoder_init(cop_decoder *decoder, const cop_tokenizer *tokenizer, bool keep_special)
{
    *decoder = (cop_decoder){.tokenizer = tokenizer, .keep_special = keep_special};
}

/* Where bytes go: counted past the room that there is. */
typedef struct {
    char *out;
    size_t count, capacity;
} sink;

static void put(sink *s, const void *bytes, size_t n)
{
    if (s->count + n <= s->capacity)
        memcpy(s->out + s->count, bytes, n);
    s->count += n;
}

/* Writes whole characters; returns how many bytes are held back at the end. */
static size_t write_whole(sink *s, const uint8_t *bytes, size_t n)
{
    for (size_t at = 0, length; at < n; at += length) {
        size_t valid = cop_utf8_valid(bytes + at, n - at);
        put(s, bytes + at, valid);
        at += valid;
        length = 0;
        if (at == n)
            break;
        if (cop_utf8_first(bytes + at, n - at, &length) == COP_UTF8_UNFINISHED)
            return n - at;
        put(s, COP_UTF8_REPLACEMENT, 3);
    }
    return 0;
}

/* What the token means here: the first of a text may lose a space. Borrowed. */
static const uint8_t *meaning_of(const cop_decoder *d, uint32_t id, size_t *n)
{
    const cop_tokenizer *t = d->tokenizer;
    const uint8_t *meaning = cop_strings_at(&t->vocab.meaning, id, n);
    if (d->started || t->strip == COP_STRIP_NONE)
        return meaning;
    if (t->strip == COP_STRIP_MARKS)
        return cop_strings_at(&t->vocab.first, id, n);
    bool strip = *n > 0 && meaning[0] == ' ';
    *n -= strip;
    return meaning + strip;
}

size_t cop_decoder_push(cop_decoder *decoder, uint32_t id, char *out, size_t capacity)
{
    const cop_vocab *vocab = &decoder->tokenizer->vocab;
    if (id >= vocab->size || !vocab->flags[id])
        return 0;
    if (vocab->flags[id] & COP_TOKEN_SPECIAL && !decoder->keep_special)
        return 0;
    cop_buffer joined = {0};
    size_t n;
    const uint8_t *bytes = meaning_of(decoder, id, &n);
    if (decoder->held_bytes) {
        cop_buffer_put(&joined, decoder->held, decoder->held_bytes);
        cop_buffer_put(&joined, bytes, n);
        bytes = joined.data;
        n = joined.size;
    }
    sink s = {.out = out, .capacity = capacity};
    size_t held = write_whole(&s, bytes, n);
    if (s.count <= capacity) {
        COP_CHECK(held < sizeof decoder->held);
        if (held)
            memcpy(decoder->held, bytes + n - held, held);
        decoder->held_bytes = (uint8_t)held;
        decoder->started |=
            decoder->tokenizer->strip != COP_STRIP_SPACE || vocab->meaning.bytes[id];
    }
    cop_buffer_fini(&joined);
    return s.count;
}

size_t cop_decoder_end(cop_decoder *decoder, char *out, size_t capacity)
{
    if (decoder->held_bytes == 0)
        return 0;
    if (capacity < 3)
        return 3;
    memcpy(out, COP_UTF8_REPLACEMENT, 3);
    decoder->held_bytes = 0;
    return 3;
}
