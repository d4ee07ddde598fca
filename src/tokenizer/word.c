/* One word to tokens: from the cache, or spelled in symbols and merged. */
#include "tokenizer/bpe.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/internal.h"
#include "tokenizer/utf8.h"

#include "base/hash.h"

#include <string.h>

/* Unknown characters wait here, as fused ones become a single token. */
typedef struct {
    cop_tokenizer *t;
    bool waiting;
    cop_error *err;
} speller;

static void flush_unknown(speller *s)
{
    if (s->waiting)
        cop_tokens_put(&s->t->symbols, s->t->unknown);
    s->waiting = false;
}

static void put_known(speller *s, uint32_t id)
{
    flush_unknown(s);
    cop_tokens_put(&s->t->symbols, id);
}

/* A symbol without a token: its bytes', if all have one, else the unknown token. Bytes do not end a
 * wait (`tokenizers` has it so): the unknown token comes after them. */
static cop_status put_unknown(speller *s, const uint8_t *symbol, size_t bytes)
{
    cop_tokenizer *t = s->t;
    bool all = t->byte_fallback;
    for (size_t i = 0; i < bytes; i++)
        all = all && t->byte_token[symbol[i]] != COP_NO_TOKEN;
    if (all) {
        for (size_t i = 0; i < bytes; i++)
            cop_tokens_put(&t->symbols, t->byte_token[symbol[i]]);
        return COP_OK;
    }
    if (t->unknown == COP_NO_TOKEN)
        return cop_fail(s->err, COP_ERR_INVALID,
                        "the vocabulary has no token for %s, nor one for unknown text",
                        cop_show((const char *)symbol, bytes).text);
    if (!t->fuse_unknown)
        flush_unknown(s);
    s->waiting = true;
    return COP_OK;
}

static cop_status spell_bytes(speller *s, const uint8_t *word, size_t bytes)
{
    cop_status status = COP_OK;
    for (size_t i = 0; i < bytes && status == COP_OK; i++) {
        uint8_t character[COP_UTF8_LONGEST];
        uint32_t id = s->t->byte_unit[word[i]];
        if (id != COP_NO_TOKEN)
            put_known(s, id);
        else
            status =
                put_unknown(s, character, cop_utf8_encode(cop_byte_level_char(word[i]), character));
    }
    return status;
}

static cop_status spell_characters(speller *s, const uint8_t *word, size_t bytes)
{
    cop_status status = COP_OK;
    size_t length;
    for (size_t at = 0; at < bytes && status == COP_OK; at += length) {
        cop_utf8_decode(word + at, &length);
        uint32_t id = cop_vocab_find_model(&s->t->vocab, word + at, length);
        if (id != COP_NO_TOKEN)
            put_known(s, id);
        else
            status = put_unknown(s, word + at, length);
    }
    return status;
}

static uint32_t find_whole(cop_tokenizer *t, const char *word, size_t bytes)
{
    if (!t->byte_level)
        return cop_vocab_find_model(&t->vocab, word, bytes);
    t->spelled.size = 0;
    cop_byte_level_write((const uint8_t *)word, bytes, &t->spelled);
    return cop_vocab_find_model(&t->vocab, t->spelled.data, t->spelled.size);
}

/* To t->symbols. */
static cop_status make_word(cop_tokenizer *t, const char *word, size_t bytes, cop_error *err)
{
    t->symbols.count = 0;
    if (t->ignore_merges) {
        uint32_t whole = find_whole(t, word, bytes);
        if (whole != COP_NO_TOKEN) {
            cop_tokens_put(&t->symbols, whole);
            return COP_OK;
        }
    }
    speller s = {.t = t, .err = err};
    cop_status status = t->byte_level ? spell_bytes(&s, (const uint8_t *)word, bytes)
                                      : spell_characters(&s, (const uint8_t *)word, bytes);
    if (status != COP_OK)
        return status;
    flush_unknown(&s);
    t->symbols.count = cop_bpe_merge(&t->merges, t->symbols.ids, t->symbols.count);
    return COP_OK;
}

static void append(cop_tokens *out, const uint32_t *ids, size_t count)
{
    COP_GROW(out->ids, out->capacity, out->count + count);
    for (size_t i = 0; i < count; i++)
        out->ids[out->count + i] = ids[i];
    out->count += count;
}

cop_status cop_encode_word(cop_tokenizer *t, const char *word, size_t bytes, cop_tokens *out,
                           cop_error *err)
{
    bool cached = bytes <= COP_CACHE_WORD_BYTES;
    uint64_t hash = 0;
    if (cached) {
        size_t count;
        hash = cop_hash(word, bytes, 0);
        const uint32_t *ids = cop_word_cache_find(&t->cache, hash, word, bytes, &count);
        if (ids) {
            append(out, ids, count);
            return COP_OK;
        }
    }
    cop_status status = make_word(t, word, bytes, err);
    if (status != COP_OK)
        return status;
    append(out, t->symbols.ids, t->symbols.count);
    if (cached)
        cop_word_cache_put(&t->cache, hash, word, bytes, t->symbols.ids, t->symbols.count);
    return COP_OK;
}
