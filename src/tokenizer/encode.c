#include "tokenizer/internal.h"
#include "tokenizer/utf8.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_LARGEST = 1 << 30 };

/* Calls `piece` for what lies between added tokens, which are put out as themselves. */
typedef cop_status (*piece_encoder)(cop_tokenizer *t, const char *text, size_t bytes, bool first,
                                    bool added, cop_tokens *out, cop_error *err);

static cop_status cut(cop_tokenizer *t, const cop_added *tokens, piece_encoder piece,
                      const char *text, size_t bytes, bool first, cop_tokens *out, cop_error *err)
{
    size_t at = 0;
    cop_added_hit hit;
    cop_status status = COP_OK;
    while (status == COP_OK && cop_added_find(tokens, text, bytes, at, &hit)) {
        if (hit.begin > at)
            status = piece(t, text + at, hit.begin - at, first && at == 0, true, out, err);
        cop_tokens_put(out, hit.id);
        at = hit.end;
    }
    if (status == COP_OK && at < bytes)
        status = piece(t, text + at, bytes - at, first && at == 0, true, out, err);
    return status;
}

static cop_status encode_words(cop_tokenizer *t, const char *text, size_t bytes, bool first,
                               bool added, cop_tokens *out, cop_error *err)
{
    return bytes ? cop_pretokenize(t, 0, text, bytes, first, out, err) : COP_OK;
}

static cop_status encode_normalised(cop_tokenizer *t, const char *text, size_t bytes, bool first,
                                    bool added, cop_tokens *out, cop_error *err)
{
    text = cop_normalise(&t->normaliser, text, bytes, t->room, &bytes);
    if (!text)
        return cop_fail(err, COP_ERR_UNSUPPORTED, "the normalizer makes too much of the text");
    t->room -= bytes < t->room ? bytes : t->room;
    if (added)
        return cut(t, &t->added_normalised, encode_words, text, bytes, first, out, err);
    return encode_words(t, text, bytes, first, false, out, err);
}

cop_status cop_encode_piece(cop_tokenizer *t, const char *text, size_t bytes, bool first,
                            bool added, cop_tokens *out, cop_error *err)
{
    t->room = cop_normalise_most(bytes);
    if (added)
        return cut(t, &t->added, encode_normalised, text, bytes, first, out, err);
    return bytes ? encode_normalised(t, text, bytes, first, false, out, err) : COP_OK;
}

static void append(cop_tokens *out, const cop_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++)
        cop_tokens_put(out, tokens->ids[i]);
}

cop_status cop_tokenizer_encode(cop_tokenizer *t, const char *text, size_t bytes, unsigned flags,
                                cop_tokens *out, cop_error *err)
{
    if (bytes > TEXT_LARGEST)
        return cop_fail(err, COP_ERR_INVALID, "text of %zu bytes; at most %d are tokenized at once",
                        bytes, TEXT_LARGEST);
    if (cop_utf8_valid((const uint8_t *)text, bytes) < bytes) {
        t->repaired.size = 0;
        cop_utf8_repair((const uint8_t *)text, bytes, &t->repaired);
        text = (const char *)t->repaired.data;
        bytes = t->repaired.size;
        if (bytes > TEXT_LARGEST)
            return cop_fail(err, COP_ERR_INVALID,
                            "text of %zu bytes once repaired; at most %d are tokenized at once",
                            bytes, TEXT_LARGEST);
    }
    size_t count = out->count;
    if (flags & COP_ENCODE_TEMPLATE)
        append(out, &t->before);
    cop_status status = cop_encode_piece(t, text, bytes, true, flags & COP_ENCODE_ADDED, out, err);
    if (status != COP_OK) {
        out->count = count;
        return status;
    }
    if (flags & COP_ENCODE_TEMPLATE)
        append(out, &t->after);
    return COP_OK;
}

void cop_tokenizer_forget(cop_tokenizer *t)
{
    cop_word_cache_clear(&t->cache);
}

uint32_t cop_tokenizer_size(const cop_tokenizer *t)
{
    return t->vocab.size;
}

uint32_t cop_tokenizer_find(const cop_tokenizer *t, const char *text)
{
    return cop_vocab_find(&t->vocab, text, strlen(text));
}

bool cop_tokenizer_special(const cop_tokenizer *t, uint32_t id)
{
    return id < t->vocab.size && t->vocab.flags[id] & COP_TOKEN_SPECIAL;
}

cop_shown cop_show(const char *text, size_t bytes)
{
    cop_shown shown;
    size_t at = 0, length, room = sizeof shown.text - 8; /* for "\u{..}", dots and a quote */
    shown.text[at++] = '\'';
    for (size_t i = 0; i < bytes; i += length) {
        cop_utf8_kind kind = cop_utf8_first((const uint8_t *)text + i, bytes - i, &length);
        bool plain = kind == COP_UTF8_WHOLE && (uint8_t)text[i] >= ' ' && text[i] != 0x7f;
        if (at + COP_UTF8_LONGEST > room) {
            memcpy(shown.text + at, "...", 3);
            at += 3;
            break;
        }
        if (!plain)
            length = 1;
        if (plain)
            memcpy(shown.text + at, text + i, length);
        else
            snprintf(shown.text + at, 5, "\\x%02x", (uint8_t)text[i]);
        at += plain ? length : 4;
    }
    shown.text[at++] = '\'';
    shown.text[at] = '\0';
    return shown;
}

cop_shown cop_show_token(const cop_tokenizer *t, uint32_t id)
{
    size_t bytes;
    const uint8_t *text = cop_strings_at(&t->vocab.text, id, &bytes);
    return cop_show((const char *)text, bytes);
}
