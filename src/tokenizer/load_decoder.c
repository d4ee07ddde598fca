/* tokenizer.json: the decoder, worked out for each token when the file is read.
 *
 *     ByteLevel                                    "Ġthe" -> " the"
 *     Sequence: Replace ByteFallback Fuse Strip    "▁the" -> " the", "<0x0A>" -> "\n"
 *     Metaspace                                    "▁the" -> " the"; the first token loses its marks
 *
 * What depends on a token's place, the space that the first loses, is left to decode.c. */
#include "tokenizer/byte_level.h"
#include "tokenizer/internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    cop_tokenizer *t;
    const char *name;
    cop_error *err;
    bool byte_level, byte_fallback, fused, stripped;
    cop_normaliser replace; /* steps, in order */
    cop_normaliser first;   /* COP_STRIP_MARKS: the same for the token that begins a text */
} loader;

static cop_status refuse(loader *l, const char *what)
{
    return cop_fail(l->err, COP_ERR_UNSUPPORTED, "%s: decoder: %s", l->name, what);
}

static bool is(const cop_json *json, const char *type)
{
    const char *text = cop_json_string(cop_json_get(json, "type"), NULL);
    return text && strcmp(text, type) == 0;
}

static cop_status add_replace(loader *l, cop_normaliser *to, const char *pattern,
                              const char *content)
{
    if (!pattern || !*pattern || !content)
        return cop_fail(l->err, COP_ERR_UNSUPPORTED,
                        "%s: decoder: only Replace of a String by a string is understood", l->name);
    cop_normalise_step *step = cop_normaliser_add(to, COP_NORMALISE_REPLACE);
    if (!step)
        return refuse(l, "too many steps");
    step->pattern = cop_strdup(pattern);
    step->content = cop_strdup(content);
    step->pattern_bytes = strlen(pattern);
    step->content_bytes = strlen(content);
    return COP_OK;
}

static cop_status strip(loader *l, const cop_json *json)
{
    int64_t start = -1, stop = -1;
    const char *content = cop_json_string(cop_json_get(json, "content"), NULL);
    cop_json_int(cop_json_get(json, "start"), &start);
    cop_json_int(cop_json_get(json, "stop"), &stop);
    if (!l->fused || !content || strcmp(content, " ") != 0 || start < 0 || start > 1 || stop != 0)
        return refuse(l, "only Strip of one space at the start, after Fuse, is understood");
    if (start == 1)
        l->t->strip = COP_STRIP_SPACE;
    l->stripped = true;
    return COP_OK;
}

static cop_status member(loader *l, const cop_json *json)
{
    if (is(json, "Replace") && !l->byte_fallback && !l->fused)
        return add_replace(
            l, &l->replace,
            cop_json_string(cop_json_get(cop_json_get(json, "pattern"), "String"), NULL),
            cop_json_string(cop_json_get(json, "content"), NULL));
    if (is(json, "ByteFallback") && !l->fused) {
        l->byte_fallback = true;
        return COP_OK;
    }
    if (is(json, "Fuse")) {
        l->fused = true;
        return COP_OK;
    }
    if (is(json, "Strip") && !l->stripped)
        return strip(l, json);
    return refuse(l, "a Sequence must be Replace, ByteFallback, Fuse, Strip, in this order");
}

static cop_status metaspace(loader *l, const cop_json *json)
{
    const char *mark = cop_json_string(cop_json_get(json, "replacement"), NULL);
    const char *scheme = cop_json_string(cop_json_get(json, "prepend_scheme"), NULL);
    bool prefix = true;
    cop_json_bool(cop_json_get(json, "add_prefix_space"), &prefix);
    cop_status status = add_replace(l, &l->replace, mark, " ");
    if (status != COP_OK || !prefix || (scheme && strcmp(scheme, "never") == 0))
        return status;
    l->t->strip = COP_STRIP_MARKS;
    return add_replace(l, &l->first, mark, "");
}

static cop_status decoder(loader *l, const cop_json *json)
{
    if (is(json, "ByteLevel")) {
        l->byte_level = true;
        return COP_OK;
    }
    if (is(json, "Metaspace"))
        return metaspace(l, json);
    if (is(json, "Sequence")) {
        const cop_json *members = cop_json_get(json, "decoders");
        size_t count = cop_json_count(members);
        if (count == 1 && !is(cop_json_at(members, 0), "Sequence") &&
            (is(cop_json_at(members, 0), "ByteLevel") || is(cop_json_at(members, 0), "Metaspace")))
            return decoder(l, cop_json_at(members, 0));
        cop_status status = COP_OK;
        for (size_t i = 0; i < count && status == COP_OK; i++)
            status = member(l, cop_json_at(members, i));
        return status;
    }
    return refuse(l, "only ByteLevel, Metaspace and Sequence are understood");
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<0x0A>" */
static bool is_byte(const uint8_t *text, size_t bytes, uint8_t *out)
{
    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return false;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    if (high < 0 || low < 0)
        return false;
    *out = (uint8_t)(high << 4 | low);
    return true;
}

static cop_status too_long(loader *l, uint32_t id, size_t most)
{
    return cop_fail(l->err, COP_ERR_UNSUPPORTED, "%s: decoder: makes more than %zu bytes of %s",
                    l->name, most, cop_show_token(l->t, id).text);
}

/* text: not the vocabulary's own memory. */
static cop_status give_meaning(loader *l, uint32_t id, const char *text, size_t bytes,
                               cop_buffer *scratch)
{
    cop_vocab *vocab = &l->t->vocab;
    const size_t most = cop_normalise_most(bytes);
    size_t n;
    uint8_t byte;
    if (l->t->strip == COP_STRIP_MARKS) {
        const char *first = cop_normalise(&l->first, text, bytes, most, &n);
        if (!first)
            return too_long(l, id, most);
        cop_vocab_mean_first(vocab, id, first, n);
    }
    const uint8_t *meaning = (const uint8_t *)cop_normalise(&l->replace, text, bytes, most, &n);
    if (!meaning)
        return too_long(l, id, most);
    scratch->size = 0;
    if (l->byte_fallback && is_byte(meaning, n, &byte))
        cop_vocab_mean(vocab, id, &byte, 1);
    else if (l->byte_level && cop_byte_level_read(meaning, n, scratch))
        cop_vocab_mean(vocab, id, scratch->data, scratch->size);
    else
        cop_vocab_mean(vocab, id, meaning, n);
    return COP_OK;
}

static cop_status give_meanings(loader *l)
{
    cop_vocab *vocab = &l->t->vocab;
    cop_buffer text = {0}, scratch = {0};
    cop_status status = COP_OK;
    for (uint32_t id = 0; id < vocab->size && status == COP_OK; id++) {
        size_t n;
        bool respelled = vocab->flags[id] & COP_TOKEN_RESPELLED;
        const uint8_t *own = cop_strings_at(respelled ? &vocab->meaning : &vocab->text, id, &n);
        text.size = 0;
        cop_buffer_put(&text, own, n);
        status = give_meaning(l, id, n ? (const char *)text.data : "", n, &scratch);
    }
    cop_buffer_fini(&text);
    cop_buffer_fini(&scratch);
    return status;
}

cop_status cop_load_decoder(cop_tokenizer *t, const cop_json *json, const char *name,
                            cop_error *err)
{
    loader l = {.t = t, .name = name, .err = err};
    cop_status status =
        json ? decoder(&l, json) : refuse(&l, "none; ByteLevel, Metaspace or Sequence is needed");
    if (status == COP_OK)
        status = give_meanings(&l);
    cop_normaliser_fini(&l.replace);
    cop_normaliser_fini(&l.first);
    return status;
}
