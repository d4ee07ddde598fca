/* tokenizer.json: normaliser, pre-tokenizer, post-processor. */
#include "tokenizer/byte_level.h"
#include "tokenizer/internal.h"
#include "tokenizer/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 4 }; /* sequences in sequences */

typedef struct {
    cop_tokenizer *t;
    const char *name, *part; /* "pre_tokenizer", for messages */
    cop_error *err;
} loader;

static cop_status refuse(loader *l, const char *what)
{
    return cop_fail(l->err, COP_ERR_UNSUPPORTED, "%s: %s: %s", l->name, l->part, what);
}

static cop_status invalid(loader *l, const char *what)
{
    return cop_fail(l->err, COP_ERR_INVALID, "%s: %s: %s", l->name, l->part, what);
}

static cop_status unknown_type(loader *l, const cop_json *json, const char *known)
{
    const char *type = cop_json_string(cop_json_get(json, "type"), NULL);
    if (!type)
        return invalid(l, "must be an object with a 'type'");
    return cop_fail(l->err, COP_ERR_UNSUPPORTED, "%s: %s: %s is not understood; %s are", l->name,
                    l->part, cop_show(type, strlen(type)).text, known);
}

static bool is(const cop_json *json, const char *type)
{
    const char *text = cop_json_string(cop_json_get(json, "type"), NULL);
    return text && strcmp(text, type) == 0;
}

static cop_status flag(loader *l, const cop_json *json, const char *key, bool *out)
{
    const cop_json *value = cop_json_get(json, key);
    if (value && !cop_json_bool(value, out))
        return cop_fail(l->err, COP_ERR_INVALID, "%s: %s: '%s' must be true or false", l->name,
                        l->part, key);
    return COP_OK;
}

/* An owned copy of a string member. */
static cop_status string(loader *l, const cop_json *json, const char *key, char **out,
                         size_t *out_bytes)
{
    size_t bytes;
    const char *text = cop_json_string(cop_json_get(json, key), &bytes);
    if (!text)
        return cop_fail(l->err, COP_ERR_INVALID, "%s: %s: '%s' must be a string", l->name, l->part,
                        key);
    *out = cop_strndup(text, bytes);
    *out_bytes = bytes;
    return COP_OK;
}

typedef cop_status (*load_one)(loader *l, const cop_json *json, int depth);

static cop_status sequence(loader *l, const cop_json *json, const char *key, load_one one,
                           int depth)
{
    const cop_json *members = cop_json_get(json, key);
    if (cop_json_kind_of(members) != COP_JSON_ARRAY)
        return cop_fail(l->err, COP_ERR_INVALID, "%s: %s: '%s' must be an array", l->name, l->part,
                        key);
    if (depth == DEEPEST)
        return refuse(l, "sequences too deep in each other");
    cop_status status = COP_OK;
    for (size_t i = 0; i < cop_json_count(members) && status == COP_OK; i++)
        status = one(l, cop_json_at(members, i), depth + 1);
    return status;
}

/* ---- Normaliser ---- */

static cop_status new_step(loader *l, cop_normalise_kind kind, cop_normalise_step **out)
{
    *out = cop_normaliser_add(&l->t->normaliser, kind);
    return *out ? COP_OK : refuse(l, "too many steps");
}

/* {"pattern": {"String": "a"}, "content": "b"} */
static cop_status replacement(loader *l, const cop_json *json, cop_normalise_step *step)
{
    const cop_json *pattern = cop_json_get(json, "pattern");
    if (cop_json_get(pattern, "Regex"))
        return refuse(l, "Replace by a regex is not understood");
    cop_status status = string(l, pattern, "String", &step->pattern, &step->pattern_bytes);
    if (status == COP_OK && step->pattern_bytes == 0)
        status = invalid(l, "Replace of nothing");
    return status == COP_OK ? string(l, json, "content", &step->content, &step->content_bytes)
                            : status;
}

static cop_status normaliser(loader *l, const cop_json *json, int depth)
{
    cop_normaliser *n = &l->t->normaliser;
    cop_normalise_step *step;
    cop_status status;
    if (is(json, "Sequence"))
        return sequence(l, json, "normalizers", normaliser, depth);
    if (is(json, "NFC")) {
        status = new_step(l, COP_NORMALISE_NFC, &step);
        if (!n->nfc) {
            n->nfc = cop_malloc(sizeof *n->nfc);
            cop_nfc_init(n->nfc);
        }
        return status;
    }
    if (is(json, "Prepend")) {
        status = new_step(l, COP_NORMALISE_PREPEND, &step);
        return status == COP_OK ? string(l, json, "prepend", &step->content, &step->content_bytes)
                                : status;
    }
    if (is(json, "Replace")) {
        status = new_step(l, COP_NORMALISE_REPLACE, &step);
        return status == COP_OK ? replacement(l, json, step) : status;
    }
    return unknown_type(l, json, "NFC, Prepend, Replace and Sequence");
}

cop_status cop_load_normaliser(cop_tokenizer *t, const cop_json *json, const char *name,
                               cop_error *err)
{
    loader l = {.t = t, .name = name, .part = "normalizer", .err = err};
    return json ? normaliser(&l, json, 0) : COP_OK;
}

/* ---- Pre-tokenizer ---- */

static const char gpt2_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static cop_status new_stage(loader *l, cop_stage_kind kind, cop_stage **out)
{
    cop_tokenizer *t = l->t;
    if (t->byte_level)
        return refuse(l, "nothing can follow ByteLevel");
    if (t->stage_count == COP_STAGES)
        return refuse(l, "too many stages");
    *out = &t->stages[t->stage_count++];
    **out = (cop_stage){.kind = kind};
    return COP_OK;
}

static cop_status regex(loader *l, cop_stage *stage, const char *pattern, size_t bytes,
                        bool literal)
{
    char where[512];
    snprintf(where, sizeof where, "%.400s: %s", l->name, l->part);
    return cop_regex_open(&stage->regex, pattern, bytes, literal, where, l->err);
}

static cop_status byte_level(loader *l, const cop_json *json)
{
    bool prefix = true, use_regex = true; /* what old files mean by leaving them out */
    cop_stage *stage = NULL;
    cop_status status = flag(l, json, "add_prefix_space", &prefix);
    if (status == COP_OK)
        status = flag(l, json, "use_regex", &use_regex);
    if (status == COP_OK && prefix)
        status = new_stage(l, COP_STAGE_PREFIX_SPACE, &stage);
    if (status == COP_OK && use_regex) {
        status = new_stage(l, COP_STAGE_SPLIT, &stage);
        if (status == COP_OK)
            status = regex(l, stage, gpt2_regex, sizeof gpt2_regex - 1, false);
    }
    if (status == COP_OK && l->t->byte_level)
        return refuse(l, "ByteLevel twice");
    l->t->byte_level = true;
    return status;
}

static cop_status split(loader *l, const cop_json *json)
{
    const cop_json *pattern = cop_json_get(json, "pattern");
    size_t bytes;
    bool invert = false;
    const char *expression = cop_json_string(cop_json_get(pattern, "Regex"), &bytes);
    bool literal = !expression;
    if (literal)
        expression = cop_json_string(cop_json_get(pattern, "String"), &bytes);
    const char *behavior = cop_json_string(cop_json_get(json, "behavior"), NULL);
    if (!expression || !behavior)
        return invalid(l, "Split needs a 'pattern' (Regex or String) and a 'behavior'");
    bool removed = strcmp(behavior, "Removed") == 0;
    if (!removed && strcmp(behavior, "Isolated") != 0)
        return cop_fail(l->err, COP_ERR_UNSUPPORTED,
                        "%s: %s: Split: behavior %s is not understood; Isolated and Removed are",
                        l->name, l->part, cop_show(behavior, strlen(behavior)).text);
    cop_stage *stage = NULL;
    cop_status status = flag(l, json, "invert", &invert);
    if (status == COP_OK)
        status = new_stage(l, COP_STAGE_SPLIT, &stage);
    if (status != COP_OK)
        return status;
    stage->drop_hits = removed && !invert;
    stage->drop_gaps = removed && invert;
    return regex(l, stage, expression, bytes, literal);
}

/* Old files say add_prefix_space where new ones say prepend_scheme. */
static cop_status prepend_scheme(loader *l, const cop_json *json, cop_prepend *out)
{
    bool prefix = true;
    cop_status status = flag(l, json, "add_prefix_space", &prefix);
    if (status != COP_OK)
        return status;
    const char *scheme = cop_json_string(cop_json_get(json, "prepend_scheme"), NULL);
    if (!scheme)
        *out = prefix ? COP_PREPEND_ALWAYS : COP_PREPEND_NEVER;
    else if (strcmp(scheme, "always") == 0)
        *out = COP_PREPEND_ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        *out = COP_PREPEND_FIRST;
    else if (strcmp(scheme, "never") == 0)
        *out = COP_PREPEND_NEVER;
    else
        return invalid(l, "Metaspace: prepend_scheme must be always, first or never");
    if (!prefix && *out != COP_PREPEND_NEVER)
        return invalid(l, "Metaspace: add_prefix_space contradicts prepend_scheme");
    return COP_OK;
}

static size_t characters(const char *text, size_t bytes)
{
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        count += ((uint8_t)text[i] & 0xc0) != 0x80;
    return count;
}

/* Hugging Face takes a piece for the first if its first character is the first of the text as it
 * was, which is lost where a Replace leaves fewer characters at the start. */
static bool start_may_move(const cop_normaliser *n)
{
    for (size_t i = 0; i < n->count; i++) {
        const cop_normalise_step *s = &n->steps[i];
        if (s->kind == COP_NORMALISE_REPLACE &&
            characters(s->content, s->content_bytes) < characters(s->pattern, s->pattern_bytes))
            return true;
    }
    return false;
}

static cop_status metaspace(loader *l, const cop_json *json)
{
    cop_stage *stage = NULL;
    cop_status status = new_stage(l, COP_STAGE_METASPACE, &stage);
    if (status != COP_OK)
        return status;
    stage->cut = true;
    stage->mark.pattern = cop_strdup(" ");
    stage->mark.pattern_bytes = 1;
    status = string(l, json, "replacement", &stage->mark.content, &stage->mark.content_bytes);
    size_t length = 0;
    if (status == COP_OK && stage->mark.content_bytes)
        cop_utf8_decode((const uint8_t *)stage->mark.content, &length);
    if (status == COP_OK && (length == 0 || length != stage->mark.content_bytes))
        return invalid(l, "Metaspace: 'replacement' must be one character");
    if (status == COP_OK)
        status = prepend_scheme(l, json, &stage->prepend);
    if (status == COP_OK && stage->prepend == COP_PREPEND_FIRST &&
        start_may_move(&l->t->normaliser))
        return refuse(l, "Metaspace: prepend_scheme first after a Replace by less is not "
                         "understood");
    return status == COP_OK ? flag(l, json, "split", &stage->cut) : status;
}

static cop_status pre_tokenizer(loader *l, const cop_json *json, int depth)
{
    if (is(json, "Sequence"))
        return sequence(l, json, "pretokenizers", pre_tokenizer, depth);
    if (is(json, "ByteLevel"))
        return byte_level(l, json);
    if (is(json, "Split"))
        return split(l, json);
    if (is(json, "Metaspace"))
        return metaspace(l, json);
    return unknown_type(l, json, "ByteLevel, Split, Metaspace and Sequence");
}

cop_status cop_load_pre_tokenizer(cop_tokenizer *t, const cop_json *json, const char *name,
                                  cop_error *err)
{
    loader l = {.t = t, .name = name, .part = "pre_tokenizer", .err = err};
    cop_status status = json ? pre_tokenizer(&l, json, 0) : COP_OK;
    for (int i = 0; i < 256 && status == COP_OK; i++) {
        uint8_t character[COP_UTF8_LONGEST];
        size_t length = cop_utf8_encode(cop_byte_level_char((uint8_t)i), character);
        t->byte_unit[i] = cop_vocab_find_model(&t->vocab, character, length);
    }
    return status;
}

/* ---- Post-processor ---- */

/* {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}} */
static cop_status special_ids(loader *l, const cop_json *table, const char *token, cop_tokens *out)
{
    const cop_json *ids = cop_json_get(cop_json_get(table, token), "ids");
    if (cop_json_count(ids) == 0 || cop_json_kind_of(ids) != COP_JSON_ARRAY)
        return cop_fail(l->err, COP_ERR_INVALID, "%s: %s: special_tokens has no ids for %s",
                        l->name, l->part, cop_show(token, strlen(token)).text);
    for (size_t i = 0; i < cop_json_count(ids); i++) {
        int64_t id;
        const cop_vocab *vocab = &l->t->vocab;
        if (!cop_json_int(cop_json_at(ids, i), &id) || id < 0 || id >= vocab->size ||
            !vocab->flags[id])
            return cop_fail(l->err, COP_ERR_INVALID, "%s: %s: the ids of %s are no tokens", l->name,
                            l->part, cop_show(token, strlen(token)).text);
        cop_tokens_put(out, (uint32_t)id);
    }
    return COP_OK;
}

/* "single": special tokens and, once, the text. What a pair of texts would get is never asked. */
static cop_status template(loader *l, const cop_json *json)
{
    const cop_json *single = cop_json_get(json, "single");
    bool text_seen = false;
    cop_status status = COP_OK;
    for (size_t i = 0; i < cop_json_count(single) && status == COP_OK; i++) {
        const cop_json *item = cop_json_at(single, i);
        const cop_json *special = cop_json_get(item, "SpecialToken");
        const char *token = cop_json_string(cop_json_get(special, "id"), NULL);
        const char *text =
            cop_json_string(cop_json_get(cop_json_get(item, "Sequence"), "id"), NULL);
        if (token)
            status = special_ids(l, cop_json_get(json, "special_tokens"), token,
                                 text_seen ? &l->t->after : &l->t->before);
        else if (!text || strcmp(text, "A") != 0 || text_seen)
            return refuse(l, "TemplateProcessing: 'single' must be special tokens and, once, A");
        else
            text_seen = true;
    }
    if (status == COP_OK && !text_seen)
        return refuse(l, "TemplateProcessing: 'single' must be special tokens and, once, A");
    return status;
}

static cop_status post_processor(loader *l, const cop_json *json, int depth)
{
    if (is(json, "Sequence"))
        return sequence(l, json, "processors", post_processor, depth);
    if (is(json, "ByteLevel")) /* trims offsets; tokens stay as they are */
        return COP_OK;
    if (is(json, "TemplateProcessing")) {
        if (l->t->before.count + l->t->after.count > 0)
            return refuse(l, "TemplateProcessing twice");
        return template(l, json);
    }
    return unknown_type(l, json, "TemplateProcessing, ByteLevel and Sequence");
}

cop_status cop_load_post_processor(cop_tokenizer *t, const cop_json *json, const char *name,
                                   cop_error *err)
{
    loader l = {.t = t, .name = name, .part = "post_processor", .err = err};
    return json ? post_processor(&l, json, 0) : COP_OK;
}
