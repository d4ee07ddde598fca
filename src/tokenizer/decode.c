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

/* What the token means here: the first of a text may lose a space. */
static void gather(const cop_decoder *d, uint32_t id, cop_buffer *bytes)
{
    const cop_tokenizer *t = d->tokenizer;
    size_t n;
    const uint8_t *meaning = cop_strings_at(&t->vocab.meaning, id, &n);
    if (!d->started && t->strip == COP_STRIP_MARKS) {
        const uint8_t *text = cop_strings_at(&t->vocab.text, id, &n);
        cop_replace((const char *)text, n, &t->first_mark, bytes);
        return;
    }
    bool strip = !d->started && t->strip == COP_STRIP_SPACE && n > 0 && meaning[0] == ' ';
    cop_buffer_put(bytes, meaning + strip, n - strip);
}

size_t cop_decoder_push(cop_decoder *decoder, uint32_t id, char *out, size_t capacity)
{
    const cop_vocab *vocab = &decoder->tokenizer->vocab;
    if (id >= vocab->size || !vocab->flags[id])
        return 0;
    if (vocab->flags[id] & COP_TOKEN_SPECIAL && !decoder->keep_special)
        return 0;
    cop_buffer bytes = {0};
    cop_buffer_put(&bytes, decoder->held, decoder->held_bytes);
    gather(decoder, id, &bytes);
    sink s = {.out = out, .capacity = capacity};
    size_t held = write_whole(&s, bytes.data, bytes.size);
    if (s.count <= capacity) {
        COP_CHECK(held < sizeof decoder->held);
        if (held)
            memcpy(decoder->held, bytes.data + bytes.size - held, held);
        decoder->held_bytes = (uint8_t)held;
        decoder->started |=
            decoder->tokenizer->strip != COP_STRIP_SPACE || vocab->meaning.bytes[id];
    }
    cop_buffer_fini(&bytes);
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
